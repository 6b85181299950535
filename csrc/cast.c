#include "cast.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define MS_F16C 1
#include <immintrin.h>
#endif

int ms_can_cast(uint32_t from, uint32_t to)
{
    int floating = from == MS_FLOAT16 || from == MS_BFLOAT16 || from == MS_FLOAT32 || from == MS_FLOAT64;
    return (from == to && ms_itemsize(from)) || (floating && (to == MS_FLOAT32 || to == MS_FLOAT64));
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* IEEE 754 binary16 to binary32, exact for every value; NaN payloads are kept and made quiet, as hardware does. */
static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 0x1f;
    uint32_t mantissa = half & 0x3ff;
    if (exponent == 0x1f)
        return from_bits(sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
    if (exponent != 0)
        return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float value = (float)mantissa * 0x1p-24f; /* zero and subnormals: exact in binary32 */
    return sign ? -value : value;
}

static void half_to_float_each(uint8_t *out, const uint8_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float value = half_to_float(ms_load16(in + 2 * i));
        memcpy(out + 4 * i, &value, 4);
    }
}

#ifdef MS_F16C
__attribute__((target("avx,f16c"))) static void half_to_float_f16c(uint8_t *out, const uint8_t *in, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps((float *)(void *)(out + 4 * i), _mm256_cvtph_ps(_mm_loadu_si128((const void *)(in + 2 * i))));
    half_to_float_each(out + 4 * i, in + 2 * i, count - i);
}
#endif

static void halves_to_floats(uint8_t *out, const uint8_t *in, size_t count)
{
#ifdef MS_F16C
    if (__builtin_cpu_supports("f16c")) {
        half_to_float_f16c(out, in, count);
        return;
    }
#endif
    half_to_float_each(out, in, count);
}

/* One element of `from` as a float; bfloat16 is the upper half of a binary32. */
static float narrow_to_float(const uint8_t *in, uint32_t from)
{
    return from == MS_FLOAT16 ? half_to_float(ms_load16(in)) : from_bits((uint32_t)ms_load16(in) << 16);
}

static void to_floats(uint8_t *out, const uint8_t *in, uint32_t from, size_t count)
{
    if (from == MS_FLOAT16) {
        halves_to_floats(out, in, count);
    } else if (from == MS_BFLOAT16) {
        for (size_t i = 0; i < count; i++)
            ms_store32(out + 4 * i, (uint32_t)ms_load16(in + 2 * i) << 16);
    } else {
        for (size_t i = 0; i < count; i++) {
            double wide;
            memcpy(&wide, in + 8 * i, 8);
            float value = (float)wide;
            memcpy(out + 4 * i, &value, 4);
        }
    }
}

static void to_doubles(uint8_t *out, const uint8_t *in, uint32_t from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float narrow;
        if (from == MS_FLOAT32)
            memcpy(&narrow, in + 4 * i, 4);
        else
            narrow = narrow_to_float(in + 2 * i, from);
        double value = narrow;
        memcpy(out + 8 * i, &value, 8);
    }
}

void ms_cast(void *out, uint32_t to, const void *in, uint32_t from, size_t count)
{
    if (from == to)
        memcpy(out, in, count * ms_itemsize(from));
    else if (to == MS_FLOAT32)
        to_floats(out, in, from, count);
    else
        to_doubles(out, in, from, count);
}
