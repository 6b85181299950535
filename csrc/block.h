/* Blocks: many payloads behind one header that names them. */
#ifndef MERSTORE_BLOCK_H
#define MERSTORE_BLOCK_H

#include "format.h"

typedef struct {
    uint32_t header_bytes, view, count, run, table_bytes;
    uint64_t block, total_bytes, checksum;
    int64_t time;
} ms_block;

typedef struct {
    uint64_t checksum;
    uint32_t offset, bytes;
    uint8_t dtype, ndim, flags;
    uint16_t name_bytes;
    uint32_t shape[MS_MAX_DIMS];
    const uint8_t *name;
} ms_record;

typedef enum {
    MS_OK = 0,
    MS_BAD_MAGIC,     /* not a block */
    MS_BAD_VERSION,   /* a later block layout */
    MS_BAD_HEADER,    /* sizes in the header contradict each other or the value's length */
    MS_BAD_RECORD,    /* a table record does not fit its table, or its payload the block */
} ms_block_status;

/* The smallest header that holds a table of so many bytes. */
size_t ms_header_bytes(size_t table_bytes);

/* Bytes that one record takes in the table. */
size_t ms_record_bytes(size_t ndim, size_t name_bytes);

/* Write a record at `at`; returns the bytes written. record->bytes is not stored: dtype and shape tell it. */
size_t ms_write_record(uint8_t *at, const ms_record *record);

/* Write the fixed part of a header; everything else in it stays as it is. The checksum field is written as it stands in `block`. */
void ms_write_block(uint8_t *at, const ms_block *block);

/* Read and check the fixed part of a block's header. `available` is what may be read at `at`, at least 64 bytes. */
ms_block_status ms_read_block(const uint8_t *at, size_t available, ms_block *block);

/* Read and check the record at `*position` of the table (0 at first), and move `*position` past it. */
ms_block_status ms_read_record(const uint8_t *at, const ms_block *block, size_t *position, ms_record *record);

#endif
