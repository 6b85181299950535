#define _GNU_SOURCE
#include "gather.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define AHEAD 4                  /* slots by which prefetching runs ahead of copying */
#define AHEAD_BYTES (64 * 4096)  /* of each: a large payload is walked through page by page well enough without */

/* Touch each page of a slot that will be copied soon. What a shuffled batch waits for is less its bytes than the translation of their
   addresses: a line per page starts the page walks while earlier slots are copied. (One line per page, four slots ahead, then a
   plain memcpy: 1.7x memcpy alone at 4 KiB a slot and 1.15x at 24 KiB; prefetching every line is slower than none.) */
static void prefetch(const ms_map *map, const ms_slot *slot)
{
    if (slot->status != MS_TENSOR)
        return;
    size_t bytes = slot->bytes < AHEAD_BYTES ? slot->bytes : AHEAD_BYTES;
    for (size_t at = 0; at < bytes; at += 4096)
        __builtin_prefetch(map->base + slot->offset + at, 0, 3);
}

static void prefetch_ahead(const ms_map *map, const ms_slot *slots, size_t count, size_t i)
{
    if (!map->base)
        return;
    for (size_t k = i ? i + AHEAD : 1; k <= i + AHEAD && k < count; k++)
        prefetch(map, &slots[k]);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
/* memcpy, for a destination that is not 32-byte aligned while the source is (a large NumPy array begins 16 bytes into a page): there the
   `rep movsb` of the C library falls to 0.6x on some processors, plain vector moves do not. */
__attribute__((target("avx2"))) static void copy_unaligned(uint8_t *out, const uint8_t *in, size_t bytes)
{
    size_t i = 0;
    for (; i + 64 <= bytes; i += 64) {
        __m256i low = _mm256_loadu_si256((const void *)(in + i));
        __m256i high = _mm256_loadu_si256((const void *)(in + i + 32));
        _mm256_storeu_si256((void *)(out + i), low);
        _mm256_storeu_si256((void *)(out + i + 32), high);
    }
    memcpy(out + i, in + i, bytes - i);
}

static void copy_bytes(uint8_t *out, const uint8_t *in, size_t bytes)
{
    if ((uintptr_t)out % 32 != 0 && __builtin_cpu_supports("avx2"))
        copy_unaligned(out, in, bytes);
    else
        memcpy(out, in, bytes);
}
#else
static void copy_bytes(uint8_t *out, const uint8_t *in, size_t bytes)
{
    memcpy(out, in, bytes);
}
#endif

static ms_gather_status read_whole(int fd, uint8_t *out, size_t bytes, uint64_t offset)
{
    while (bytes) {
        ssize_t got = pread(fd, out, bytes, (off_t)offset);
        if (got == 0)
            return MS_CUT_SHORT;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return MS_READ_ERROR;
        }
        out += got;
        bytes -= (size_t)got;
        offset += (uint64_t)got;
    }
    return MS_GATHERED;
}

/* Copy the first `bytes` of a payload, through a buffer where it is neither mapped nor of the batch's dtype. */
static ms_gather_status copy(const ms_map *map, const ms_slot *slot, size_t bytes, uint8_t *out, uint32_t dtype)
{
    if (map->base) {
        const uint8_t *in = map->base + slot->offset;
        if (slot->dtype == dtype)
            copy_bytes(out, in, bytes);
        else
            ms_cast(out, dtype, in, slot->dtype, bytes / ms_itemsize(slot->dtype));
        return MS_GATHERED;
    }
    if (slot->dtype == dtype)
        return read_whole(map->fd, out, bytes, slot->offset);
    uint8_t *buffer = malloc(bytes);
    if (!buffer)
        return MS_NO_MEMORY;
    ms_gather_status status = read_whole(map->fd, buffer, bytes, slot->offset);
    if (status == MS_GATHERED)
        ms_cast(out, dtype, buffer, slot->dtype, bytes / ms_itemsize(slot->dtype));
    free(buffer);
    return status;
}

uint64_t ms_total_rows(const ms_slot *slots, size_t count, uint64_t missing)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += slots[i].status == MS_TENSOR ? slots[i].length : missing;
    return total;
}

ms_gather_status ms_check(const ms_map *map, const ms_slot *slots, size_t count, uint32_t dtype,
                          int allow_missing, size_t *bad)
{
    int64_t size = ms_map_size(map);
    if (map->base && size > (int64_t)map->reserved)
        size = (int64_t)map->reserved; /* the file has outgrown the mapping */
    for (size_t i = 0; i < count; i++) {
        const ms_slot *slot = &slots[i];
        *bad = i;
        if (slot->status != MS_TENSOR) {
            if (!allow_missing)
                return MS_NOT_THERE;
            continue;
        }
        if (!ms_can_cast(slot->dtype, dtype))
            return MS_CANNOT_CAST;
        if (size < 0 || slot->offset + slot->bytes > (uint64_t)size)
            return MS_CUT_SHORT;
    }
    return MS_GATHERED;
}

ms_gather_status ms_gather(const ms_map *map, const ms_slot *slots, size_t count, uint64_t missing, const ms_batch *batch)
{
    size_t row_bytes = batch->row_elements * ms_itemsize(batch->dtype);
    uint8_t *out = batch->out;
    for (size_t i = 0; i < count; i++) {
        prefetch_ahead(map, slots, count, i);
        const ms_slot *slot = &slots[i];
        uint64_t length = slot->status == MS_TENSOR ? slot->length : missing;
        if (slot->status == MS_TENSOR) {
            ms_gather_status status = copy(map, slot, slot->bytes, out, batch->dtype);
            if (status != MS_GATHERED)
                return status;
        } else {
            memset(out, 0, length * row_bytes);
        }
        out += length * row_bytes;
    }
    return MS_GATHERED;
}

ms_gather_status ms_pad(const ms_map *map, const ms_slot *slots, size_t count, uint64_t padded,
                        int front, const ms_batch *batch)
{
    size_t row_bytes = batch->row_elements * ms_itemsize(batch->dtype);
    for (size_t i = 0; i < count; i++) {
        prefetch_ahead(map, slots, count, i);
        const ms_slot *slot = &slots[i];
        uint64_t length = slot->status == MS_TENSOR ? slot->length : 0;
        if (length > padded)
            length = padded;
        uint8_t *out = batch->out + i * padded * row_bytes;
        size_t zeros = (padded - length) * row_bytes;
        memset(front ? out : out + length * row_bytes, 0, zeros);
        if (length == 0)
            continue;
        size_t bytes = length * batch->row_elements * ms_itemsize(slot->dtype);
        ms_gather_status status = copy(map, slot, bytes, front ? out + zeros : out, batch->dtype);
        if (status != MS_GATHERED)
            return status;
    }
    return MS_GATHERED;
}
