/* A file of its own for a test, gone from the directory at once. */
#ifndef MERSTORE_SCRATCH_H
#define MERSTORE_SCRATCH_H

#include "check.h"

#include <unistd.h>

static char scratch_path[64];

/* Make a file of random bytes and return a copy of them. */
static inline uint8_t *make_scratch(size_t bytes)
{
    uint8_t *content = exactly(bytes);
    random_fill(content, bytes);
    strcpy(scratch_path, "/tmp/merstore-test-XXXXXX");
    int fd = mkstemp(scratch_path);
    if (fd < 0 || write(fd, content, bytes) != (ssize_t)bytes || close(fd) != 0) {
        perror(scratch_path);
        abort();
    }
    return content;
}

#endif
