/* XXH3-64 against values of the reference implementation (xxhash 0.8), and the portable code against the vectorised one. */
#include "check.h"

#include "digest.h"

#define MS_PORTABLE
#define ms_digest portable
#include "../digest.c"
#undef ms_digest

static const struct {
    size_t bytes;
    uint64_t digest;
} KNOWN[] = {
    {241, 0xd6afac6f8fa85b01},
    {256, 0x9e6593bab96413da},
    {257, 0xc7f456fff4eaca08},
    {1023, 0x120a0457e3e899f6},
    {1024, 0xbb9f0c3761cdfd54},
    {1025, 0x95edccc1adc4d895},
    {1088, 0xe8391a3978cbcf06},
    {2048, 0x278f7a6a39416b51},
    {2049, 0x644272755e8980a0},
    {4096, 0x436f521f6688c5ed},
    {24576, 0x78affa5e16b01bc0},
    {65537, 0x49235290459c83cc},
};

/* Of bytes from a linear congruential generator, the same as in the reference run. */
static void fill(uint8_t *at, size_t bytes)
{
    uint32_t x = 1;
    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        at[i] = (uint8_t)(x >> 24);
    }
}

static void known_values(void)
{
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        uint8_t *data = exactly(KNOWN[i].bytes);
        fill(data, KNOWN[i].bytes);
        CHECK_EQUAL(ms_digest(data, KNOWN[i].bytes), KNOWN[i].digest);
        CHECK_EQUAL(portable(data, KNOWN[i].bytes), KNOWN[i].digest);
        free(data);
    }
}

static void both_agree(void)
{
    for (size_t bytes = MS_DIGEST_MIN; bytes < 3000; bytes++) {
        uint8_t *data = exactly(bytes);
        random_fill(data, bytes);
        CHECK_EQUAL(ms_digest(data, bytes), portable(data, bytes));
        free(data);
    }
}

int main(void)
{
    known_values();
    both_agree();
    return finish();
}
