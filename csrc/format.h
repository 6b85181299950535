/* The on-disk format, version 1, as far as C needs it: docs/format.md has every field. */
#ifndef MERSTORE_FORMAT_H
#define MERSTORE_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "merstore stores little-endian payloads and reads them in place: a little-endian machine is needed"
#endif

#define MS_MAX_DIMS 6
#define MS_ENTRY_BYTES 72
#define MS_TENSOR 1
#define MS_FAILURE 2

#define MS_BLOCK_MAGIC "MERBLOCK"
#define MS_BLOCK_VERSION 1
#define MS_BLOCK_FIXED 64    /* header bytes before the table */
#define MS_RECORD_FIXED 20   /* bytes of a table record before its dimensions */
#define MS_HEADER_MIN 4080   /* LMDB puts a large value at page + 16: the payloads then start on a page */
#define MS_HEADER_STEP 4096
#define MS_PAGE_HEADER 16    /* LMDB 0.9's, in front of a large value */
#define MS_PAGE_OVERFLOW 0x04
#define MS_ALIGN 64

enum ms_dtype {
    MS_FLOAT16 = 1, MS_BFLOAT16, MS_FLOAT32, MS_FLOAT64, MS_INT8, MS_INT16, MS_INT32, MS_INT64,
    MS_UINT8, MS_UINT16, MS_UINT32, MS_UINT64, MS_BOOL, MS_DTYPES
};

/* Bytes of one element; 0 for a code that does not exist. */
static inline uint32_t ms_itemsize(uint32_t dtype)
{
    static const uint8_t sizes[MS_DTYPES] = {0, 2, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1};
    return dtype < MS_DTYPES ? sizes[dtype] : 0;
}

/* Unaligned little-endian loads and stores. */
static inline uint16_t ms_load16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t ms_load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t ms_load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void ms_store16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void ms_store32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void ms_store64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

#endif
