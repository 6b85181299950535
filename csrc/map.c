#define _GNU_SOURCE
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLED 8    /* slots looked at to guess whether a batch is in memory */
#define MAX_SKIP 32  /* batches for which the guess may be left out */

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int ms_map_open(ms_map *map, const char *path, size_t reserve)
{
    map->base = NULL;
    map->reserved = 0;
    map->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (map->fd < 0)
        return errno;
    if (reserve == 0)
        return 0;
    int64_t size = ms_map_size(map);
    for (; size >= 0; reserve /= 2) {
        if (reserve < (size_t)size)
            reserve = (size_t)size;
        void *base = mmap(NULL, reserve, PROT_READ, MAP_SHARED, map->fd, 0);
        if (base != MAP_FAILED) {
            map->base = base;
            map->reserved = reserve;
            return 0;
        }
        if (reserve == (size_t)size)
            break;
    }
    int error = errno;
    ms_map_close(map);
    return error;
}

void ms_map_close(ms_map *map)
{
    if (map->base)
        munmap(map->base, map->reserved);
    if (map->fd >= 0)
        close(map->fd);
    map->base = NULL;
    map->fd = -1;
}

int64_t ms_map_size(const ms_map *map)
{
    struct stat status;
    return fstat(map->fd, &status) == 0 ? (int64_t)status.st_size : -1;
}

void ms_map_write_back(const ms_map *map)
{
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(map->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)map;
#endif
}

int ms_resident(const ms_map *map, const ms_slot *slots, size_t count)
{
    size_t page = page_bytes();
    size_t step = count / SAMPLED + 1;
    for (size_t i = 0; i < count; i += step) {
        const ms_slot *slot = &slots[i];
        unsigned char present = 1;
        if (slot->status != MS_TENSOR)
            continue;
        if (mincore(map->base + slot->offset / page * page, page, &present) == 0 && !(present & 1))
            return 0;
    }
    return 1;
}

void ms_willneed(const ms_map *map, const ms_slot *slots, size_t count)
{
    size_t page = page_bytes();
    for (size_t i = 0; i < count; i++) {
        const ms_slot *slot = &slots[i];
        if (slot->status != MS_TENSOR)
            continue;
        uint64_t begin = slot->offset / page * page;
        madvise(map->base + begin, slot->offset + slot->bytes - begin, MADV_WILLNEED);
    }
}

/* Page faults of this thread so far that had to wait for the disk. */
static long major_faults(void)
{
    struct rusage usage;
#ifdef RUSAGE_THREAD
    int who = RUSAGE_THREAD;
#else
    int who = RUSAGE_SELF;
#endif
    return getrusage(who, &usage) == 0 ? usage.ru_majflt : 0;
}

int ms_looks_cold(const ms_map *map, const ms_slot *slots, size_t count, ms_warmth *warmth)
{
    long faults = major_faults();
    int faulted = faults != warmth->faults;
    warmth->faults = faults;
    if (!faulted && warmth->skip) {
        warmth->skip--;
        return 0;
    }
    if (faulted || !ms_resident(map, slots, count)) {
        warmth->streak = 0;
        warmth->skip = 0;
        return 1;
    }
    if (warmth->streak < MAX_SKIP)
        warmth->streak++;
    warmth->skip = warmth->streak;
    return 0;
}
