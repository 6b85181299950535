/* Index entries: what is resolved, and that nothing a hostile entry says leads outside the file. */
#include "check.h"

#include "slot.h"

static const ms_shape_rule FIXED = {.page_bytes = 4096, .file_bytes = 100 * 4096, .row_elements = 6, .ragged = 0};
static const ms_shape_rule RAGGED = {.page_bytes = 4096, .file_bytes = 100 * 4096, .row_elements = 3, .ragged = 1};

/* A (2, 3) float32 at page 7, offset 4080. */
static void make_entry(uint8_t *entry)
{
    memset(entry, 0, MS_ENTRY_BYTES);
    entry[0] = MS_TENSOR;
    entry[1] = MS_FLOAT32;
    entry[2] = 2;
    entry[3] = 3;
    ms_store64(entry + 32, 7);
    ms_store32(entry + 40, 4080);
    ms_store32(entry + 44, 24);
    ms_store32(entry + 48, 2);
    ms_store32(entry + 52, 3);
}

static void set_shape(uint8_t *entry, uint8_t ndim, const uint32_t *shape, uint32_t bytes)
{
    entry[2] = ndim;
    for (size_t i = 0; i < MS_MAX_DIMS; i++)
        ms_store32(entry + 48 + 4 * i, i < ndim ? shape[i] : 0);
    ms_store32(entry + 44, bytes);
}

static int resolve(const uint8_t *entry, const ms_shape_rule *rule, ms_slot *slot)
{
    uint8_t *copy = exactly(MS_ENTRY_BYTES);
    memcpy(copy, entry, MS_ENTRY_BYTES);
    int result = ms_resolve(copy, MS_ENTRY_BYTES, rule, slot);
    free(copy);
    return result;
}

static void a_tensor(void)
{
    uint8_t entry[MS_ENTRY_BYTES];
    ms_slot slot;
    make_entry(entry);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), 0);
    CHECK_EQUAL(slot.offset, 7 * 4096 + 16 + 4080);
    CHECK_EQUAL(slot.bytes, 24);
    CHECK_EQUAL(slot.length, 1);
    CHECK_EQUAL(slot.dtype, MS_FLOAT32);
    CHECK_EQUAL(slot.status, MS_TENSOR);
    CHECK_EQUAL(slot.flags, 3);
    CHECK_EQUAL(resolve(entry, &RAGGED, &slot), 0);
    CHECK_EQUAL(slot.length, 2);
}

static void shapes(void)
{
    uint8_t entry[MS_ENTRY_BYTES];
    ms_slot slot;
    ms_shape_rule rule = FIXED;
    make_entry(entry);
    set_shape(entry, 0, NULL, 4); /* 0-d */
    rule.row_elements = 1;
    CHECK_EQUAL(resolve(entry, &rule, &slot), 0);
    CHECK_EQUAL(slot.length, 1);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);

    static const uint32_t six[] = {1, 2, 1, 3, 1, 1};
    set_shape(entry, 6, six, 24);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), 0);
    CHECK_EQUAL(resolve(entry, &RAGGED, &slot), 0);

    static const uint32_t vector[] = {3}; /* (D,) in a ragged view: one row */
    set_shape(entry, 1, vector, 12);
    CHECK_EQUAL(resolve(entry, &RAGGED, &slot), 0);
    CHECK_EQUAL(slot.length, 1);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);

    static const uint32_t odd[] = {4}; /* no whole number of rows */
    set_shape(entry, 1, odd, 16);
    CHECK_EQUAL(resolve(entry, &RAGGED, &slot), -1);
    static const uint32_t twice[] = {12}; /* two entries' worth in a view of fixed shape */
    set_shape(entry, 1, twice, 48);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);
    rule.row_elements = 0;
    CHECK_EQUAL(resolve(entry, &rule, &slot), -1);
}

static void a_failure(void)
{
    uint8_t entry[MS_ENTRY_BYTES] = {MS_FAILURE};
    ms_slot slot;
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), 0);
    CHECK_EQUAL(slot.status, MS_FAILURE);
    CHECK_EQUAL(slot.bytes, 0);
    memset(entry + 4, 0xff, 12); /* run and time */
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), 0);
    for (size_t i = 0; i < MS_ENTRY_BYTES; i++)
        if (i < 4 || i >= 16) {
            entry[i] ^= 0x80; /* anything else that stands in it is no failure's */
            CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);
            CHECK_EQUAL(slot.status, MS_UNRESOLVED);
            entry[i] ^= 0x80;
        }
}

static void refused_fields(void)
{
    uint8_t entry[MS_ENTRY_BYTES];
    ms_slot slot;
    make_entry(entry);
    for (size_t bytes = 0; bytes < MS_ENTRY_BYTES; bytes++) {
        uint8_t *cut = exactly(bytes);
        memcpy(cut, entry, bytes);
        CHECK_EQUAL(ms_resolve(cut, bytes, &FIXED, &slot), -1);
        CHECK_EQUAL(slot.status, MS_UNRESOLVED);
        free(cut);
    }
    for (unsigned status = 0; status < 256; status++) {
        make_entry(entry);
        entry[0] = (uint8_t)status;
        CHECK_EQUAL(resolve(entry, &FIXED, &slot), status == MS_TENSOR ? 0 : -1);
    }
    for (unsigned dtype = 0; dtype < 256; dtype++) {
        make_entry(entry);
        entry[1] = (uint8_t)dtype;
        int same_size = ms_itemsize(dtype) == 4;
        CHECK_EQUAL(resolve(entry, &FIXED, &slot), same_size ? 0 : -1);
    }
    for (unsigned ndim = 0; ndim < 256; ndim++) {
        make_entry(entry);
        entry[2] = (uint8_t)ndim;
        CHECK_EQUAL(resolve(entry, &FIXED, &slot), ndim == 2 ? 0 : -1);
    }
    for (uint32_t bytes = 0; bytes < 64; bytes++) {
        make_entry(entry);
        ms_store32(entry + 44, bytes);
        CHECK_EQUAL(resolve(entry, &FIXED, &slot), bytes == 24 ? 0 : -1);
    }
    make_entry(entry);
    ms_store32(entry + 52, 0); /* a size of 0, which would make 0 bytes right */
    ms_store32(entry + 44, 0);
    CHECK_EQUAL(resolve(entry, &RAGGED, &slot), -1);
}

/* Products that would wrap around in 32 or 64 bits. */
static void overflowing_shapes(void)
{
    static const uint32_t shapes[][MS_MAX_DIMS] = {
        {65536, 65536},
        {65536, 65536, 1, 1, 1, 6},
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
        {1u << 31, 2, 1u << 31, 2, 6, 1},
        {UINT32_MAX, 2},
        {6, 1u << 16, 1u << 16, 1u << 16, 1u << 16, 1u << 16},
        {1u << 30, 4, 3},
        {2112351278, 998034439, 35, 1, 1, 1}, /* 2^66 + 6: six elements, if it is let wrap around */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (uint8_t ndim = 2; ndim <= 6; ndim++)
            for (uint32_t bytes = 0; bytes <= 24; bytes += 8) {
                uint8_t entry[MS_ENTRY_BYTES];
                ms_slot slot;
                make_entry(entry);
                set_shape(entry, ndim, shapes[i], bytes);
                CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);
                CHECK_EQUAL(resolve(entry, &RAGGED, &slot), -1);
            }
}

static void places_outside_the_file(void)
{
    uint8_t entry[MS_ENTRY_BYTES];
    ms_slot slot;
    make_entry(entry);
    /* the last byte of the file, and one more */
    ms_store64(entry + 32, 99);
    ms_store32(entry + 40, 4096 - 16 - 24);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), 0);
    CHECK_EQUAL(slot.offset + slot.bytes, FIXED.file_bytes);
    ms_store32(entry + 40, 4096 - 16 - 23);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);

    static const uint64_t pages[] = {100, 101, 1ull << 32, 1ull << 52, UINT64_MAX / 4096, UINT64_MAX / 4096 + 1, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        make_entry(entry);
        ms_store64(entry + 32, pages[i]);
        CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);
    }
    make_entry(entry);
    ms_store32(entry + 40, UINT32_MAX);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), -1);
    ms_shape_rule empty = FIXED;
    empty.file_bytes = 0;
    make_entry(entry);
    ms_store64(entry + 32, 0);
    CHECK_EQUAL(resolve(entry, &empty, &slot), -1);
}

/* Whatever the bytes, what is resolved lies in the file and adds up. */
static void damaged_entries(void)
{
    size_t resolved = 0;
    for (size_t round = 0; round < 300000; round++) {
        uint8_t entry[MS_ENTRY_BYTES];
        ms_slot slot;
        make_entry(entry);
        for (size_t flips = 1 + random_below(3); flips; flips--)
            entry[random_below(MS_ENTRY_BYTES)] ^= (uint8_t)(1u << random_below(8));
        const ms_shape_rule *rule = random_below(2) ? &FIXED : &RAGGED;
        if (resolve(entry, rule, &slot) != 0 || slot.status != MS_TENSOR)
            continue;
        resolved++;
        CHECK(slot.offset + slot.bytes <= rule->file_bytes);
        CHECK_EQUAL(slot.length * rule->row_elements * ms_itemsize(slot.dtype), slot.bytes);
        CHECK(rule->ragged || slot.length == 1);
    }
    CHECK(resolved > 1000);
}

static void written_and_resolved(void)
{
    ms_record record = {.checksum = 0x1122334455667788, .offset = 4080, .bytes = 24, .dtype = MS_FLOAT32, .ndim = 2, .flags = 3,
                        .shape = {2, 3, 9, 9, 9, 9}};  /* what lies beyond ndim is not written */
    uint8_t *entry = exactly(MS_ENTRY_BYTES), expected[MS_ENTRY_BYTES];
    ms_slot slot;
    ms_write_entry(entry, &record, 5, 7, 11, -13);
    make_entry(expected);
    ms_store32(expected + 4, 11);
    ms_store64(expected + 8, (uint64_t)-13);
    ms_store64(expected + 16, 0x1122334455667788);
    ms_store64(expected + 24, 5);
    CHECK(memcmp(entry, expected, MS_ENTRY_BYTES) == 0);
    CHECK_EQUAL(resolve(entry, &FIXED, &slot), 0);
    CHECK_EQUAL(slot.offset, 7 * 4096 + 16 + 4080);
    free(entry);
}

int main(void)
{
    a_tensor();
    written_and_resolved();
    shapes();
    a_failure();
    refused_fields();
    overflowing_shapes();
    places_outside_the_file();
    damaged_entries();
    return finish();
}
