/* Files of all sizes around the limits, and what is no file. */
#include "check.h"

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD 100
#define LIMIT 1000

static const size_t SIZES[] = {0, 1, HEAD - 1, HEAD, HEAD + 1, LIMIT - 1, LIMIT, LIMIT + 1, 5 * LIMIT};
#define COUNT (sizeof SIZES / sizeof *SIZES)

static char folder[] = "/tmp/merstore-test-XXXXXX";
static int fd;
static const char *names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "folder", "pipe", "missing"};
#define NAMES (sizeof names / sizeof *names)
static uint8_t *contents[COUNT];

static void make(void)
{
    if (!mkdtemp(folder) || (fd = open(folder, O_RDONLY | O_DIRECTORY)) < 0)
        abort();
    for (size_t i = 0; i < COUNT; i++) {
        contents[i] = exactly(SIZES[i]);
        random_fill(contents[i], SIZES[i]);
        int file = openat(fd, names[i], O_WRONLY | O_CREAT, 0600);
        if (file < 0 || write(file, contents[i], SIZES[i]) != (ssize_t)SIZES[i])
            abort();
        close(file);
    }
    if (mkdirat(fd, "folder", 0700) || mkfifoat(fd, "pipe", 0600))
        abort();
}

static void clear(void)
{
    for (size_t i = 0; i < NAMES; i++)
        unlinkat(fd, names[i], i == COUNT ? AT_REMOVEDIR : 0);
    for (size_t i = 0; i < COUNT; i++)
        free(contents[i]);
    close(fd);
    rmdir(folder);
}

/* With room for all that is small enough, and with hardly any. */
static void reads(size_t limit, size_t room)
{
    ms_file files[NAMES];
    uint8_t *memory = exactly(room);
    ms_read_files(fd, names, NAMES, limit, HEAD, memory, room, files);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(files[i].error, 0);
        CHECK_EQUAL(files[i].size, SIZES[i]);
        CHECK_EQUAL(files[i].at % 64, 0);
        CHECK(files[i].at + files[i].bytes <= room);
        size_t head = SIZES[i] < HEAD ? SIZES[i] : HEAD;
        CHECK(files[i].bytes == head || files[i].bytes == SIZES[i]);
        if (SIZES[i] > limit)
            CHECK_EQUAL(files[i].bytes, head);
        else if (room == ms_files_room(NAMES, LIMIT))
            CHECK_EQUAL(files[i].bytes, SIZES[i]);
        CHECK(memcmp(memory + files[i].at, contents[i], files[i].bytes) == 0);
    }
    CHECK_EQUAL(files[COUNT].error, EISDIR);
    CHECK_EQUAL(files[COUNT + 1].error, ESPIPE);
    CHECK_EQUAL(files[COUNT + 2].error, ENOENT);
    free(memory);
}

int main(void)
{
    make();
    reads(LIMIT, ms_files_room(NAMES, LIMIT));
    reads(0, ms_files_room(NAMES, HEAD));
    for (size_t room = ms_files_room(NAMES, HEAD); room < ms_files_room(NAMES, LIMIT); room += 7)
        reads(LIMIT, room);
    clear();
    return finish();
}
