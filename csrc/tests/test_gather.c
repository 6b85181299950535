/* Gather and pad against a byte-by-byte reference, through the mapping and with pread, to destinations of every alignment. */
#include "scratch.h"

#include "gather.h"

#include <fcntl.h>

#define FILE_BYTES (300 * 1024)
#define MAX_SLOTS 64

static uint8_t *content;
static ms_map maps[2]; /* mapped, and not */

static ms_slot random_slot(uint32_t dtype, uint32_t row_elements, uint32_t most_rows)
{
    uint32_t length = 1 + (uint32_t)random_below(most_rows);
    uint32_t bytes = length * row_elements * ms_itemsize(dtype);
    /* aligned as payloads are, and at any place: both must work */
    uint64_t offset = random_below(FILE_BYTES - bytes);
    if (random_below(2))
        offset = offset / 64 * 64;
    return (ms_slot){.offset = offset, .bytes = bytes, .length = length, .dtype = (uint8_t)dtype, .status = MS_TENSOR};
}

static ms_slot absent(unsigned status)
{
    return (ms_slot){.status = (uint8_t)status};
}

/* Rows of a slot as the batch's dtype, from the copy of the file. */
static void expect_rows(uint8_t *out, const ms_slot *slot, uint64_t rows, const ms_batch *batch)
{
    ms_cast(out, batch->dtype, content + slot->offset, slot->dtype, rows * batch->row_elements);
}

/* A destination `shift` bytes off its alignment between bytes that nobody may touch. */
typedef struct {
    uint8_t *memory, *out;
    size_t bytes;
} place;

static place make_place(size_t bytes, size_t shift)
{
    place made = {.memory = exactly(bytes + 192), .bytes = bytes};
    memset(made.memory, 0xc5, bytes + 192);
    made.out = made.memory + (64 - (uintptr_t)made.memory % 64) + shift;
    return made;
}

static void check_place(const place *made, const uint8_t *expected)
{
    CHECK(memcmp(made->out, expected, made->bytes) == 0);
    for (const uint8_t *at = made->memory; at < made->out; at++)
        CHECK_EQUAL(*at, 0xc5);
    for (const uint8_t *at = made->out + made->bytes; at < made->memory + made->bytes + 192; at++)
        CHECK_EQUAL(*at, 0xc5);
    free(made->memory);
}

/* Some dtype, and one that can be cast to it. */
static void random_dtypes(uint32_t *stored, uint32_t *wanted)
{
    do {
        *stored = 1 + (uint32_t)random_below(13);
        *wanted = random_below(2) ? *stored : 1 + (uint32_t)random_below(13);
    } while (!ms_can_cast(*stored, *wanted));
}

static void random_batches(void)
{
    for (size_t round = 0; round < 4000; round++) {
        uint32_t stored, wanted;
        random_dtypes(&stored, &wanted);
        uint32_t row_elements = 1 + (uint32_t)random_below(round % 10 ? 40 : 900);
        uint32_t most_rows = random_below(2) ? 1 : 5;
        size_t count = random_below(20);
        uint64_t missing = random_below(2);
        ms_slot slots[20];
        uint64_t rows = 0;
        for (size_t i = 0; i < count; i++) {
            slots[i] = random_below(4) ? random_slot(random_below(3) ? stored : wanted, row_elements, most_rows)
                                       : absent((unsigned)random_below(2) ? MS_MISSING : MS_FAILURE);
            rows += slots[i].status == MS_TENSOR ? slots[i].length : missing;
        }
        CHECK_EQUAL(ms_total_rows(slots, count, missing), rows);

        size_t row_bytes = row_elements * ms_itemsize(wanted);
        ms_batch batch = {.dtype = wanted, .row_elements = row_elements};
        uint8_t *expected = exactly(rows * row_bytes);
        memset(expected, 0, rows * row_bytes);
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            if (slots[i].status == MS_TENSOR) {
                expect_rows(expected + at, &slots[i], slots[i].length, &batch);
                at += slots[i].length * row_bytes;
            } else {
                at += missing * row_bytes;
            }
        }
        for (size_t k = 0; k < 2; k++) {
            size_t bad = 0;
            CHECK_EQUAL(ms_check(&maps[k], slots, count, wanted, 1, &bad), MS_GATHERED);
            place made = make_place(rows * row_bytes, random_below(2) ? 0 : random_below(64));
            batch.out = made.out;
            CHECK_EQUAL(ms_gather(&maps[k], slots, count, missing, &batch), MS_GATHERED);
            check_place(&made, expected);
        }
        free(expected);
    }
}

static void random_padding(void)
{
    for (size_t round = 0; round < 4000; round++) {
        uint32_t stored, wanted;
        random_dtypes(&stored, &wanted);
        uint32_t row_elements = 1 + (uint32_t)random_below(30);
        size_t count = random_below(12);
        uint64_t padded = random_below(8);
        int front = (int)random_below(2);
        ms_slot slots[12];
        for (size_t i = 0; i < count; i++)
            slots[i] = random_below(4) ? random_slot(stored, row_elements, 7) : absent(MS_MISSING);

        size_t row_bytes = row_elements * ms_itemsize(wanted), each = padded * row_bytes;
        ms_batch batch = {.dtype = wanted, .row_elements = row_elements};
        uint8_t *expected = exactly(count * each);
        memset(expected, 0, count * each);
        for (size_t i = 0; i < count; i++) {
            if (slots[i].status != MS_TENSOR)
                continue;
            uint64_t kept = slots[i].length < padded ? slots[i].length : padded;
            expect_rows(expected + i * each + (front ? (padded - kept) * row_bytes : 0), &slots[i], kept, &batch);
        }
        for (size_t k = 0; k < 2; k++) {
            place made = make_place(count * each, random_below(64));
            batch.out = made.out;
            CHECK_EQUAL(ms_pad(&maps[k], slots, count, padded, front, &batch), MS_GATHERED);
            check_place(&made, expected);
        }
        free(expected);
    }
}

/* Sizes around the strides of the vector copy, to every alignment. */
static void every_alignment(void)
{
    static const uint32_t sizes[] = {1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t shift = 0; shift < 64; shift++)
            for (size_t k = 0; k < 2; k++) {
                ms_slot slots[2] = {
                    {.offset = 64 * shift, .bytes = sizes[s], .length = 1, .dtype = MS_UINT8, .status = MS_TENSOR},
                    {.offset = 8192 + shift, .bytes = sizes[s], .length = 1, .dtype = MS_UINT8, .status = MS_TENSOR},
                };
                place made = make_place(2 * sizes[s], shift);
                ms_batch batch = {.out = made.out, .dtype = MS_UINT8, .row_elements = sizes[s]};
                uint8_t *expected = exactly(2 * sizes[s]);
                memcpy(expected, content + slots[0].offset, sizes[s]);
                memcpy(expected + sizes[s], content + slots[1].offset, sizes[s]);
                CHECK_EQUAL(ms_gather(&maps[k], slots, 2, 1, &batch), MS_GATHERED);
                check_place(&made, expected);
                free(expected);
            }
}

/* A payload larger than what is prefetched of one, up to the last byte of the file. */
static void a_large_payload(void)
{
    ms_slot slot = {.offset = 64, .bytes = FILE_BYTES - 64, .length = 1, .dtype = MS_UINT8, .status = MS_TENSOR};
    for (size_t k = 0; k < 2; k++) {
        size_t bad;
        place made = make_place(FILE_BYTES - 64, 16);
        ms_batch batch = {.out = made.out, .dtype = MS_UINT8, .row_elements = FILE_BYTES - 64};
        CHECK_EQUAL(ms_check(&maps[k], &slot, 1, MS_UINT8, 0, &bad), MS_GATHERED);
        CHECK_EQUAL(ms_gather(&maps[k], &slot, 1, 1, &batch), MS_GATHERED);
        check_place(&made, content + 64);
    }
}

static void what_check_refuses(void)
{
    for (size_t k = 0; k < 2; k++) {
        ms_slot slots[3] = {random_slot(MS_FLOAT16, 4, 1), random_slot(MS_FLOAT16, 4, 1), random_slot(MS_FLOAT16, 4, 1)};
        size_t bad = 9;
        CHECK_EQUAL(ms_check(&maps[k], slots, 0, MS_FLOAT16, 0, &bad), MS_GATHERED);
        CHECK_EQUAL(ms_check(&maps[k], slots, 3, MS_FLOAT32, 0, &bad), MS_GATHERED);
        CHECK_EQUAL(ms_check(&maps[k], slots, 3, MS_INT16, 0, &bad), MS_CANNOT_CAST);
        CHECK_EQUAL(bad, 0);
        for (unsigned status = 0; status < 256; status++) {
            slots[1].status = (uint8_t)status;
            CHECK_EQUAL(ms_check(&maps[k], slots, 3, MS_FLOAT16, 0, &bad), status == MS_TENSOR ? MS_GATHERED : MS_NOT_THERE);
            CHECK(status == MS_TENSOR || bad == 1);
            CHECK_EQUAL(ms_check(&maps[k], slots, 3, MS_FLOAT16, 1, &bad), MS_GATHERED);
        }
        slots[1].status = MS_TENSOR;
        slots[2].offset = FILE_BYTES - 8;
        CHECK_EQUAL(ms_check(&maps[k], slots, 3, MS_FLOAT16, 0, &bad), MS_GATHERED);
        slots[2].offset++;
        CHECK_EQUAL(ms_check(&maps[k], slots, 3, MS_FLOAT16, 0, &bad), MS_CUT_SHORT);
        CHECK_EQUAL(bad, 2);
    }
}

/* A file that is cut while it is open: seen by the check, and by pread itself. */
static void a_file_cut_short(void)
{
    uint8_t *kept = content;
    uint8_t *other = make_scratch(3 * 4096);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 0), 0);
    ms_slot slot = {.offset = 4096, .bytes = 8192, .length = 1, .dtype = MS_FLOAT32, .status = MS_TENSOR};
    uint8_t *out = exactly(16384);
    ms_batch batch = {.out = out, .dtype = MS_FLOAT32, .row_elements = 2048};
    size_t bad;
    CHECK_EQUAL(ms_gather(&map, &slot, 1, 1, &batch), MS_GATHERED);
    CHECK_EQUAL(truncate(scratch_path, 4096 + 100), 0);
    CHECK_EQUAL(ms_check(&map, &slot, 1, MS_FLOAT32, 0, &bad), MS_CUT_SHORT);
    CHECK_EQUAL(ms_gather(&map, &slot, 1, 1, &batch), MS_CUT_SHORT);
    CHECK_EQUAL(ms_pad(&map, &slot, 1, 1, 0, &batch), MS_CUT_SHORT);
    batch.dtype = MS_FLOAT64;
    CHECK_EQUAL(ms_gather(&map, &slot, 1, 1, &batch), MS_CUT_SHORT);
    ms_map_close(&map); /* and one that cannot be read at all */
    CHECK_EQUAL(ms_gather(&map, &slot, 1, 1, &batch), MS_READ_ERROR);
    CHECK_EQUAL(ms_check(&map, &slot, 1, MS_FLOAT64, 0, &bad), MS_CUT_SHORT);
    unlink(scratch_path);
    free(out);
    free(other);
    content = kept;
}

/* A file that has outgrown its mapping is not read beyond it. */
static void beyond_the_mapping(void)
{
    ms_map small = maps[0];
    small.reserved = 8192;
    ms_slot slot = {.offset = 8192 - 64, .bytes = 64, .length = 1, .dtype = MS_UINT8, .status = MS_TENSOR};
    size_t bad;
    CHECK_EQUAL(ms_check(&small, &slot, 1, MS_UINT8, 0, &bad), MS_GATHERED);
    slot.bytes = 65;
    CHECK_EQUAL(ms_check(&small, &slot, 1, MS_UINT8, 0, &bad), MS_CUT_SHORT);
}

int main(void)
{
    content = make_scratch(FILE_BYTES);
    CHECK_EQUAL(ms_map_open(&maps[0], scratch_path, 1u << 24), 0);
    CHECK_EQUAL(ms_map_open(&maps[1], scratch_path, 0), 0);
    unlink(scratch_path);
    random_batches();
    random_padding();
    every_alignment();
    a_large_payload();
    what_check_refuses();
    a_file_cut_short();
    beyond_the_mapping();
    ms_map_close(&maps[0]);
    ms_map_close(&maps[1]);
    free(content);
    return finish();
}
