/* Blocks: the layout byte for byte, the way back, and the refusal of each field that is wrong. */
#include "check.h"

#include "block.h"

static void header_sizes(void)
{
    CHECK_EQUAL(ms_header_bytes(0), 4080);
    CHECK_EQUAL(ms_header_bytes(4016), 4080);
    CHECK_EQUAL(ms_header_bytes(4017), 8176);
    CHECK_EQUAL(ms_header_bytes(4016 + 4096), 8176);
    CHECK_EQUAL(ms_header_bytes(4016 + 4097), 12272);
    for (size_t table = 0; table < 70000; table += 7) {
        size_t bytes = ms_header_bytes(table);
        CHECK((bytes + MS_PAGE_HEADER) % 4096 == 0); /* the first payload starts on a page */
        CHECK(bytes >= MS_BLOCK_FIXED + table);
        CHECK(bytes == 4080 || bytes - 4096 < MS_BLOCK_FIXED + table);
    }
    CHECK_EQUAL(ms_record_bytes(0, 1), 21);
    CHECK_EQUAL(ms_record_bytes(6, 400), 444);
}

/* docs/format.md, by hand. */
static void layout(void)
{
    static const uint8_t expected_record[] = {
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* checksum */
        0xf0, 0x0f, 0, 0,                               /* offset */
        1, 2, 3, 0,                                     /* dtype, dimensions, bytes of the name */
        3, 0, 0, 0,                                     /* flags */
        5, 0, 0, 0, 0, 1, 0, 0,                         /* shape */
        'a', 0xc3, 0xa9,                                /* name */
    };
    ms_record record = {
        .checksum = 0x1122334455667788, .offset = 4080, .dtype = 1, .ndim = 2, .flags = 3, .name_bytes = 3, .shape = {5, 256},
        .name = (const uint8_t *)"a\xc3\xa9",
    };
    uint8_t got[sizeof expected_record];
    memset(got, 0xee, sizeof got);
    CHECK_EQUAL(ms_write_record(got, &record), sizeof expected_record);
    CHECK(memcmp(got, expected_record, sizeof got) == 0);

    static const uint8_t expected_header[MS_BLOCK_FIXED] = {
        'M', 'E', 'R', 'B', 'L', 'O', 'C', 'K',
        1, 0, 0, 0,                                     /* version */
        0xf0, 0x1f, 0, 0,                               /* header bytes */
        2, 0, 0, 0, 3, 0, 0, 0,                         /* view, entries */
        4, 0, 0, 0, 0, 0, 0, 1,                         /* block */
        0, 0, 0x10, 0, 0, 0, 0, 0,                      /* bytes of the whole */
        6, 0, 0, 0, 0xb1, 0x0f, 0, 0,                   /* run, bytes of the table */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* time */
        8, 7, 6, 5, 4, 3, 2, 1,                         /* checksum */
    };
    ms_block block = {
        .header_bytes = 8176, .view = 2, .count = 3, .run = 6, .table_bytes = 4017, .block = 0x0100000000000004,
        .total_bytes = 1 << 20, .checksum = 0x0102030405060708, .time = -1,
    };
    uint8_t header[MS_BLOCK_FIXED];
    ms_write_block(header, &block);
    CHECK(memcmp(header, expected_header, sizeof header) == 0);
}

/* A block as the builder makes it, of entries of random shapes and names. */
typedef struct {
    uint8_t *value;
    ms_block block;
    ms_record records[600];
    uint8_t names[600][400];
} example;

static void make(example *made, uint32_t count)
{
    uint8_t *table = exactly(600 * 444);
    size_t used = 0;
    memset(&made->block, 0, sizeof made->block);
    for (uint32_t i = 0; i < count; i++) {
        ms_record *record = &made->records[i];
        memset(record, 0, sizeof *record);
        record->checksum = random_bits();
        record->dtype = (uint8_t)(1 + random_below(13));
        record->ndim = (uint8_t)random_below(7);
        record->flags = (uint8_t)random_below(4);
        record->bytes = ms_itemsize(record->dtype);
        for (size_t d = 0; d < record->ndim; d++) {
            record->shape[d] = (uint32_t)(1 + random_below(4));
            record->bytes *= record->shape[d];
        }
        record->name_bytes = (uint16_t)(1 + random_below(400));
        random_fill(made->names[i], record->name_bytes);
        record->name = made->names[i];
        used += ms_record_bytes(record->ndim, record->name_bytes);
    }
    size_t end = ms_header_bytes(used), at = 0;
    made->block.header_bytes = (uint32_t)end;
    for (uint32_t i = 0; i < count; i++) {
        end = (end + MS_PAGE_HEADER + MS_ALIGN - 1) / MS_ALIGN * MS_ALIGN - MS_PAGE_HEADER;
        made->records[i].offset = (uint32_t)end;
        end += made->records[i].bytes;
        at += ms_write_record(table + at, &made->records[i]);
    }
    CHECK_EQUAL(at, used);
    made->block.view = (uint32_t)random_bits();
    made->block.count = count;
    made->block.run = (uint32_t)random_bits();
    made->block.block = random_bits();
    made->block.time = (int64_t)random_bits();
    made->block.checksum = random_bits();
    made->block.table_bytes = (uint32_t)used;
    made->block.total_bytes = end;
    made->value = exactly(end);
    memset(made->value, 0, end);
    ms_write_block(made->value, &made->block);
    memcpy(made->value + MS_BLOCK_FIXED, table, used);
    free(table);
}

static void round_trip(void)
{
    static example made;
    for (uint32_t count = 0; count < 600; count = count < 3 ? count + 1 : count * 2) {
        make(&made, count);
        ms_block block;
        CHECK_EQUAL(ms_read_block(made.value, made.block.total_bytes, &block), MS_OK);
        CHECK_EQUAL(block.header_bytes, made.block.header_bytes);
        CHECK_EQUAL(block.view, made.block.view);
        CHECK_EQUAL(block.count, count);
        CHECK_EQUAL(block.run, made.block.run);
        CHECK_EQUAL(block.block, made.block.block);
        CHECK_EQUAL(block.total_bytes, made.block.total_bytes);
        CHECK_EQUAL(block.table_bytes, made.block.table_bytes);
        CHECK_EQUAL(block.checksum, made.block.checksum);
        CHECK_EQUAL(block.time, made.block.time);
        size_t position = 0;
        for (uint32_t i = 0; i < count; i++) {
            const ms_record *wrote = &made.records[i];
            ms_record read;
            CHECK_EQUAL(ms_read_record(made.value, &block, &position, &read), MS_OK);
            CHECK_EQUAL(read.checksum, wrote->checksum);
            CHECK_EQUAL(read.offset, wrote->offset);
            CHECK_EQUAL(read.bytes, wrote->bytes);
            CHECK_EQUAL(read.dtype, wrote->dtype);
            CHECK_EQUAL(read.ndim, wrote->ndim);
            CHECK_EQUAL(read.flags, wrote->flags);
            CHECK_EQUAL(read.name_bytes, wrote->name_bytes);
            CHECK(memcmp(read.shape, wrote->shape, sizeof read.shape) == 0);
            CHECK(memcmp(read.name, wrote->name, read.name_bytes) == 0);
        }
        CHECK_EQUAL(position, block.table_bytes);
        ms_record none;
        CHECK_EQUAL(ms_read_record(made.value, &block, &position, &none), MS_BAD_RECORD);
        free(made.value);
    }
}

static ms_block_status read_changed(const example *made, size_t at, const void *bytes, size_t count)
{
    uint8_t *copy = exactly(made->block.total_bytes);
    ms_block block;
    memcpy(copy, made->value, made->block.total_bytes);
    memcpy(copy + at, bytes, count);
    ms_block_status status = ms_read_block(copy, made->block.total_bytes, &block);
    free(copy);
    return status;
}

static ms_block_status read32(const example *made, size_t at, uint32_t value)
{
    return read_changed(made, at, &value, 4);
}

static ms_block_status read64(const example *made, size_t at, uint64_t value)
{
    return read_changed(made, at, &value, 8);
}

static void refused_headers(void)
{
    static example made;
    make(&made, 3);
    ms_block block;
    size_t total = made.block.total_bytes;
    for (size_t available = 0; available < total; available += available < 64 ? 1 : 61) {
        uint8_t *cut = exactly(available);
        memcpy(cut, made.value, available);
        CHECK_EQUAL(ms_read_block(cut, available, &block), available < 64 ? MS_BAD_MAGIC : MS_BAD_HEADER);
        free(cut);
    }
    for (size_t i = 0; i < 8; i++)
        CHECK_EQUAL(read_changed(&made, i, "x", 1), MS_BAD_MAGIC);
    CHECK_EQUAL(read32(&made, 8, 0), MS_BAD_VERSION);
    CHECK_EQUAL(read32(&made, 8, 2), MS_BAD_VERSION);
    CHECK_EQUAL(read32(&made, 12, 0), MS_BAD_HEADER);
    CHECK_EQUAL(read32(&made, 12, made.block.header_bytes - 1), MS_BAD_HEADER);
    CHECK_EQUAL(read32(&made, 12, made.block.header_bytes + 4096), MS_BAD_HEADER); /* larger than its table needs */
    CHECK_EQUAL(read32(&made, 12, UINT32_MAX), MS_BAD_HEADER);
    CHECK_EQUAL(read64(&made, 32, 0), MS_BAD_HEADER);
    CHECK_EQUAL(read64(&made, 32, made.block.header_bytes - 1), MS_BAD_HEADER);
    CHECK_EQUAL(read64(&made, 32, total + 1), MS_BAD_HEADER);
    CHECK_EQUAL(read64(&made, 32, UINT64_MAX), MS_BAD_HEADER);
    CHECK_EQUAL(read32(&made, 44, UINT32_MAX), MS_BAD_HEADER);
    CHECK_EQUAL(read32(&made, 44, 4016 + 1), MS_BAD_HEADER);
    CHECK_EQUAL(read64(&made, 32, total), MS_OK);
    free(made.value);
}

/* The first record, with `count` bytes at `at` of it replaced. */
static ms_block_status record_changed(const example *made, size_t at, const void *bytes, size_t count)
{
    uint8_t *copy = exactly(made->block.total_bytes);
    ms_block block;
    ms_record record;
    size_t position = 0;
    memcpy(copy, made->value, made->block.total_bytes);
    memcpy(copy + MS_BLOCK_FIXED + at, bytes, count);
    CHECK_EQUAL(ms_read_block(copy, made->block.total_bytes, &block), MS_OK);
    ms_block_status status = ms_read_record(copy, &block, &position, &record);
    CHECK_EQUAL(position, status == MS_OK ? ms_record_bytes(record.ndim, record.name_bytes) : 0);
    free(copy);
    return status;
}

static ms_block_status record32(const example *made, size_t at, uint32_t value)
{
    return record_changed(made, at, &value, 4);
}

static ms_block_status record8(const example *made, size_t at, uint8_t value)
{
    return record_changed(made, at, &value, 1);
}

/* One (2, 3) float32 with a long name, and more room behind it than it takes. */
static void make_roomy(example *made)
{
    ms_record record = {.offset = 4080, .bytes = 24, .dtype = MS_FLOAT32, .ndim = 2, .name_bytes = 150, .shape = {2, 3}};
    for (size_t i = 0; i < 150; i++)
        made->names[0][i] = i % 4 == 0; /* as dimensions, all of them 1 */
    record.name = made->names[0];
    made->block = (ms_block){.header_bytes = 4080, .count = 1, .table_bytes = 178, .total_bytes = 4080 + 24 + 128};
    made->value = exactly(made->block.total_bytes);
    memset(made->value, 0, made->block.total_bytes);
    ms_write_block(made->value, &made->block);
    CHECK_EQUAL(ms_write_record(made->value + MS_BLOCK_FIXED, &record), 178);
}

static void refused_records(void)
{
    static example made;
    make_roomy(&made);
    for (uint32_t offset = 4080; offset < 4080 + 128; offset++)
        CHECK_EQUAL(record32(&made, 8, offset), (offset + MS_PAGE_HEADER) % MS_ALIGN ? MS_BAD_RECORD : MS_OK);
    CHECK_EQUAL(record32(&made, 8, 0), MS_BAD_RECORD);
    CHECK_EQUAL(record32(&made, 8, 4080 - 64), MS_BAD_RECORD);       /* in the header */
    CHECK_EQUAL(record32(&made, 8, 4080 + 192), MS_BAD_RECORD);      /* past the end */
    CHECK_EQUAL(record32(&made, 8, UINT32_MAX - 15), MS_BAD_RECORD); /* aligned, and near to wrapping around */
    for (unsigned dtype = 0; dtype < 256; dtype++)
        CHECK_EQUAL(record8(&made, 12, (uint8_t)dtype), ms_itemsize(dtype) ? MS_OK : MS_BAD_RECORD);
    for (unsigned low = 0; low < 256; low++)
        CHECK_EQUAL(record8(&made, 14, (uint8_t)low), low <= 150 ? MS_OK : MS_BAD_RECORD);
    CHECK_EQUAL(record8(&made, 15, 1), MS_BAD_RECORD);
    /* with a short name there is room in the table for any number of dimensions */
    for (unsigned ndim = 0; ndim < 256; ndim++) {
        uint8_t fields[] = {(uint8_t)ndim, 10, 0};
        CHECK_EQUAL(record_changed(&made, 13, fields, 3), ndim <= MS_MAX_DIMS ? MS_OK : MS_BAD_RECORD);
    }
    CHECK_EQUAL(record32(&made, 20, 0), MS_BAD_RECORD); /* a payload of no bytes */
    CHECK_EQUAL(record32(&made, 20, 1000), MS_BAD_RECORD);
    CHECK_EQUAL(record32(&made, 20, UINT32_MAX), MS_BAD_RECORD);

    /* (a, b) or (a, b, c) whose bytes wrap around; the last is 2^66 + 6 elements */
    static const uint32_t wrapping[][3] = {
        {65536, 65536, 1}, {1u << 31, 2, 1}, {1u << 30, 1, 1}, {UINT32_MAX, UINT32_MAX, UINT32_MAX}, {1u << 31, 1u << 31, 4},
        {2112351278, 998034439, 35},
    };
    for (size_t i = 0; i < sizeof wrapping / sizeof *wrapping; i++)
        for (uint8_t ndim = 2; ndim <= 3; ndim++) {
            uint8_t fields[20] = {ndim, 10};
            memcpy(fields + 7, wrapping[i], 12);
            CHECK_EQUAL(record_changed(&made, 13, fields, 19), MS_BAD_RECORD);
        }
    free(made.value);
}

/* A payload that ends with the block, and one that ends a byte later. */
static void the_last_byte(void)
{
    for (uint32_t columns = 24; columns <= 25; columns++) {
        static example made;
        ms_record record = {.offset = 4080, .dtype = MS_UINT8, .ndim = 1, .name_bytes = 1, .shape = {columns},
                            .name = (const uint8_t *)"a"};
        made.block = (ms_block){.header_bytes = 4080, .count = 1, .table_bytes = 25, .total_bytes = 4080 + 24};
        made.value = exactly(made.block.total_bytes);
        memset(made.value, 0, made.block.total_bytes);
        ms_write_block(made.value, &made.block);
        ms_write_record(made.value + MS_BLOCK_FIXED, &record);
        CHECK_EQUAL(record8(&made, 16, 0), columns == 24 ? MS_OK : MS_BAD_RECORD);
        free(made.value);
    }
}

/* A table that fills its header, in a block that ends there: a record that begins at its end is not looked at. */
static void the_end_of_the_table(void)
{
    uint8_t *value = exactly(4080);
    memset(value, 0, 4080);
    ms_block block = {.header_bytes = 4080, .count = 1, .table_bytes = 4016, .total_bytes = 4080};
    ms_write_block(value, &block);
    CHECK_EQUAL(ms_read_block(value, 4080, &block), MS_OK);
    for (size_t start = 4016 - 19; start < 4016 + 40; start++) {
        ms_record record;
        size_t position = start;
        CHECK_EQUAL(ms_read_record(value, &block, &position, &record), MS_BAD_RECORD);
        CHECK_EQUAL(position, start);
    }
    free(value);
}

/* Whatever the bytes of header and table, what is read lies inside the block (and the sanitizers see nothing else touched). */
static void damaged_blocks(void)
{
    static example made;
    size_t whole = 0;
    for (size_t round = 0; round < 3000; round++) {
        make(&made, (uint32_t)random_below(12));
        size_t total = made.block.total_bytes, table = MS_BLOCK_FIXED + made.block.table_bytes;
        for (size_t flips = 1 + random_below(3); flips; flips--)
            made.value[random_below(table)] ^= (uint8_t)(1u << random_below(8));
        ms_block block;
        if (ms_read_block(made.value, total, &block) == MS_OK) {
            size_t position = 0;
            ms_record record;
            uint32_t read = 0;
            CHECK(block.header_bytes <= block.total_bytes && block.total_bytes <= total);
            for (; read < block.count && ms_read_record(made.value, &block, &position, &record) == MS_OK; read++) {
                CHECK(record.name + record.name_bytes <= made.value + MS_BLOCK_FIXED + block.table_bytes);
                CHECK(record.offset >= block.header_bytes && (uint64_t)record.offset + record.bytes <= block.total_bytes);
                CHECK(record.bytes > 0);
            }
            whole += read == block.count;
        }
        free(made.value);
    }
    CHECK(whole > 100); /* flips of names and checksums, which are not this layer's to find */
}

int main(void)
{
    header_sizes();
    layout();
    round_trip();
    refused_headers();
    refused_records();
    the_last_byte();
    the_end_of_the_table();
    damaged_blocks();
    return finish();
}
