/* The mapping of a file that grows, and advice about its pages. */
#include "scratch.h"

#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#define PAGES 40

static void mapped(void)
{
    uint8_t *content = make_scratch(PAGES * 4096);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 1u << 30), 0);
    CHECK(map.base != NULL);
    CHECK_EQUAL(map.reserved, 1u << 30);
    CHECK_EQUAL(ms_map_size(&map), PAGES * 4096);
    CHECK(memcmp(map.base, content, PAGES * 4096) == 0);

    /* the file grows under the mapping, which does not move */
    int fd = open(scratch_path, O_WRONLY | O_APPEND);
    CHECK(fd >= 0 && write(fd, content, 4096) == 4096);
    CHECK_EQUAL(ms_map_size(&map), (PAGES + 1) * 4096);
    CHECK(memcmp(map.base + PAGES * 4096, content, 4096) == 0);
    close(fd);

    /* its name goes, the mapping stays */
    unlink(scratch_path);
    CHECK(memcmp(map.base, content, PAGES * 4096) == 0);
    ms_map_close(&map);
    CHECK(map.base == NULL);
    CHECK_EQUAL(map.fd, -1);
    ms_map_close(&map); /* again: harmless */
    free(content);
}

static void unmapped(void)
{
    uint8_t *content = make_scratch(4096);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 0), 0);
    CHECK(map.base == NULL);
    CHECK(map.fd >= 0);
    CHECK_EQUAL(ms_map_size(&map), 4096);
    ms_map_close(&map);
    CHECK_EQUAL(ms_map_size(&map), -1);
    unlink(scratch_path);
    free(content);
}

static void never_less_than_the_file(void)
{
    uint8_t *content = make_scratch(PAGES * 4096);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 1), 0);
    CHECK_EQUAL(map.reserved, PAGES * 4096);
    CHECK(memcmp(map.base, content, PAGES * 4096) == 0);
    ms_map_close(&map);
    unlink(scratch_path);
    free(content);
}

/* Where as much address space as asked for is refused, it takes less. */
static void less_where_refused(void)
{
    uint8_t *content = make_scratch(4096);
    ms_map map;
    size_t absurd = (size_t)1 << 47; /* all that a process has, its own code included */
    CHECK_EQUAL(ms_map_open(&map, scratch_path, absurd), 0);
    CHECK(map.base != NULL && map.reserved < absurd && map.reserved >= 4096);
    if (map.base)
        CHECK(memcmp(map.base, content, 4096) == 0);
    ms_map_close(&map);
    unlink(scratch_path);
    free(content);
}

static void errors(void)
{
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, "/tmp/merstore-test-no-such-file", 1u << 20), ENOENT);
    CHECK(map.base == NULL);
    CHECK(ms_map_open(&map, "/tmp", 1u << 20) != 0); /* a directory cannot be mapped */
    CHECK(map.base == NULL);
    CHECK_EQUAL(map.fd, -1);
}

static void an_empty_file(void)
{
    uint8_t *content = make_scratch(0);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 1u << 20), 0);
    CHECK_EQUAL(ms_map_size(&map), 0);
    ms_map_close(&map);
    unlink(scratch_path);
    free(content);
}

static ms_slot slot_at(uint64_t offset, uint32_t bytes)
{
    return (ms_slot){.offset = offset, .bytes = bytes, .length = 1, .dtype = MS_UINT8, .status = MS_TENSOR};
}

/* What was just written is in memory; what a file was only stretched by is not. */
static void residency(void)
{
    uint8_t *content = make_scratch(PAGES * 4096);
    CHECK_EQUAL(truncate(scratch_path, 2 * PAGES * 4096), 0);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 1u << 24), 0);
    ms_slot warm[PAGES], cold[PAGES];
    for (size_t i = 0; i < PAGES; i++) {
        warm[i] = slot_at(i * 4096 + 16, 4000);
        cold[i] = slot_at((PAGES + i) * 4096 + 16, 4000);
    }
    CHECK(ms_resident(&map, warm, PAGES));
    CHECK(ms_resident(&map, warm, 0));
    CHECK(!ms_resident(&map, cold, PAGES));
    CHECK(!ms_resident(&map, cold, 1));
    for (size_t i = 0; i < PAGES; i++)
        cold[i].status = MS_MISSING; /* nothing to wait for */
    CHECK(ms_resident(&map, cold, PAGES));

    /* advice harms nothing, whatever it is given: no tensors, odd offsets, the end of the file, nothing at all */
    for (size_t i = 0; i < PAGES; i++)
        cold[i] = slot_at((PAGES + i) * 4096 + i * 97, i % 3 ? 1 : 4096);
    cold[5].status = MS_FAILURE;
    cold[6].status = MS_MISSING;
    cold[PAGES - 1] = slot_at(2 * PAGES * 4096 - 1, 1);
    ms_willneed(&map, cold, PAGES);
    ms_willneed(&map, warm, 1);
    ms_willneed(&map, warm, 0);
    CHECK(memcmp(map.base, content, PAGES * 4096) == 0);
    for (size_t i = PAGES * 4096; i < 2 * PAGES * 4096; i++)
        CHECK_EQUAL(map.base[i], 0);
    ms_map_close(&map);
    unlink(scratch_path);
    free(content);
}

static long major_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_majflt;
}

/* Batches found in memory are looked at less and less often; one fault or one absent page, and it looks again. */
static void how_often_it_looks(void)
{
    uint8_t *content = make_scratch(PAGES * 4096);
    CHECK_EQUAL(truncate(scratch_path, 2 * PAGES * 4096), 0);
    ms_map map;
    CHECK_EQUAL(ms_map_open(&map, scratch_path, 1u << 24), 0);
    ms_slot warm = slot_at(0, 4096), cold = slot_at(2 * PAGES * 4096 - 4096, 4096);

    ms_warmth warmth = {.faults = major_faults()};
    unsigned looked = 0;
    for (unsigned i = 0; i < 1000; i++) {
        unsigned skipped = warmth.skip;
        CHECK_EQUAL(ms_looks_cold(&map, &warm, 1, &warmth), 0);
        looked += skipped == 0;
    }
    CHECK(looked > 30 && looked < 60); /* 1 + 2 + ... + 32 batches for the first 32 looks, then every 33rd */
    CHECK_EQUAL(warmth.streak, 32);

    /* while it trusts, an absent page goes unseen; once it looks, it is seen, and trust is gone */
    while (warmth.skip)
        CHECK_EQUAL(ms_looks_cold(&map, &cold, 1, &warmth), 0);
    CHECK_EQUAL(ms_looks_cold(&map, &cold, 1, &warmth), 1);
    CHECK_EQUAL(warmth.streak, 0);
    CHECK_EQUAL(warmth.skip, 0);

    /* a fault that waited for the disk ends trust at once */
    for (unsigned i = 0; i < 10; i++)
        ms_looks_cold(&map, &warm, 1, &warmth);
    CHECK(warmth.skip > 0);
    warmth.faults--;
    CHECK_EQUAL(ms_looks_cold(&map, &warm, 1, &warmth), 1);
    CHECK_EQUAL(warmth.skip, 0);
    CHECK_EQUAL(ms_looks_cold(&map, &warm, 1, &warmth), 0);
    ms_map_close(&map);
    unlink(scratch_path);
    free(content);
}

int main(void)
{
    mapped();
    unmapped();
    never_less_than_the_file();
    less_where_refused();
    errors();
    an_empty_file();
    residency();
    how_often_it_looks();
    return finish();
}
