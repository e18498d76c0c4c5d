#include "cast.h"
#include "cast_formats.h"

#include <math.h>

/* Every source widens to one of five types without loss, every target is
   stored from each of the five; a block of this many items goes through the
   stack.  Pairs that matter for speed have loops of their own. */
#define BLOCK 512

typedef enum { WIDE_I64, WIDE_U64, WIDE_F32, WIDE_F64, WIDE_C64 } wide;

typedef union {
    int64_t i64[BLOCK];
    uint64_t u64[BLOCK];
    float f32[2 * BLOCK];
    double f64[BLOCK];
} wide_block;

#define LOAD(type, field, expr)                                               \
    for (uint64_t i = 0; i < n; i++) {                                        \
        type t;                                                               \
        memcpy(&t, src + i * sizeof t, sizeof t);                             \
        out->field[i] = expr;                                                 \
    }

/* Widens n <= BLOCK items; returns which member of the union holds them. */
static wide
load(wide_block *out, t2m_dtype from, const uint8_t *src, uint64_t n)
{
    switch (from) {
    case T2M_BOOL:
        LOAD(uint8_t, u64, t != 0)
        return WIDE_U64;
    case T2M_U8:
        LOAD(uint8_t, u64, t)
        return WIDE_U64;
    case T2M_I8:
        LOAD(int8_t, i64, t)
        return WIDE_I64;
    case T2M_U16:
        LOAD(uint16_t, u64, t)
        return WIDE_U64;
    case T2M_I16:
        LOAD(int16_t, i64, t)
        return WIDE_I64;
    case T2M_U32:
        LOAD(uint32_t, u64, t)
        return WIDE_U64;
    case T2M_I32:
        LOAD(int32_t, i64, t)
        return WIDE_I64;
    case T2M_U64:
        LOAD(uint64_t, u64, t)
        return WIDE_U64;
    case T2M_I64:
        LOAD(int64_t, i64, t)
        return WIDE_I64;
    case T2M_F16:
        LOAD(uint16_t, f32, t2m_widen(t, T2M_FORMAT_F16))
        return WIDE_F32;
    case T2M_BF16:
        LOAD(uint16_t, f32, t2m_bf16_to(t))
        return WIDE_F32;
    case T2M_F8_E4M3:
        LOAD(uint8_t, f32, t2m_widen(t, T2M_FORMAT_E4M3))
        return WIDE_F32;
    case T2M_F8_E5M2:
        LOAD(uint8_t, f32, t2m_widen(t, T2M_FORMAT_E5M2))
        return WIDE_F32;
    case T2M_F32:
        memcpy(out->f32, src, n * sizeof(float));
        return WIDE_F32;
    case T2M_F64:
        memcpy(out->f64, src, n * sizeof(double));
        return WIDE_F64;
    default:
        memcpy(out->f32, src, n * 2 * sizeof(float));
        return WIDE_C64;
    }
}

/* A 64-bit integer as a double rounded to odd: its last bit is set when
   bits were lost, so that a second rounding to fewer bits is exact. */
static double
odd_u64(uint64_t v)
{
    if (v >> 53 == 0) {
        return (double)v;
    }
    int shift = 64 - __builtin_clzll(v) - 53;
    uint64_t kept = v >> shift;
    uint64_t lost = v & ((1ull << shift) - 1);
    return (double)(kept | (lost != 0)) * (double)(1ull << shift);
}

static double
odd_i64(int64_t v)
{
    return v < 0 ? -odd_u64(0 - (uint64_t)v) : odd_u64((uint64_t)v);
}

/* Truncates toward zero into [low, high]; NaN gives 0. */
static int64_t
to_i64(double x, int bits)
{
    double limit = (double)(1ull << (bits - 1));
    if (x != x) {
        return 0;
    }
    if (x >= limit) {
        return (int64_t)((1ull << (bits - 1)) - 1);
    }
    if (x < -limit) {
        return -(int64_t)((1ull << (bits - 1)) - 1) - 1;
    }
    return (int64_t)x;
}

static uint64_t
to_u64(double x, int bits)
{
    double limit = (double)(1ull << (bits - 1)) * 2;
    if (x != x || x <= 0) {
        return 0;
    }
    if (x >= limit) {
        return bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
    }
    return (uint64_t)x;
}

#define EACH(type, expr)                                                      \
    for (uint64_t i = 0; i < n; i++) {                                        \
        type t = (type)(expr);                                                \
        memcpy(dst + i * sizeof t, &t, sizeof t);                             \
    }

/* One store loop for each of the five wide types. */
#define STORE(type, from_i, from_u, from_f, from_d)                           \
    switch (kind) {                                                           \
    case WIDE_I64:                                                            \
        EACH(type, from_i(in->i64[i]))                                        \
        break;                                                                \
    case WIDE_U64:                                                            \
        EACH(type, from_u(in->u64[i]))                                        \
        break;                                                                \
    case WIDE_F32:                                                            \
        EACH(type, from_f(in->f32[i]))                                        \
        break;                                                                \
    default:                                                                  \
        EACH(type, from_d(in->f64[i]))                                        \
        break;                                                                \
    }

#define SAME(x)      (x)
#define NONZERO(x)   ((x) != 0)
#define TRUNC_I8(x)  to_i64(x, 8)
#define TRUNC_I16(x) to_i64(x, 16)
#define TRUNC_I32(x) to_i64(x, 32)
#define TRUNC_I64(x) to_i64(x, 64)
#define TRUNC_U8(x)  to_u64(x, 8)
#define TRUNC_U16(x) to_u64(x, 16)
#define TRUNC_U32(x) to_u64(x, 32)
#define TRUNC_U64(x) to_u64(x, 64)
#define F16_F(x)     t2m_narrow(x, T2M_FORMAT_F16)
#define F16_I(x)     t2m_narrow(odd_i64(x), T2M_FORMAT_F16)
#define F16_U(x)     t2m_narrow(odd_u64(x), T2M_FORMAT_F16)
#define BF16_F(x)    t2m_narrow(x, T2M_FORMAT_BF16)
#define BF16_I(x)    t2m_narrow(odd_i64(x), T2M_FORMAT_BF16)
#define BF16_U(x)    t2m_narrow(odd_u64(x), T2M_FORMAT_BF16)
#define E4M3_F(x)    t2m_narrow(x, T2M_FORMAT_E4M3)
#define E4M3_I(x)    t2m_narrow(odd_i64(x), T2M_FORMAT_E4M3)
#define E4M3_U(x)    t2m_narrow(odd_u64(x), T2M_FORMAT_E4M3)
#define E5M2_F(x)    t2m_narrow(x, T2M_FORMAT_E5M2)
#define E5M2_I(x)    t2m_narrow(odd_i64(x), T2M_FORMAT_E5M2)
#define E5M2_U(x)    t2m_narrow(odd_u64(x), T2M_FORMAT_E5M2)

static void
store(t2m_dtype to, uint8_t *dst, wide kind, const wide_block *in, uint64_t n)
{
    switch (to) {
    case T2M_BOOL:
        STORE(uint8_t, NONZERO, NONZERO, NONZERO, NONZERO)
        break;
    case T2M_U8:
        STORE(uint8_t, SAME, SAME, TRUNC_U8, TRUNC_U8)
        break;
    case T2M_I8:
        STORE(int8_t, SAME, SAME, TRUNC_I8, TRUNC_I8)
        break;
    case T2M_U16:
        STORE(uint16_t, SAME, SAME, TRUNC_U16, TRUNC_U16)
        break;
    case T2M_I16:
        STORE(int16_t, SAME, SAME, TRUNC_I16, TRUNC_I16)
        break;
    case T2M_U32:
        STORE(uint32_t, SAME, SAME, TRUNC_U32, TRUNC_U32)
        break;
    case T2M_I32:
        STORE(int32_t, SAME, SAME, TRUNC_I32, TRUNC_I32)
        break;
    case T2M_U64:
        STORE(uint64_t, SAME, SAME, TRUNC_U64, TRUNC_U64)
        break;
    case T2M_I64:
        STORE(int64_t, SAME, SAME, TRUNC_I64, TRUNC_I64)
        break;
    case T2M_F16:
        STORE(uint16_t, F16_I, F16_U, F16_F, F16_F)
        break;
    case T2M_BF16:
        STORE(uint16_t, BF16_I, BF16_U, t2m_bf16_of, BF16_F)
        break;
    case T2M_F8_E4M3:
        STORE(uint8_t, E4M3_I, E4M3_U, E4M3_F, E4M3_F)
        break;
    case T2M_F8_E5M2:
        STORE(uint8_t, E5M2_I, E5M2_U, E5M2_F, E5M2_F)
        break;
    case T2M_F32:
        STORE(float, SAME, SAME, SAME, SAME)
        break;
    case T2M_F64:
        STORE(double, SAME, SAME, SAME, SAME)
        break;
    default: {
        /* complex64: the real part as float32, then zeros between. */
        float re[BLOCK];
        store(T2M_F32, (uint8_t *)re, kind, in, n);
        for (uint64_t i = 0; i < n; i++) {
            float z[2] = {re[i], 0};
            memcpy(dst + i * sizeof z, z, sizeof z);
        }
    }
    }
}

t2m_status
t2m_cast_check(t2m_dtype from, t2m_dtype to)
{
    return from == T2M_C64 && to != T2M_C64 ? T2M_BAD_CAST : T2M_OK;
}

void
t2m_cast(t2m_dtype to, void *dst, t2m_dtype from, const void *src,
         uint64_t count, t2m_cast_loop fast)
{
    uint8_t *d = dst;
    const uint8_t *s = src;
    size_t dn = t2m_dtype_get(to)->bytes;
    size_t sn = t2m_dtype_get(from)->bytes;

    if (to == from) {
        memcpy(d, s, count * dn);
        return;
    }
    if (fast) {
        uint64_t done = fast(d, s, count);
        d += done * dn;
        s += done * sn;
        count -= done;
    }
    while (count > 0) {
        wide_block block;
        uint64_t n = count < BLOCK ? count : BLOCK;
        wide kind = load(&block, from, s, n);
        store(to, d, kind, &block, n);
        d += n * dn;
        s += n * sn;
        count -= n;
    }
}

/* Whether any of n items has the bits of an infinity (of the NaN without
   payload for float8_e4m3fn), its sign aside. */
#define HAS_BITS(name, type, mask, bits)                                      \
    static int name(const uint8_t *items, uint64_t n)                         \
    {                                                                         \
        type found = 0;                                                       \
        for (uint64_t i = 0; i < n; i++) {                                    \
            type t;                                                           \
            memcpy(&t, items + i * sizeof t, sizeof t);                       \
            found |= (type)((t & (mask)) == (bits));                          \
        }                                                                     \
        return found != 0;                                                    \
    }

HAS_BITS(infinite_f16, uint16_t, 0x7fff, 0x7c00)
HAS_BITS(infinite_bf16, uint16_t, 0x7fff, 0x7f80)
HAS_BITS(infinite_f32, uint32_t, 0x7fffffff, 0x7f800000)
HAS_BITS(infinite_e5m2, uint8_t, 0x7f, 0x7c)
HAS_BITS(infinite_e4m3, uint8_t, 0x7f, 0x7f)

static int
has_infinite(t2m_dtype dtype, const uint8_t *items, uint64_t n)
{
    switch (dtype) {
    case T2M_F16:
        return infinite_f16(items, n);
    case T2M_BF16:
        return infinite_bf16(items, n);
    case T2M_F32:
        return infinite_f32(items, n);
    case T2M_F8_E5M2:
        return infinite_e5m2(items, n);
    case T2M_F8_E4M3:
        return infinite_e4m3(items, n);
    default:
        return 0;
    }
}

int
t2m_cast_lost(t2m_dtype to, const void *dst, t2m_dtype from, const void *src,
              uint64_t count)
{
    const uint8_t *d = dst, *s = src;
    size_t dn = t2m_dtype_get(to)->bytes;
    size_t sn = t2m_dtype_get(from)->bytes;

    if (from == to || !has_infinite(to, d, count)) {
        return 0;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (has_infinite(to, d + i * dn, 1) &&
            isfinite(t2m_item_as_double(from, s + i * sn))) {
            return 1;
        }
    }
    return 0;
}

double
t2m_item_as_double(t2m_dtype dtype, const void *item)
{
    wide_block block;
    switch (load(&block, dtype, item, 1)) {
    case WIDE_I64:
        return (double)block.i64[0];
    case WIDE_U64:
        return (double)block.u64[0];
    case WIDE_F64:
        return block.f64[0];
    default:
        return block.f32[0];
    }
}
