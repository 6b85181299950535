/* Casts: every float16 and bfloat16 value against the definition of the format. */
#include "check.h"

#include "cast.h"

#include <math.h>

#define VALUES 65536

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static uint64_t double_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* IEEE 754: sign, `width` bits of exponent, the rest of 15 bits mantissa; NaN payloads are kept at the top and made quiet. */
static uint64_t defined_double(uint32_t half, int width, int *is_nan)
{
    int mantissa_bits = 15 - width;
    uint32_t exponent = (half >> mantissa_bits) & ((1u << width) - 1);
    uint32_t mantissa = half & ((1u << mantissa_bits) - 1);
    int bias = (1 << (width - 1)) - 1;
    uint64_t sign = (uint64_t)(half >> 15) << 63;
    *is_nan = 0;
    if (exponent == (1u << width) - 1) {
        *is_nan = mantissa != 0;
        uint64_t payload = (uint64_t)mantissa << (52 - mantissa_bits);
        return sign | 0x7ff0000000000000 | payload | (mantissa ? 0x8000000000000 : 0);
    }
    double value = exponent ? ldexp(1.0 + ldexp((double)mantissa, -mantissa_bits), (int)exponent - bias)
                            : ldexp((double)mantissa, 1 - bias - mantissa_bits);
    return sign | double_bits(value);
}

/* All values at once (the vector path) and one by one (the scalar path), from and to addresses of every alignment. */
static void every_16_bit_value(uint32_t dtype, int width)
{
    for (size_t shift = 0; shift < 4; shift++) {
        uint8_t *in = exactly(2 * VALUES + shift), *out = exactly(8 * VALUES + shift);
        for (uint32_t i = 0; i < VALUES; i++)
            ms_store16(in + shift + 2 * i, (uint16_t)i);
        for (int each = 0; each < 2; each++) {
            memset(out, 0xaa, 8 * VALUES + shift);
            for (uint32_t i = 0; i < VALUES; i += each ? 1 : VALUES)
                ms_cast(out + shift + 4 * i, MS_FLOAT32, in + shift + 2 * i, dtype, each ? 1 : VALUES);
            for (uint32_t i = 0; i < VALUES; i++) {
                int is_nan;
                uint64_t expected = defined_double(i, width, &is_nan);
                uint32_t got = ms_load32(out + shift + 4 * i);
                if (dtype == MS_BFLOAT16)
                    CHECK_EQUAL(got, i << 16); /* a bfloat16 is the upper half of its float32, NaN or not */
                else if (is_nan)
                    CHECK_EQUAL(got, (uint32_t)(expected >> 32 & 0x80000000) | 0x7fc00000 | (i & 0x3ff) << 13);
                else
                    CHECK_EQUAL(double_bits((double)bits_float(got)), expected);
            }
            for (uint32_t i = 0; i < VALUES; i += each ? 1 : VALUES)
                ms_cast(out + shift + 8 * i, MS_FLOAT64, in + shift + 2 * i, dtype, each ? 1 : VALUES);
            for (uint32_t i = 0; i < VALUES; i++) {
                int is_nan;
                CHECK_EQUAL(ms_load64(out + shift + 8 * i), defined_double(i, width, &is_nan));
            }
        }
        free(in);
        free(out);
    }
}

/* Counts around the width of a vector: nothing is written past the last element. */
static void counts(void)
{
    for (size_t count = 0; count < 40; count++) {
        uint8_t *in = exactly(2 * count), *out = exactly(4 * count + 4);
        random_fill(in, 2 * count);
        memset(out, 0x5a, 4 * count + 4);
        ms_cast(out, MS_FLOAT32, in, MS_FLOAT16, count);
        CHECK_EQUAL(ms_load32(out + 4 * count), 0x5a5a5a5a);
        free(in);
        free(out);
    }
}

static void float_to_double(void)
{
    for (size_t i = 0; i < 200000; i++) {
        uint8_t in[5], out[9];
        uint32_t bits = (uint32_t)random_bits();
        ms_store32(in + 1, bits);
        ms_cast(out + 1, MS_FLOAT64, in + 1, MS_FLOAT32, 1);
        if (isnan(bits_float(bits)))
            CHECK((ms_load64(out + 1) & 0x7ff8000000000000) == 0x7ff8000000000000);
        else
            CHECK_EQUAL(ms_load64(out + 1), double_bits((double)bits_float(bits)));
    }
}

/* Round to nearest, ties to even: no neighbour lies nearer, and of two as near the even one was taken. */
static void check_rounded(double wide)
{
    uint8_t in[9], out[5];
    memcpy(in + 1, &wide, 8);
    ms_cast(out + 1, MS_FLOAT32, in + 1, MS_FLOAT64, 1);
    float narrow = bits_float(ms_load32(out + 1));
    if (isnan(wide)) {
        CHECK(isnan(narrow));
        return;
    }
    CHECK(!signbit(narrow) == !signbit(wide));
    if (isinf(narrow)) {
        CHECK(fabs(wide) >= 0x1.ffffffp127); /* halfway between the largest float and the next power of two */
        return;
    }
    double error = fabs((double)narrow - wide);
    for (int up = 0; up < 2; up++) {
        float neighbour = nextafterf(narrow, up ? INFINITY : -INFINITY);
        if (isinf(neighbour))
            continue;
        double other = fabs((double)neighbour - wide);
        CHECK(error < other || (error == other && float_bits(narrow) % 2 == 0));
    }
}

static void double_to_float(void)
{
    static const double special[] = {
        0.0, -0.0, 1.0, 0x1p-149, 0x1p-150, 0x1.8p-150, 0x1p-151, 0x1p-126, 0x1.fffffep127, 0x1.ffffffp127, 0x1p128, 1e300,
        0x1.000001p0, 0x1.000003p0, 0x1.0000010000001p0, INFINITY, NAN, 0x1.fffffcp-127, 0x1p-1074,
    };
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        check_rounded(special[i]);
        check_rounded(-special[i]);
    }
    for (size_t i = 0; i < 200000; i++) {
        /* exponents around those a float has, all mantissas */
        uint64_t exponent = 1023 - 160 + random_below(320);
        uint64_t bits = (random_bits() & 0x800fffffffffffff) | exponent << 52;
        double wide;
        memcpy(&wide, &bits, 8);
        check_rounded(wide);
    }
}

static void same_dtype_is_a_copy(void)
{
    for (uint32_t dtype = 1; dtype < MS_DTYPES; dtype++) {
        size_t bytes = 37 * ms_itemsize(dtype);
        uint8_t *in = exactly(bytes), *out = exactly(bytes);
        random_fill(in, bytes);
        ms_cast(out, dtype, in, dtype, 37);
        CHECK(memcmp(in, out, bytes) == 0);
        free(in);
        free(out);
    }
}

static void what_can_be_cast(void)
{
    for (uint32_t from = 0; from < 300; from++)
        for (uint32_t to = 0; to < 300; to++) {
            int exists = from >= 1 && from <= 13;
            int floats = from >= MS_FLOAT16 && from <= MS_FLOAT64 && (to == MS_FLOAT32 || to == MS_FLOAT64);
            CHECK(!ms_can_cast(from, to) == !(exists && (from == to || floats)));
        }
}

static void itemsizes(void)
{
    static const uint32_t sizes[] = {0, 2, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1};
    for (uint32_t dtype = 0; dtype < 14; dtype++)
        CHECK_EQUAL(ms_itemsize(dtype), sizes[dtype]);
    CHECK_EQUAL(ms_itemsize(14), 0);
    CHECK_EQUAL(ms_itemsize(255), 0);
    CHECK_EQUAL(ms_itemsize(UINT32_MAX), 0);
}

int main(void)
{
    every_16_bit_value(MS_FLOAT16, 5);
    every_16_bit_value(MS_BFLOAT16, 8);
    counts();
    float_to_double();
    double_to_float();
    same_dtype_is_a_copy();
    what_can_be_cast();
    itemsizes();
    return finish();
}
