/* After the XXH3 part of the xxHash specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md). The `xxhash` package computes the
 * same and is what tests compare with; here it needs no Python object and no interpreter lock. */
#include "digest.h"
#include "format.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(MS_PORTABLE)
#define WITH_AVX2 1
#include <immintrin.h>
#else
#define WITH_AVX2 0
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define LANES 8
#define STRIPE 64
#define SECRET 192
#define STRIPES ((SECRET - STRIPE) / 8)    /* in a block */
#define BLOCK (STRIPES * STRIPE)

static const uint64_t PRIME32_1 = 0x9E3779B1, PRIME32_2 = 0x85EBCA77, PRIME32_3 = 0xC2B2AE3D;
static const uint64_t PRIME64_1 = 0x9E3779B185EBCA87, PRIME64_2 = 0xC2B2AE3D27D4EB4F, PRIME64_3 = 0x165667B19E3779F9,
                      PRIME64_4 = 0x85EBCA77C2B2AE63, PRIME64_5 = 0x27D4EB2F165667C5;

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static void accumulate(uint64_t *sums, const uint8_t *data, const uint8_t *key)
{
    for (size_t i = 0; i < LANES; i++) {
        uint64_t value = ms_load64(data + 8 * i);
        uint64_t keyed = value ^ ms_load64(key + 8 * i);
        sums[i ^ 1] += value;
        sums[i] += (keyed & 0xFFFFFFFF) * (keyed >> 32);
    }
}

static void scramble(uint64_t *sums)
{
    for (size_t i = 0; i < LANES; i++) {
        uint64_t sum = sums[i] ^ sums[i] >> 47;
        sums[i] = (sum ^ ms_load64(secret + SECRET - STRIPE + 8 * i)) * PRIME32_1;
    }
}

/* All but the last stripe. */
static void digest_blocks(uint64_t *sums, const uint8_t *data, size_t stripes)
{
    for (size_t i = 0; i < stripes; i++) {
        accumulate(sums, data + i * STRIPE, secret + i % STRIPES * 8);
        if (i % STRIPES == STRIPES - 1)
            scramble(sums);
    }
}

#if WITH_AVX2
__attribute__((target("avx2"))) static void digest_blocks_avx2(uint64_t *sums, const uint8_t *data, size_t stripes)
{
    const __m256i prime = _mm256_set1_epi64x((int64_t)PRIME32_1);
    __m256i sum[2];
    memcpy(sum, sums, sizeof sum);
    for (size_t i = 0; i < stripes; i++) {
        const uint8_t *at = data + i * STRIPE, *key = secret + i % STRIPES * 8;
        _mm_prefetch((const char *)at + 512, _MM_HINT_T0);
        for (int half = 0; half < 2; half++) {
            __m256i value = _mm256_loadu_si256((const __m256i *)(at + 32 * half));
            __m256i keyed = _mm256_xor_si256(value, _mm256_loadu_si256((const __m256i *)(key + 32 * half)));
            __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
            __m256i swapped = _mm256_shuffle_epi32(value, _MM_SHUFFLE(1, 0, 3, 2));
            sum[half] = _mm256_add_epi64(sum[half], _mm256_add_epi64(product, swapped));
        }
        if (i % STRIPES < STRIPES - 1)
            continue;
        for (int half = 0; half < 2; half++) {
            __m256i last = _mm256_loadu_si256((const __m256i *)(secret + SECRET - STRIPE + 32 * half));
            __m256i mixed = _mm256_xor_si256(_mm256_xor_si256(sum[half], _mm256_srli_epi64(sum[half], 47)), last);
            __m256i high = _mm256_slli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime), 32);
            sum[half] = _mm256_add_epi64(_mm256_mul_epu32(mixed, prime), high);
        }
    }
    memcpy(sums, sum, sizeof sum);
}
#endif

/* The two halves of a 128-bit product, one over the other. */
ALWAYS_INLINE uint64_t fold(uint64_t a, uint64_t b)
{
    uint64_t low = (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF), left = (a >> 32) * (b & 0xFFFFFFFF);
    uint64_t right = (a & 0xFFFFFFFF) * (b >> 32), high = (a >> 32) * (b >> 32);
    uint64_t middle = (low >> 32) + (left & 0xFFFFFFFF) + right;
    return (middle << 32 | (low & 0xFFFFFFFF)) ^ (high + (left >> 32) + (middle >> 32));
}

uint64_t ms_digest(const uint8_t *data, size_t bytes)
{
    uint64_t sums[LANES] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    size_t stripes = (bytes - 1) / STRIPE;
#if WITH_AVX2
    if (__builtin_cpu_supports("avx2"))
        digest_blocks_avx2(sums, data, stripes);
    else
#endif
        digest_blocks(sums, data, stripes);
    accumulate(sums, data + bytes - STRIPE, secret + SECRET - STRIPE - 7);
    uint64_t digest = bytes * PRIME64_1;
    for (size_t i = 0; i < LANES; i += 2)
        digest += fold(sums[i] ^ ms_load64(secret + 11 + 8 * i), sums[i + 1] ^ ms_load64(secret + 19 + 8 * i));
    digest = (digest ^ digest >> 37) * 0x165667919E3779F9;
    return digest ^ digest >> 32;
}
