#include "permute.h"
#include "permute_kernels.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

t2m_status
t2m_shape_count(int rank, const uint64_t *shape, size_t itemsize,
                uint64_t *count)
{
    uint64_t n = 1;
    int empty = 0;

    if (rank < 0 || rank > T2M_MAX_RANK) {
        return T2M_BAD_RANK;
    }
    for (int i = 0; i < rank; i++) {
        /* A zero must not hide an overflow of the other dimensions. */
        if (shape[i] == 0) {
            empty = 1;
        } else if (t2m_mul(n, shape[i], &n)) {
            return T2M_OVERFLOW;
        }
    }
    uint64_t bytes;
    if (t2m_mul(n, itemsize, &bytes) || bytes > INT64_MAX) {
        return T2M_OVERFLOW;
    }
    *count = empty ? 0 : n;
    return T2M_OK;
}

void
t2m_dense_strides(int rank, const uint64_t *shape, size_t itemsize,
                  int64_t *strides)
{
    int64_t step = (int64_t)itemsize;
    for (int i = rank - 1; i >= 0; i--) {
        strides[i] = step;
        if (shape[i] > 1) {
            step *= (int64_t)shape[i];
        }
    }
}

/* Drops size-1 dimensions and merges a dimension into the next inner one
   where stepping over the inner one equals one step of the outer. */
static void
coalesce(const t2m_view *view, t2m_gather_plan *plan)
{
    int r = 0;
    for (int i = 0; i < view->rank; i++) {
        if (view->shape[i] == 1) {
            continue;
        }
        uint64_t n = view->shape[i];
        int64_t s = view->strides[i];
        int64_t span;
        if (r > 0 && !__builtin_mul_overflow((int64_t)n, s, &span) &&
            plan->strides[r - 1] == span) {
            plan->shape[r - 1] *= n;
            plan->strides[r - 1] = s;
        } else {
            plan->shape[r] = n;
            plan->strides[r] = s;
            r++;
        }
    }
    plan->rank = r;
}

/* Picks the dimension to transpose against the last one: that with the
   smallest steps, so that source lines are used whole. -1 when the last
   dimension is dense itself and rows are copied. */
static int
choose_pair(const t2m_gather_plan *p)
{
    int last = p->rank - 1;
    int best = -1;

    if (last < 1 || p->strides[last] == (int64_t)p->itemsize) {
        return -1;
    }
    for (int i = 0; i < last; i++) {
        if (best < 0 || llabs(p->strides[i]) <= llabs(p->strides[best])) {
            best = i;
        }
    }
    return best;
}

t2m_status
t2m_gather_prepare(const t2m_view *view, size_t itemsize,
                   t2m_gather_plan *plan)
{
    t2m_status status;

    status = t2m_shape_count(view->rank, view->shape, itemsize, &plan->count);
    if (status != T2M_OK) {
        return status;
    }
    if (t2m_kernel_for(itemsize, 0) == NULL) {
        return T2M_BAD_DTYPE;
    }
    plan->data = view->data;
    plan->itemsize = itemsize;
    plan->rank = 0;
    if (plan->count > 0) {
        coalesce(view, plan);
    }
    uint64_t inner = 1;
    for (int i = plan->rank - 1; i >= 0; i--) {
        plan->inner[i] = inner;
        inner *= plan->shape[i];
    }
    plan->pair = choose_pair(plan);
    plan->dense = plan->count == 0 || plan->rank == 0 ||
                  (plan->rank == 1 && plan->strides[0] == (int64_t)itemsize);
    return T2M_OK;
}

/* Runs the 2-D kernel (n rows along `pair`) for every index of the
   dimensions strictly between `dim` and the last one. */
static void
plane_below(const t2m_gather_plan *p, int dim, int pair, uint64_t n,
            int64_t ds, const uint8_t *src, uint8_t *dst, const t2m_kernel *k)
{
    int last = p->rank - 1;

    if (dim + 1 == last) {
        k->plane(dst, ds, src, n, p->shape[last], p->strides[pair],
                 p->strides[last]);
        return;
    }
    dim++;
    int64_t step = (int64_t)(p->inner[dim] * p->itemsize);
    for (uint64_t i = 0; i < p->shape[dim]; i++) {
        plane_below(p, dim, pair, n, ds, src, dst, k);
        src += p->strides[dim];
        dst += step;
    }
}

/* Copies the block spanned by dimensions [dim, rank), n indices in the first
   of them, to dst; `pair` (in that span, or -1) is taken by the 2-D kernel
   together with the last dimension, the others are looped over. */
static void
block(const t2m_gather_plan *p, int dim, uint64_t n, int pair,
      const uint8_t *src, uint8_t *dst, const t2m_kernel *k)
{
    int last = p->rank - 1;
    int64_t step = (int64_t)(p->inner[dim] * p->itemsize);

    if (dim == last) {
        k->row(dst, src, p->strides[last], n);
        return;
    }
    if (dim == pair) {
        plane_below(p, dim, pair, n, step, src, dst, k);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        block(p, dim + 1, p->shape[dim + 1], pair, src, dst, k);
        src += p->strides[dim];
        dst += step;
    }
}

/* Copies items [first, first + count) of dimensions [dim, rank): whole
   indices by block(), ragged ends by descending one dimension. */
static void
range(const t2m_gather_plan *p, int dim, uint64_t first, uint64_t count,
      const uint8_t *src, uint8_t *dst, const t2m_kernel *k)
{
    uint64_t inner = p->inner[dim];

    while (count > 0) {
        uint64_t i = first / inner;
        uint64_t off = first % inner;
        const uint8_t *at = src + (int64_t)i * p->strides[dim];
        uint64_t took;
        if (off == 0 && count >= inner) {
            uint64_t n = count / inner;
            block(p, dim, n, p->pair >= dim ? p->pair : -1, at, dst, k);
            took = n * inner;
        } else {
            took = inner - off < count ? inner - off : count;
            range(p, dim + 1, off, took, at, dst, k);
        }
        dst += took * p->itemsize;
        first += took;
        count -= took;
    }
}

void
t2m_gather(const t2m_gather_plan *plan, uint64_t first, uint64_t count,
           void *dst, int simd)
{
    if (count == 0) {
        return;
    }
    if (plan->dense) {
        memcpy(dst, plan->data + first * plan->itemsize,
               count * plan->itemsize);
        return;
    }
    range(plan, 0, first, count, plan->data, dst,
          t2m_kernel_for(plan->itemsize, simd));
}
