/* Casts on the way from the map to a batch: float16, bfloat16, float32, float64 to float32 or float64. */
#ifndef MERSTORE_CAST_H
#define MERSTORE_CAST_H

#include "format.h"

/* True where ms_cast can turn `from` into `to` (the same dtype included). */
int ms_can_cast(uint32_t from, uint32_t to);

/* Cast `count` elements. Neither pointer needs to be aligned; the two must not overlap. */
void ms_cast(void *out, uint32_t to, const void *in, uint32_t from, size_t count);

#endif
