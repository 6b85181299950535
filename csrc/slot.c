#include "slot.h"

/* A failure says where nothing lies: a tensor's entry whose status was damaged does. */
static int is_failure(const uint8_t *entry)
{
    unsigned rest = entry[1] | entry[2] | entry[3];
    for (size_t i = 16; i < MS_ENTRY_BYTES; i++)
        rest |= entry[i];
    return entry[0] == MS_FAILURE && rest == 0;
}

int ms_resolve(const uint8_t *entry, size_t entry_bytes, const ms_shape_rule *rule, ms_slot *slot)
{
    memset(slot, 0, sizeof *slot);
    if (entry_bytes < MS_ENTRY_BYTES)
        return -1;
    if (is_failure(entry)) {
        slot->status = MS_FAILURE;
        return 0;
    }
    uint32_t itemsize = ms_itemsize(entry[1]);
    uint32_t ndim = entry[2];
    if (entry[0] != MS_TENSOR || itemsize == 0 || ndim > MS_MAX_DIMS)
        return -1;
    uint64_t page = ms_load64(entry + 32);
    uint64_t bytes = ms_load32(entry + 44);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < ndim; i++)
        if ((elements *= ms_load32(entry + 48 + 4 * i)) > UINT32_MAX)
            return -1;
    if (bytes == 0 || bytes != elements * itemsize || page > rule->file_bytes / rule->page_bytes)
        return -1;
    uint64_t offset = page * rule->page_bytes + MS_PAGE_HEADER + ms_load32(entry + 40);
    if (offset + bytes > rule->file_bytes || rule->row_elements == 0 || elements % rule->row_elements != 0)
        return -1;
    uint64_t length = elements / rule->row_elements;
    if (!rule->ragged && length != 1)
        return -1;
    slot->offset = offset;
    slot->bytes = (uint32_t)bytes;
    slot->length = (uint32_t)length;
    slot->dtype = entry[1];
    slot->status = MS_TENSOR;
    slot->flags = entry[3];
    return 0;
}

void ms_write_entry(uint8_t *entry, const ms_record *record, uint64_t block, uint64_t page, uint32_t run, int64_t time)
{
    memset(entry, 0, MS_ENTRY_BYTES);
    entry[0] = MS_TENSOR;
    entry[1] = record->dtype;
    entry[2] = record->ndim;
    entry[3] = record->flags;
    ms_store32(entry + 4, run);
    ms_store64(entry + 8, (uint64_t)time);
    ms_store64(entry + 16, record->checksum);
    ms_store64(entry + 24, block);
    ms_store64(entry + 32, page);
    ms_store32(entry + 40, record->offset);
    ms_store32(entry + 44, record->bytes);
    for (size_t i = 0; i < record->ndim; i++)
        ms_store32(entry + 48 + 4 * i, record->shape[i]);
}
