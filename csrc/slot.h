/* A slot is where one sample's payload lies in the file, resolved once from its index entry. */
#ifndef MERSTORE_SLOT_H
#define MERSTORE_SLOT_H

#include "block.h"
#include "format.h"

#define MS_UNRESOLVED 0
/* 1 is MS_TENSOR, 2 is MS_FAILURE */
#define MS_MISSING 3

typedef struct {
    uint64_t offset;   /* of the payload in the file */
    uint32_t bytes;
    uint32_t length;   /* rows: 1 in a view of fixed shape, T in a ragged one */
    uint8_t dtype;
    uint8_t status;
    uint8_t flags;
    uint8_t reserved[5];
} ms_slot;

/* What a view expects of its entries, and the file of the snapshot. */
typedef struct {
    uint64_t page_bytes;
    uint64_t file_bytes;     /* committed: nothing beyond belongs to the snapshot */
    uint64_t row_elements;   /* elements of a row; of the whole entry where the shape is fixed */
    int ragged;
} ms_shape_rule;

/* Resolve an index entry. Returns 0, or -1 where its fields contradict each other, the file or the view. */
int ms_resolve(const uint8_t *entry, size_t entry_bytes, const ms_shape_rule *rule, ms_slot *slot);

/* Write the index entry, MS_ENTRY_BYTES, of a tensor whose record stands in block number `block`, which begins on `page`. */
void ms_write_entry(uint8_t *entry, const ms_record *record, uint64_t block, uint64_t page, uint32_t run, int64_t time);

#endif
