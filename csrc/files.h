/* Many small files at once. */
#ifndef MERSTORE_FILES_H
#define MERSTORE_FILES_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int error;          /* errno; EISDIR for a folder, ESPIPE for what else is no file */
    uint64_t size;
    size_t at, bytes;   /* what was read of it: where in the memory, and how much */
} ms_file;

/* Read each of the files `names` of a folder (a file descriptor), to places of 64 bytes in `memory`: all of it where it has at most `limit`
 * bytes and there is room for it and for `head` bytes of each that follows; else its first `head` bytes. A file that grew meanwhile shows
 * one byte more than its size. */
void ms_read_files(int folder, const char *const *names, size_t count, size_t limit, size_t head, uint8_t *memory,
                   size_t room, ms_file *files);

/* The room that `count` files of at most `bytes` bytes need. */
size_t ms_files_room(size_t count, size_t bytes);

#endif
