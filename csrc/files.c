#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGN 64

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t ms_files_room(size_t count, size_t bytes)
{
    return count * aligned(bytes + 1);
}

/* Up to `bytes` bytes; fewer at the end of the file. Returns errno. */
static int read_all(int fd, uint8_t *to, size_t bytes, size_t *got)
{
    *got = 0;
    while (*got < bytes) {
        ssize_t n = read(fd, to + *got, bytes - *got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

static int read_one(int fd, size_t limit, size_t head, uint8_t *to, size_t room, ms_file *file)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return S_ISDIR(status.st_mode) ? EISDIR : ESPIPE;
    file->size = (uint64_t)status.st_size;
    size_t want = head;
    if (file->size <= limit && file->size < room)
        want = (size_t)file->size + 1;
    return read_all(fd, to, want, &file->bytes);
}

void ms_read_files(int folder, const char *const *names, size_t count, size_t limit, size_t head, uint8_t *memory,
                   size_t room, ms_file *files)
{
    size_t at = 0;
    room -= room % ALIGN;    /* so that what follows a file begins within it */
    for (size_t i = 0; i < count; i++) {
        ms_file *file = &files[i];
        *file = (ms_file){.at = at};
        /* not waiting, should it be a pipe */
        int fd = openat(folder, names[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
            file->error = errno;
            continue;
        }
        size_t kept = (count - i - 1) * aligned(head);
        file->error = read_one(fd, limit, head, memory + at, room - at - kept, file);
        close(fd);
        at += aligned(file->bytes);
    }
}
