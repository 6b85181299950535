/* One pass over a payload before it is stored: what its flags say of it. */
#ifndef MERSTORE_SCAN_H
#define MERSTORE_SCAN_H

#include "format.h"

#define MS_NONFINITE 1   /* NaN or Inf somewhere */
#define MS_ZERO_ROW 2    /* a row that is zero throughout (negative zero counts as zero) */

/* Flags of `rows` rows of `columns` elements each. Integers and bools have no flags. */
unsigned ms_scan(const uint8_t *data, uint32_t dtype, size_t rows, size_t columns);

#endif
