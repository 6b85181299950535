/* XXH3-64 (seed 0), the checksum of payloads. */
#ifndef MERSTORE_DIGEST_H
#define MERSTORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define MS_DIGEST_MIN 241    /* shorter input has rules of its own in XXH3, which are not here */

/* Of at least MS_DIGEST_MIN bytes. */
uint64_t ms_digest(const uint8_t *data, size_t bytes);

#endif
