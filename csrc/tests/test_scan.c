/* Flags: every 16-bit value alone, and rows of all float dtypes against a loop over doubles. */
#include "check.h"

#include "cast.h"
#include "scan.h"

#include <math.h>

static const uint32_t FLOATS[] = {MS_FLOAT16, MS_BFLOAT16, MS_FLOAT32, MS_FLOAT64};

static double element(const uint8_t *data, uint32_t dtype, size_t i)
{
    double value;
    ms_cast(&value, MS_FLOAT64, data + i * ms_itemsize(dtype), dtype, 1);
    return value;
}

static unsigned expected(const uint8_t *data, uint32_t dtype, size_t rows, size_t columns)
{
    unsigned flags = 0;
    for (size_t row = 0; row < rows; row++) {
        int zero = 1;
        for (size_t i = row * columns; i < (row + 1) * columns; i++) {
            double value = element(data, dtype, i);
            if (!isfinite(value))
                flags |= MS_NONFINITE;
            zero &= value == 0;
        }
        if (zero)
            flags |= MS_ZERO_ROW;
    }
    return flags;
}

static void every_16_bit_value(void)
{
    for (uint32_t i = 0; i < 65536; i++)
        for (size_t k = 0; k < 2; k++) {
            uint8_t data[3];
            ms_store16(data + 1, (uint16_t)i);
            CHECK_EQUAL(ms_scan(data + 1, FLOATS[k], 1, 1), expected(data + 1, FLOATS[k], 1, 1));
        }
}

/* Mostly zeros, of both signs, with a few other values among them. */
static void rows(void)
{
    static const double values[] = {0.0, 1.0, -1.0, 0x1p-149, 0x1p-1074, INFINITY, -INFINITY, NAN, 65504.0};
    for (size_t round = 0; round < 20000; round++) {
        uint32_t dtype = FLOATS[random_below(4)];
        size_t rows = random_below(5), columns = 1 + random_below(20), count = rows * columns, item = ms_itemsize(dtype);
        uint8_t *memory = exactly(count * item + 1), *data = memory + 1;
        for (size_t i = 0; i < count; i++) {
            double wide = random_below(4) ? 0.0 : values[random_below(9)];
            if (random_below(2))
                wide = -wide;
            uint8_t *at = data + i * item;
            if (dtype == MS_FLOAT64) {
                memcpy(at, &wide, 8);
            } else {
                float narrow = (float)wide;
                uint32_t bits;
                memcpy(&bits, &narrow, 4);
                if (dtype == MS_FLOAT32)
                    ms_store32(at, bits);
                else if (dtype == MS_BFLOAT16)
                    ms_store16(at, (uint16_t)(bits >> 16));
                else
                    ms_store16(at, (uint16_t)((bits >> 16 & 0x8000) | (isfinite(narrow) ? (narrow != 0) : 0x7c00)));
            }
        }
        CHECK_EQUAL(ms_scan(data, dtype, rows, columns), expected(data, dtype, rows, columns));
        free(memory);
    }
}

static void integers_have_no_flags(void)
{
    uint8_t zeros[64] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    for (uint32_t dtype = MS_INT8; dtype <= MS_BOOL; dtype++) {
        CHECK_EQUAL(ms_scan(zeros, dtype, 2, 4), 0);
        CHECK_EQUAL(ms_scan(ones, dtype, 2, 4), 0);
    }
}

int main(void)
{
    every_16_bit_value();
    rows();
    integers_have_no_flags();
    return finish();
}
