#include "permute_kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Columns are taken in strips so that the source lines of a strip stay in
   the first-level cache while all rows pass over them. */
#define STRIP 64

typedef struct {
    uint64_t a, b;
} pair;

/* Unaligned loads and stores go through memcpy of a constant size. */
#define SCALAR_KERNELS(name, type)                                            \
    static void row_##name(uint8_t *dst, const uint8_t *src, int64_t stride,  \
                           uint64_t n)                                        \
    {                                                                         \
        for (uint64_t i = 0; i < n; i++, src += stride) {                     \
            type t;                                                           \
            memcpy(&t, src, sizeof t);                                        \
            memcpy(dst + i * sizeof t, &t, sizeof t);                         \
        }                                                                     \
    }                                                                         \
    static void row_dense_##name(uint8_t *dst, const uint8_t *src,            \
                                 int64_t stride, uint64_t n)                  \
    {                                                                         \
        if (stride == (int64_t)sizeof(type)) {                                \
            memcpy(dst, src, n * sizeof(type));                               \
        } else {                                                              \
            row_##name(dst, src, stride, n);                                  \
        }                                                                     \
    }                                                                         \
    static void plane_##name(uint8_t *dst, int64_t ds, const uint8_t *src,    \
                             uint64_t rows, uint64_t cols, int64_t rs,        \
                             int64_t cs)                                      \
    {                                                                         \
        for (uint64_t c = 0; c < cols; c += STRIP) {                          \
            uint64_t n = cols - c < STRIP ? cols - c : STRIP;                 \
            for (uint64_t r = 0; r < rows; r++) {                             \
                row_##name(dst + (int64_t)r * ds + c * sizeof(type),          \
                           src + (int64_t)r * rs + (int64_t)c * cs, cs, n);   \
            }                                                                 \
        }                                                                     \
    }

SCALAR_KERNELS(1, uint8_t)
SCALAR_KERNELS(2, uint16_t)
SCALAR_KERNELS(4, uint32_t)
SCALAR_KERNELS(8, uint64_t)
SCALAR_KERNELS(16, pair)

#define LANES 5
static const size_t sizes[LANES] = {1, 2, 4, 8, 16};

static const t2m_kernel scalar[LANES] = {
    {row_dense_1, plane_1}, {row_dense_2, plane_2},   {row_dense_4, plane_4},
    {row_dense_8, plane_8}, {row_dense_16, plane_16},
};

#if defined(__x86_64__)

/* 8 x 8 four-byte items through registers: two loads and two stores per
   eight items instead of sixteen. */
__attribute__((target("avx2"))) static inline void
tile4_avx2(uint8_t *dst, int64_t ds, const uint8_t *src, int64_t cs)
{
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) {
        r[i] = _mm256_loadu_ps((const float *)(src + i * cs));
    }
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        __m256 *u = t + 4 * i;
        r[4 * i] = _mm256_shuffle_ps(u[0], u[2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(u[0], u[2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(u[1], u[3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(u[1], u[3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps((float *)(dst + i * ds),
                         _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps((float *)(dst + (i + 4) * ds),
                         _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

__attribute__((target("avx2"))) static void
plane_4_avx2(uint8_t *dst, int64_t ds, const uint8_t *src, uint64_t rows,
             uint64_t cols, int64_t rs, int64_t cs)
{
    if (rs != 4) {
        plane_4(dst, ds, src, rows, cols, rs, cs);
        return;
    }
    uint64_t whole = rows / 8 * 8;
    for (uint64_t c = 0; c < cols; c += STRIP) {
        uint64_t n = cols - c < STRIP ? cols - c : STRIP;
        uint64_t tiled = n / 8 * 8;
        const uint8_t *s = src + (int64_t)c * cs;
        for (uint64_t r = 0; r < whole; r += 8) {
            uint8_t *d = dst + (int64_t)r * ds + c * 4;
            for (uint64_t i = 0; i < tiled; i += 8) {
                tile4_avx2(d + i * 4, ds, s + (int64_t)i * cs + r * 4, cs);
            }
            for (uint64_t k = r; k < r + 8 && tiled < n; k++) {
                row_4(dst + (int64_t)k * ds + (c + tiled) * 4,
                      s + (int64_t)tiled * cs + k * 4, cs, n - tiled);
            }
        }
        for (uint64_t r = whole; r < rows; r++) {
            row_4(dst + (int64_t)r * ds + c * 4, s + r * 4, cs, n);
        }
    }
}

/* 8 x 8 two-byte items; SSE2 is part of x86-64. */
static inline void
tile2_sse2(uint8_t *dst, int64_t ds, const uint8_t *src, int64_t cs)
{
    __m128i r[8], t[8];
    for (int i = 0; i < 8; i++) {
        r[i] = _mm_loadu_si128((const __m128i *)(src + i * cs));
    }
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        __m128i *u = t + 4 * i;
        r[4 * i] = _mm_unpacklo_epi32(u[0], u[2]);
        r[4 * i + 1] = _mm_unpackhi_epi32(u[0], u[2]);
        r[4 * i + 2] = _mm_unpacklo_epi32(u[1], u[3]);
        r[4 * i + 3] = _mm_unpackhi_epi32(u[1], u[3]);
    }
    for (int i = 0; i < 4; i++) {
        _mm_storeu_si128((__m128i *)(dst + 2 * i * ds),
                         _mm_unpacklo_epi64(r[i], r[i + 4]));
        _mm_storeu_si128((__m128i *)(dst + (2 * i + 1) * ds),
                         _mm_unpackhi_epi64(r[i], r[i + 4]));
    }
}

static void
plane_2_sse2(uint8_t *dst, int64_t ds, const uint8_t *src, uint64_t rows,
             uint64_t cols, int64_t rs, int64_t cs)
{
    if (rs != 2) {
        plane_2(dst, ds, src, rows, cols, rs, cs);
        return;
    }
    uint64_t whole = rows / 8 * 8;
    for (uint64_t c = 0; c < cols; c += STRIP) {
        uint64_t n = cols - c < STRIP ? cols - c : STRIP;
        uint64_t tiled = n / 8 * 8;
        const uint8_t *s = src + (int64_t)c * cs;
        for (uint64_t r = 0; r < whole; r += 8) {
            uint8_t *d = dst + (int64_t)r * ds + c * 2;
            for (uint64_t i = 0; i < tiled; i += 8) {
                tile2_sse2(d + i * 2, ds, s + (int64_t)i * cs + r * 2, cs);
            }
            for (uint64_t k = r; k < r + 8 && tiled < n; k++) {
                row_2(dst + (int64_t)k * ds + (c + tiled) * 2,
                      s + (int64_t)tiled * cs + k * 2, cs, n - tiled);
            }
        }
        for (uint64_t r = whole; r < rows; r++) {
            row_2(dst + (int64_t)r * ds + c * 2, s + r * 2, cs, n);
        }
    }
}

static const t2m_kernel fast_sse2[LANES] = {
    {row_dense_1, plane_1},   {row_dense_2, plane_2_sse2},
    {row_dense_4, plane_4},   {row_dense_8, plane_8},
    {row_dense_16, plane_16},
};

static const t2m_kernel fast_avx2[LANES] = {
    {row_dense_1, plane_1},      {row_dense_2, plane_2_sse2},
    {row_dense_4, plane_4_avx2}, {row_dense_8, plane_8},
    {row_dense_16, plane_16},
};

static const t2m_kernel *
fast_table(void)
{
    return __builtin_cpu_supports("avx2") ? fast_avx2 : fast_sse2;
}

#else

/* On arm64 the scalar loops are vectorised by the compiler: NEON is part of
   the base instruction set. */
static const t2m_kernel *
fast_table(void)
{
    return scalar;
}

#endif

const t2m_kernel *
t2m_kernel_for(size_t itemsize, int simd)
{
    const t2m_kernel *kernels = simd ? fast_table() : scalar;
    for (int i = 0; i < LANES; i++) {
        if (sizes[i] == itemsize) {
            return &kernels[i];
        }
    }
    return NULL;
}
