#include "crc32.h"
#include "size.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

/* Shorter blocks do not pay for the tables of eight bytes at a time. */
#define TABLE_BLOCK 8192

/* Four bits at a time: the table is its 16 remainders.  `crc` is the state,
   the complement of the checksum, here and below. */
static uint32_t
by_nibbles(uint32_t crc, const uint8_t *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

/* Eight bytes at a time: table[k] has the remainders of a byte that k zero
   bytes follow. */
static uint32_t
by_tables(uint32_t crc, const uint8_t *p, size_t n)
{
    uint32_t table[8][256];

    for (uint32_t i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        table[0][i] = by_nibbles(0, &byte, 1);
    }
    for (int k = 1; k < 8; k++) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t before = table[k - 1][i];
            table[k][i] = before >> 8 ^ table[0][before & 255];
        }
    }
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word = t2m_le64(p) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++) {
            crc ^= table[7 - k][word >> (8 * k) & 255];
        }
    }
    return by_nibbles(crc, p, n);
}

#if defined(__x86_64__)

#define FOLD(x, k, low, high)                                                 \
    _mm_xor_si128(_mm_clmulepi64_si128(x, k, low),                            \
                  _mm_clmulepi64_si128(x, k, high))

/* Folds 64 bytes at a time without carries, then reduces (Gopal and others,
   "Fast CRC Computation Using PCLMULQDQ", Intel 2009).  n is a multiple of
   16 and at least 64. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t
by_folding(uint32_t crc, const uint8_t *p, size_t n)
{
    const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
    const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    const __m128i by_4 = _mm_set_epi64x(0, 0x163cd6124);
    const __m128i barrett = _mm_set_epi64x(0x1f7011641, 0x1db710641);
    const __m128i low = _mm_setr_epi32(~0, 0, ~0, 0);
    __m128i x[4], y;

    for (int i = 0; i < 4; i++) {
        x[i] = _mm_loadu_si128((const __m128i *)p + i);
    }
    x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)crc));
    for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
        for (int i = 0; i < 4; i++) {
            y = _mm_loadu_si128((const __m128i *)p + i);
            x[i] = _mm_xor_si128(FOLD(x[i], by_64, 0x00, 0x11), y);
        }
    }
    for (int i = 1; i < 4; i++) {
        x[0] = _mm_xor_si128(FOLD(x[0], by_16, 0x00, 0x11), x[i]);
    }
    for (; n >= 16; p += 16, n -= 16) {
        y = _mm_loadu_si128((const __m128i *)p);
        x[0] = _mm_xor_si128(FOLD(x[0], by_16, 0x00, 0x11), y);
    }
    y = _mm_clmulepi64_si128(x[0], by_16, 0x10);
    x[0] = _mm_xor_si128(_mm_srli_si128(x[0], 8), y);
    y = _mm_srli_si128(x[0], 4);
    x[0] = _mm_and_si128(x[0], low);
    x[0] = _mm_xor_si128(_mm_clmulepi64_si128(x[0], by_4, 0x00), y);
    y = _mm_clmulepi64_si128(_mm_and_si128(x[0], low), barrett, 0x10);
    y = _mm_clmulepi64_si128(_mm_and_si128(y, low), barrett, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(x[0], y), 1);
}

static uint32_t
by_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    size_t head = n / 16 * 16;
    if (head < 64 || !__builtin_cpu_supports("pclmul") ||
        !__builtin_cpu_supports("sse4.1")) {
        return n < TABLE_BLOCK ? by_nibbles(crc, p, n) : by_tables(crc, p, n);
    }
    return by_nibbles(by_folding(crc, p, head), p + head, n - head);
}

#elif defined(__ARM_FEATURE_CRC32)

static uint32_t
by_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        crc = __crc32d(crc, t2m_le64(p));
    }
    return by_nibbles(crc, p, n);
}

#else

static uint32_t
by_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    return n < TABLE_BLOCK ? by_nibbles(crc, p, n) : by_tables(crc, p, n);
}

#endif

uint32_t
t2m_crc32(uint32_t crc, const uint8_t *data, size_t n, int simd)
{
    if (simd) {
        return ~by_hardware(~crc, data, n);
    }
    return n < TABLE_BLOCK ? ~by_nibbles(~crc, data, n)
                           : ~by_tables(~crc, data, n);
}
