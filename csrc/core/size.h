/* Overflow-checked size arithmetic. Each returns 1 and leaves *out alone
   when the result does not fit, else 0. */
#ifndef T2M_SIZE_H
#define T2M_SIZE_H

#include <stdint.h>
#include <stddef.h>

static inline int
t2m_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) {
        return 1;
    }
    *out = r;
    return 0;
}

static inline int
t2m_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) {
        return 1;
    }
    *out = r;
    return 0;
}

/* Little-endian loads from unaligned bytes. */
static inline uint16_t
t2m_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t
t2m_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static inline uint64_t
t2m_le64(const uint8_t *p)
{
    return (uint64_t)t2m_le32(p) | (uint64_t)t2m_le32(p + 4) << 32;
}

#endif
