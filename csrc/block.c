#include "block.h"

size_t ms_header_bytes(size_t table_bytes)
{
    size_t need = MS_BLOCK_FIXED + table_bytes;
    if (need <= MS_HEADER_MIN)
        return MS_HEADER_MIN;
    return MS_HEADER_MIN + (need - MS_HEADER_MIN + MS_HEADER_STEP - 1) / MS_HEADER_STEP * MS_HEADER_STEP;
}

size_t ms_record_bytes(size_t ndim, size_t name_bytes)
{
    return MS_RECORD_FIXED + 4 * ndim + name_bytes;
}

size_t ms_write_record(uint8_t *at, const ms_record *record)
{
    ms_store64(at, record->checksum);
    ms_store32(at + 8, record->offset);
    at[12] = record->dtype;
    at[13] = record->ndim;
    ms_store16(at + 14, record->name_bytes);
    at[16] = record->flags;
    memset(at + 17, 0, 3);
    for (size_t i = 0; i < record->ndim; i++)
        ms_store32(at + MS_RECORD_FIXED + 4 * i, record->shape[i]);
    memcpy(at + MS_RECORD_FIXED + 4 * (size_t)record->ndim, record->name, record->name_bytes);
    return ms_record_bytes(record->ndim, record->name_bytes);
}

void ms_write_block(uint8_t *at, const ms_block *block)
{
    memcpy(at, MS_BLOCK_MAGIC, 8);
    ms_store32(at + 8, MS_BLOCK_VERSION);
    ms_store32(at + 12, block->header_bytes);
    ms_store32(at + 16, block->view);
    ms_store32(at + 20, block->count);
    ms_store64(at + 24, block->block);
    ms_store64(at + 32, block->total_bytes);
    ms_store32(at + 40, block->run);
    ms_store32(at + 44, block->table_bytes);
    ms_store64(at + 48, (uint64_t)block->time);
    ms_store64(at + 56, block->checksum);
}

ms_block_status ms_read_block(const uint8_t *at, size_t available, ms_block *block)
{
    if (available < MS_BLOCK_FIXED || memcmp(at, MS_BLOCK_MAGIC, 8) != 0)
        return MS_BAD_MAGIC;
    if (ms_load32(at + 8) != MS_BLOCK_VERSION)
        return MS_BAD_VERSION;
    block->header_bytes = ms_load32(at + 12);
    block->view = ms_load32(at + 16);
    block->count = ms_load32(at + 20);
    block->block = ms_load64(at + 24);
    block->total_bytes = ms_load64(at + 32);
    block->run = ms_load32(at + 40);
    block->table_bytes = ms_load32(at + 44);
    block->time = (int64_t)ms_load64(at + 48);
    block->checksum = ms_load64(at + 56);
    if (block->header_bytes != ms_header_bytes(block->table_bytes) || block->header_bytes > block->total_bytes
        || block->total_bytes > available)
        return MS_BAD_HEADER;
    return MS_OK;
}

ms_block_status ms_read_record(const uint8_t *at, const ms_block *block, size_t *position, ms_record *record)
{
    size_t left = block->table_bytes - *position;
    const uint8_t *p = at + MS_BLOCK_FIXED + *position;
    if (*position > block->table_bytes || left < MS_RECORD_FIXED)
        return MS_BAD_RECORD;
    record->checksum = ms_load64(p);
    record->offset = ms_load32(p + 8);
    record->dtype = p[12];
    record->ndim = p[13];
    record->name_bytes = ms_load16(p + 14);
    record->flags = p[16];
    uint64_t bytes = ms_itemsize(record->dtype);
    if (bytes == 0 || record->ndim > MS_MAX_DIMS || left < ms_record_bytes(record->ndim, record->name_bytes))
        return MS_BAD_RECORD;
    for (size_t i = 0; i < MS_MAX_DIMS; i++) {
        record->shape[i] = i < record->ndim ? ms_load32(p + MS_RECORD_FIXED + 4 * i) : 0;
        /* each step keeps bytes below 2^32, so the product never overflows 64 bits */
        if (i < record->ndim && (bytes *= record->shape[i]) > UINT32_MAX)
            return MS_BAD_RECORD;
    }
    if (bytes == 0 || (MS_PAGE_HEADER + record->offset) % MS_ALIGN != 0 || record->offset < block->header_bytes
        || record->offset + bytes > block->total_bytes)
        return MS_BAD_RECORD;
    record->bytes = (uint32_t)bytes;
    record->name = p + MS_RECORD_FIXED + 4 * (size_t)record->ndim;
    *position += ms_record_bytes(record->ndim, record->name_bytes);
    return MS_OK;
}
