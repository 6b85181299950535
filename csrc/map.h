/* A read-only mapping of a whole file, larger than the file may ever grow, and advice about its pages. */
#ifndef MERSTORE_MAP_H
#define MERSTORE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "slot.h"

typedef struct {
    int fd;
    uint8_t *base;      /* NULL where nothing is mapped: payloads are then read with pread */
    size_t reserved;    /* bytes of address space */
} ms_map;

/* Open and map. `reserve` bytes of address space are taken, or less where that is refused (never less than the file). With reserve 0
   nothing is mapped. Returns 0, or errno. */
int ms_map_open(ms_map *map, const char *path, size_t reserve);
void ms_map_close(ms_map *map);

/* The file's length now, or -1. What lies beyond it must not be touched. */
int64_t ms_map_size(const ms_map *map);

/* Let the kernel begin to write out what of the file is dirty, without waiting: a sync that follows has less left to do. */
void ms_map_write_back(const ms_map *map);

/* What earlier batches told about the pages being in memory. Zero it at first. */
typedef struct {
    long faults;       /* of the calling thread, when last looked */
    unsigned streak;   /* batches in a row that were found in memory */
    unsigned skip;     /* batches for which that is believed without looking */
} ms_warmth;

/* True if every one of a few slots, spread over the batch, begins on a page in memory. */
int ms_resident(const ms_map *map, const ms_slot *slots, size_t count);

/* Ask the kernel to read the pages of these slots, without waiting. */
void ms_willneed(const ms_map *map, const ms_slot *slots, size_t count);

/* True if the batch had better be asked for with ms_willneed before it is touched. Looks at a few pages, and less and less often while
   all of them are in memory and no page fault has to wait for the disk. */
int ms_looks_cold(const ms_map *map, const ms_slot *slots, size_t count, ms_warmth *warmth);

#endif
