/* Bit patterns of the small float formats, one item at a time.
   Sources: IEEE 754-2019 (binary16), the bfloat16 numerics definition,
   and the OCP 8-bit floating point specification (E4M3, E5M2).
   Private to the cast and compare files. */
#ifndef T2M_CAST_FORMATS_H
#define T2M_CAST_FORMATS_H

#include <stdint.h>
#include <string.h>

typedef struct {
    int ebits, mbits; /* exponent and mantissa bits */
    int has_inf;      /* 0: the top exponent holds numbers, all-ones is NaN */
} t2m_small_float;

static const t2m_small_float T2M_FORMAT_F16 = {5, 10, 1};
static const t2m_small_float T2M_FORMAT_BF16 = {8, 7, 1};
static const t2m_small_float T2M_FORMAT_E5M2 = {5, 2, 1};
static const t2m_small_float T2M_FORMAT_E4M3 = {4, 3, 0};

static inline uint32_t
t2m_bits_f32(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline float
t2m_f32_bits(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* Rounds a double to a small format; exact, because a double is rounded
   once and from all of its bits. */
static inline uint32_t
t2m_narrow(double x, t2m_small_float f)
{
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    uint32_t sign = (uint32_t)(b >> 63) << (f.ebits + f.mbits);
    int top = (1 << f.ebits) - 1;
    int bias = (1 << (f.ebits - 1)) - 1;
    int exponent = (int)(b >> 52 & 0x7ff);
    uint64_t mantissa = b & 0xfffffffffffffull;

    if (exponent == 0x7ff && mantissa != 0) {
        /* Keep the leading payload bits, quiet, as the hardware does. */
        uint32_t payload = (uint32_t)(mantissa >> (52 - f.mbits));
        uint32_t quiet = 1u << (f.mbits - 1);
        uint32_t all = (1u << f.mbits) - 1;
        return sign | (uint32_t)top << f.mbits |
               (f.has_inf ? payload | quiet : all);
    }
    uint32_t overflow = sign | (uint32_t)top << f.mbits |
                        (f.has_inf ? 0u : (1u << f.mbits) - 1);
    if (exponent == 0x7ff) {
        return overflow;
    }
    if (exponent == 0) {
        return sign; /* a double's subnormals are zero in every format */
    }
    int e = exponent - 1023 + bias;
    mantissa |= 1ull << 52;
    int shift = 52 - f.mbits;
    if (e <= 0) {
        shift += 1 - e;
        e = 0;
    }
    if (shift > 53) {
        return sign;
    }
    uint64_t kept = mantissa >> shift;
    uint64_t rest = mantissa & ((1ull << shift) - 1);
    uint64_t half = 1ull << (shift - 1);
    if (rest > half || (rest == half && (kept & 1))) {
        kept++;
    }
    /* A normal number carries its implicit bit into the exponent field, so a
       mantissa that rounds over increments the exponent by itself. */
    uint64_t bits = kept + (e > 0 ? (uint64_t)(e - 1) << f.mbits : 0);
    uint64_t limit = f.has_inf ? (uint64_t)top << f.mbits
                               : ((uint64_t)(top + 1) << f.mbits) - 1;
    return bits >= limit ? overflow : sign | (uint32_t)bits;
}

/* Widens a small format to float; always exact. */
static inline float
t2m_widen(uint32_t bits, t2m_small_float f)
{
    uint32_t sign = bits >> (f.ebits + f.mbits) & 1;
    uint32_t top = (1u << f.ebits) - 1;
    uint32_t e = bits >> f.mbits & top;
    uint32_t m = bits & ((1u << f.mbits) - 1);
    int bias = (1 << (f.ebits - 1)) - 1;
    uint32_t all = (1u << f.mbits) - 1;

    if (e == top && (f.has_inf || m == all)) {
        uint32_t payload = f.has_inf ? m << (23 - f.mbits) : 0x400000u;
        if (payload) {
            payload |= 0x400000u;
        }
        return t2m_f32_bits(sign << 31 | 0x7f800000u | payload);
    }
    if (e == 0) {
        if (f.ebits == 8) {
            return t2m_f32_bits(sign << 31 | m << (23 - f.mbits));
        }
        float tiny = t2m_f32_bits((uint32_t)(127 + 1 - bias - f.mbits) << 23);
        float x = (float)m * tiny;
        return sign ? -x : x;
    }
    return t2m_f32_bits(sign << 31 | (uint32_t)((int)e - bias + 127) << 23 |
                        m << (23 - f.mbits));
}

static inline uint16_t
t2m_f16_of(float x)
{
    return (uint16_t)t2m_narrow(x, T2M_FORMAT_F16);
}

/* The same as t2m_narrow for bfloat16, in the few integer steps that a
   float allows. */
static inline uint16_t
t2m_bf16_of(float x)
{
    uint32_t b = t2m_bits_f32(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(b >> 16 | 0x40);
    }
    return (uint16_t)((b + 0x7fffu + (b >> 16 & 1)) >> 16);
}

static inline float
t2m_bf16_to(uint16_t b)
{
    return t2m_f32_bits((uint32_t)b << 16);
}

#endif
