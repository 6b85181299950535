#include "scan.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define WITH_AVX2 1
#else
#define WITH_AVX2 0
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Element-wise over the bits: an exponent of all ones is NaN or Inf; all bits but the sign clear is zero. */
#define SCAN(name, type, load, exponent)                                                   \
    ALWAYS_INLINE unsigned name(const uint8_t *data, size_t rows, size_t columns)          \
    {                                                                                      \
        unsigned flags = 0;                                                                \
        for (size_t row = 0; row < rows; row++) {                                          \
            type any = 0;                                                                  \
            unsigned nonfinite = 0;                                                        \
            for (size_t i = 0; i < columns; i++) {                                         \
                type bits = load(data + (row * columns + i) * sizeof(type));               \
                any |= (type)(bits << 1);                                                  \
                nonfinite |= (bits & (type)(exponent)) == (type)(exponent);                \
            }                                                                              \
            flags |= (nonfinite ? MS_NONFINITE : 0u) | (any ? 0u : MS_ZERO_ROW);           \
        }                                                                                  \
        return flags;                                                                      \
    }

SCAN(scan_half, uint16_t, ms_load16, 0x7c00)
SCAN(scan_bfloat, uint16_t, ms_load16, 0x7f80)
SCAN(scan_float, uint32_t, ms_load32, 0x7f800000)
SCAN(scan_double, uint64_t, ms_load64, 0x7ff0000000000000)

ALWAYS_INLINE unsigned scan(const uint8_t *data, uint32_t dtype, size_t rows, size_t columns)
{
    switch (dtype) {
    case MS_FLOAT16: return scan_half(data, rows, columns);
    case MS_BFLOAT16: return scan_bfloat(data, rows, columns);
    case MS_FLOAT32: return scan_float(data, rows, columns);
    case MS_FLOAT64: return scan_double(data, rows, columns);
    default: return 0;
    }
}

#if WITH_AVX2
/* The same for wider vectors. */
__attribute__((target("avx2"))) static unsigned scan_avx2(const uint8_t *data, uint32_t dtype, size_t rows, size_t columns)
{
    return scan(data, dtype, rows, columns);
}
#endif

unsigned ms_scan(const uint8_t *data, uint32_t dtype, size_t rows, size_t columns)
{
#if WITH_AVX2
    if (__builtin_cpu_supports("avx2"))
        return scan_avx2(data, dtype, rows, columns);
#endif
    return scan(data, dtype, rows, columns);
}
