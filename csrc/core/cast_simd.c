#include "cast.h"

#include <stddef.h>

typedef struct {
    t2m_dtype to, from;
    t2m_cast_loop loop;
} row;

static t2m_cast_loop
find(const row *rows, size_t n, t2m_dtype to, t2m_dtype from)
{
    for (size_t i = 0; i < n; i++) {
        if (rows[i].to == to && rows[i].from == from) {
            return rows[i].loop;
        }
    }
    return NULL;
}

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

/* AVX512_BF16's own conversion treats subnormals as zero, so bfloat16 is
   rounded with integer arithmetic instead. */
__attribute__((target("avx2"))) static inline __m256i
round_bf16_avx2(__m256i b)
{
    __m256i magnitude = _mm256_and_si256(b, _mm256_set1_epi32(0x7fffffff));
    __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(b, 16), _mm256_set1_epi32(1));
    __m256i up =
        _mm256_add_epi32(b, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(b, _mm256_set1_epi32(0x400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
}

__attribute__((target("avx2"))) static uint64_t
f32_bf16_avx2(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i *s = (const __m256i *)(src + i * 4);
        __m256i a = round_bf16_avx2(_mm256_loadu_si256(s));
        __m256i b = round_bf16_avx2(_mm256_loadu_si256(s + 1));
        __m256i packed =
            _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
        _mm256_storeu_si256((__m256i *)(dst + i * 2), packed);
    }
    return i;
}

__attribute__((target("avx2"))) static uint64_t
bf16_f32_avx2(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(src + i * 2));
        __m256i w = _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
        _mm256_storeu_si256((__m256i *)(dst + i * 4), w);
    }
    return i;
}

__attribute__((target("avx2,f16c"))) static uint64_t
f32_f16_avx2(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const float *s = (const float *)(const void *)(src + i * 4);
        __m128i a =
            _mm256_cvtps_ph(_mm256_loadu_ps(s), _MM_FROUND_TO_NEAREST_INT);
        __m128i b =
            _mm256_cvtps_ph(_mm256_loadu_ps(s + 8), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(dst + i * 2), a);
        _mm_storeu_si128((__m128i *)(dst + i * 2 + 16), b);
    }
    return i;
}

__attribute__((target("avx2,f16c"))) static uint64_t
f16_f32_avx2(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(src + i * 2));
        _mm256_storeu_ps((float *)(void *)(dst + i * 4), _mm256_cvtph_ps(h));
    }
    return i;
}

__attribute__((target("avx512f"))) static uint64_t
f32_f16_avx512(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 w = _mm512_loadu_ps(src + i * 4);
        _mm256_storeu_si256((__m256i *)(dst + i * 2),
                            _mm512_cvtps_ph(w, _MM_FROUND_TO_NEAREST_INT));
    }
    return i;
}

static const row avx2_rows[] = {
    {T2M_BF16, T2M_F32, f32_bf16_avx2},
    {T2M_F32, T2M_BF16, bf16_f32_avx2},
};

static const row f16c_rows[] = {
    {T2M_F16, T2M_F32, f32_f16_avx2},
    {T2M_F32, T2M_F16, f16_f32_avx2},
};

static const row avx512_rows[] = {
    {T2M_F16, T2M_F32, f32_f16_avx512},
};

/* clang's __builtin_cpu_supports does not know F16C: CPUID leaf 1, ECX 29. */
static int
has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

t2m_cast_loop
t2m_cast_fast(t2m_dtype to, t2m_dtype from)
{
    t2m_cast_loop loop = NULL;

    if (__builtin_cpu_supports("avx512f")) {
        loop = find(avx512_rows, COUNT(avx512_rows), to, from);
    }
    if (!loop && __builtin_cpu_supports("avx2")) {
        loop = find(avx2_rows, COUNT(avx2_rows), to, from);
        if (!loop && has_f16c()) {
            loop = find(f16c_rows, COUNT(f16c_rows), to, from);
        }
    }
    return loop;
}

#elif defined(__aarch64__)
#include <arm_neon.h>

static uint64_t
f32_bf16_neon(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32x4_t b = vreinterpretq_u32_u8(vld1q_u8(src + i * 4));
        uint32x4_t nan = vcgtq_u32(vandq_u32(b, vdupq_n_u32(0x7fffffffu)),
                                   vdupq_n_u32(0x7f800000u));
        uint32x4_t odd = vandq_u32(vshrq_n_u32(b, 16), vdupq_n_u32(1));
        uint32x4_t up = vaddq_u32(b, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        uint32x4_t quiet = vorrq_u32(b, vdupq_n_u32(0x400000));
        uint16x4_t h = vshrn_n_u32(vbslq_u32(nan, quiet, up), 16);
        vst1_u8(dst + i * 2, vreinterpret_u8_u16(h));
    }
    return i;
}

static uint64_t
bf16_f32_neon(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint16x4_t h = vreinterpret_u16_u8(vld1_u8(src + i * 2));
        vst1q_u8(dst + i * 4, vreinterpretq_u8_u32(vshll_n_u16(h, 16)));
    }
    return i;
}

static uint64_t
f32_f16_neon(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t w = vreinterpretq_f32_u8(vld1q_u8(src + i * 4));
        vst1_u8(dst + i * 2, vreinterpret_u8_f16(vcvt_f16_f32(w)));
    }
    return i;
}

static uint64_t
f16_f32_neon(uint8_t *dst, const uint8_t *src, uint64_t n)
{
    uint64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float16x4_t h = vreinterpret_f16_u8(vld1_u8(src + i * 2));
        vst1q_u8(dst + i * 4, vreinterpretq_u8_f32(vcvt_f32_f16(h)));
    }
    return i;
}

static const row neon_rows[] = {
    {T2M_BF16, T2M_F32, f32_bf16_neon},
    {T2M_F32, T2M_BF16, bf16_f32_neon},
    {T2M_F16, T2M_F32, f32_f16_neon},
    {T2M_F32, T2M_F16, f16_f32_neon},
};

t2m_cast_loop
t2m_cast_fast(t2m_dtype to, t2m_dtype from)
{
    return find(neon_rows, COUNT(neon_rows), to, from);
}

#else

t2m_cast_loop
t2m_cast_fast(t2m_dtype to, t2m_dtype from)
{
    return find(NULL, 0, to, from);
}

#endif
