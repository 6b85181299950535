/* Gather: copy the payloads of a batch of slots into one buffer, once. */
#ifndef MERSTORE_GATHER_H
#define MERSTORE_GATHER_H

#include "cast.h"
#include "map.h"
#include "slot.h"

/* Where the batch goes. Slot i of the batch fills `length` rows of `row_elements` elements. */
typedef struct {
    uint8_t *out;
    uint32_t dtype;
    uint64_t row_elements;
} ms_batch;

typedef enum {
    MS_GATHERED = 0,
    MS_NOT_THERE,     /* a slot without tensor */
    MS_CANNOT_CAST,   /* a slot of a dtype that the batch's cannot hold */
    MS_CUT_SHORT,     /* the file ends before a slot's payload does */
    MS_READ_ERROR,    /* pread failed: errno says why */
    MS_NO_MEMORY,
} ms_gather_status;

/* Rows of all slots together. Slots without tensor count as `missing` rows each. */
uint64_t ms_total_rows(const ms_slot *slots, size_t count, uint64_t missing);

/* Check what ms_gather relies on. On failure `*bad` is the position of the slot. */
ms_gather_status ms_check(const ms_map *map, const ms_slot *slots, size_t count, uint32_t dtype,
                          int allow_missing, size_t *bad);

/* Copy the slots into the batch, one after the other. A slot without tensor gives `missing` rows of zeros. Slots must have passed
   ms_check. */
ms_gather_status ms_gather(const ms_map *map, const ms_slot *slots, size_t count, uint64_t missing, const ms_batch *batch);

/* Copy slot i into rows [i*padded, (i+1)*padded) of the batch: its own rows, cut to `padded`, at the front (at the back where
   `front` padding is asked for), zeros elsewhere. A slot that is cut keeps its first rows. */
ms_gather_status ms_pad(const ms_map *map, const ms_slot *slots, size_t count, uint64_t padded,
                        int front, const ms_batch *batch);

#endif
