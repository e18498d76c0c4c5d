#include "compare.h"
#include "cast.h"

#include <math.h>
#include <string.h>

/* Items per step: gathered and widened on the stack. */
#define STEP 256

/* Maps float bits to integers that count representable numbers. */
static int64_t
ordered(uint64_t bits, int width)
{
    uint64_t sign = 1ull << (width - 1);
    return bits & sign ? -(int64_t)(bits & (sign - 1)) : (int64_t)bits;
}

static int
ulp_width(t2m_dtype a, t2m_dtype b)
{
    if (a != b) {
        return 0;
    }
    switch (a) {
    case T2M_F16:
    case T2M_BF16:
        return 16;
    case T2M_F32:
        return 32;
    case T2M_F64:
        return 64;
    case T2M_F8_E4M3:
    case T2M_F8_E5M2:
        return 8;
    default:
        return 0;
    }
}

static uint64_t
ulp_distance(const uint8_t *a, const uint8_t *b, int width)
{
    uint64_t x = 0, y = 0;
    memcpy(&x, a, (size_t)width / 8);
    memcpy(&y, b, (size_t)width / 8);
    int64_t i = ordered(x, width), j = ordered(y, width);
    return i > j ? (uint64_t)i - (uint64_t)j : (uint64_t)j - (uint64_t)i;
}

/* Counts what is special about the pair; returns 1 when both are finite. */
static int
both_finite(double x, double y, t2m_difference *d, uint64_t index)
{
    d->nan_a += isnan(x) != 0;
    d->nan_b += isnan(y) != 0;
    d->inf_a += isinf(x) != 0;
    d->inf_b += isinf(y) != 0;
    if (isfinite(x) && isfinite(y)) {
        return 1;
    }
    if (!(isnan(x) && isnan(y)) && x != y) {
        if (d->mismatched == 0) {
            d->worst = index;
        }
        d->mismatched++;
        d->differing++;
    }
    return 0;
}

static void
count_pair(double x, double y, t2m_difference *d, uint64_t index)
{
    double gap = fabs(x - y);
    double size = fabs(x);

    if (size > d->max_magnitude) {
        d->max_magnitude = size;
    }
    if (gap == 0) {
        return;
    }
    d->differing++;
    if (gap > d->max_abs) {
        d->max_abs = gap;
        if (d->mismatched == 0) {
            d->worst = index;
        }
    }
    if (size > 0 && gap / size > d->max_rel) {
        d->max_rel = gap / size;
    }
}

typedef struct {
    t2m_gather_plan plan;
    t2m_dtype dtype;
    size_t bytes;
    uint8_t items[STEP * 8];
} side;

static t2m_status
open_side(side *s, const t2m_view *view, t2m_dtype dtype)
{
    s->dtype = dtype;
    s->bytes = t2m_dtype_get(dtype)->bytes;
    return t2m_gather_prepare(view, s->bytes, &s->plan);
}

static void
compare_step(const side *a, const side *b, uint64_t n, uint64_t base,
             t2m_difference *d)
{
    int width = ulp_width(a->dtype, b->dtype);
    int exact = a->dtype == b->dtype && a->dtype <= T2M_I64;

    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *p = a->items + i * a->bytes;
        const uint8_t *q = b->items + i * b->bytes;
        double x = t2m_item_as_double(a->dtype, p);
        double y = t2m_item_as_double(b->dtype, q);
        if (both_finite(x, y, d, base + i)) {
            count_pair(x, y, d, base + i);
            /* 64-bit integers that differ only below double's precision. */
            if (exact && x == y && memcmp(p, q, a->bytes) != 0) {
                d->differing++;
            }
            if (width) {
                uint64_t ulp = ulp_distance(p, q, width);
                d->max_ulp = ulp > d->max_ulp ? ulp : d->max_ulp;
            }
        }
    }
}

/* A complex view as a float view with a last dimension of 2. */
static t2m_status
as_real(t2m_view *v, t2m_dtype *dtype)
{
    if (*dtype != T2M_C64) {
        return T2M_OK;
    }
    if (v->rank == T2M_MAX_RANK) {
        return T2M_BAD_RANK;
    }
    v->shape[v->rank] = 2;
    v->strides[v->rank] = 4;
    v->rank++;
    *dtype = T2M_F32;
    return T2M_OK;
}

t2m_status
t2m_compare(const t2m_view *a, t2m_dtype adtype, const t2m_view *b,
            t2m_dtype bdtype, t2m_difference *out)
{
    t2m_view va = *a, vb = *b;
    side sa, sb;
    t2m_status status;

    memset(out, 0, sizeof *out);
    if ((adtype == T2M_C64) != (bdtype == T2M_C64)) {
        return T2M_BAD_CAST;
    }
    if ((status = as_real(&va, &adtype)) != T2M_OK ||
        (status = as_real(&vb, &bdtype)) != T2M_OK) {
        return status;
    }
    if (va.rank != vb.rank ||
        memcmp(va.shape, vb.shape, sizeof(uint64_t) * (size_t)va.rank) != 0) {
        return T2M_BAD_SHAPE;
    }
    if ((status = open_side(&sa, &va, adtype)) != T2M_OK ||
        (status = open_side(&sb, &vb, bdtype)) != T2M_OK) {
        return status;
    }
    out->count = sa.plan.count;
    for (uint64_t i = 0; i < out->count; i += STEP) {
        uint64_t n = out->count - i < STEP ? out->count - i : STEP;
        t2m_gather(&sa.plan, i, n, sa.items, 1);
        t2m_gather(&sb.plan, i, n, sb.items, 1);
        compare_step(&sa, &sb, n, i, out);
    }
    return T2M_OK;
}
