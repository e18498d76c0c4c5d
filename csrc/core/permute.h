/* Strided gather: reads items of any stride pattern, writes a dense block.

   A view borrows its memory; nothing here allocates or frees.  Transposing,
   splitting or slicing a tensor changes the view only: bytes move once, in
   t2m_gather. */
#ifndef T2M_PERMUTE_H
#define T2M_PERMUTE_H

#include "status.h"

#include <stdint.h>
#include <stddef.h>

/* Views of more dimensions than this are refused. */
#define T2M_MAX_RANK 16

typedef struct {
    const uint8_t *data; /* first item (index 0, 0, ...); may be unaligned */
    int rank;
    uint64_t shape[T2M_MAX_RANK];
    int64_t strides[T2M_MAX_RANK]; /* in bytes; any sign, or 0 */
} t2m_view;

/* A gather, prepared: size-1 dimensions dropped, neighbours merged. */
typedef struct {
    const uint8_t *data;
    size_t itemsize;
    uint64_t count; /* items in all */
    int rank;
    int dense; /* 1: source already lies in output order */
    int pair;  /* dimension to transpose against the last, or -1: rows */
    uint64_t shape[T2M_MAX_RANK];
    int64_t strides[T2M_MAX_RANK];
    uint64_t inner[T2M_MAX_RANK]; /* items below one step of a dimension */
} t2m_gather_plan;

/* Counts the items of a shape into *count.
   Returns OVERFLOW when count * itemsize does not fit into 63 bits. */
t2m_status t2m_shape_count(int rank, const uint64_t *shape, size_t itemsize,
                           uint64_t *count);

/* Fills strides for a dense (C-order) block of this shape. */
void t2m_dense_strides(int rank, const uint64_t *shape, size_t itemsize,
                       int64_t *strides);

/* Prepares the gather of a view of items of 1, 2, 4, 8 or 16 bytes.
   Returns BAD_RANK, OVERFLOW, or BAD_DTYPE for another item size. */
t2m_status t2m_gather_prepare(const t2m_view *view, size_t itemsize,
                              t2m_gather_plan *plan);

/* Writes items [first, first + count) of the output order to dst, densely.
   The range must lie within the plan. With simd == 0 only the scalar
   kernels run (they are the reference for the tests). */
void t2m_gather(const t2m_gather_plan *plan, uint64_t first, uint64_t count,
                void *dst, int simd);

#endif
