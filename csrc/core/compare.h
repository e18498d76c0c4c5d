/* Difference of two tensors: how far apart, where, and what is not finite. */
#ifndef T2M_COMPARE_H
#define T2M_COMPARE_H

#include "dtype.h"
#include "permute.h"

typedef struct {
    uint64_t count;       /* items compared */
    uint64_t differing;   /* items whose values differ (NaN equals NaN) */
    double max_abs;       /* largest |a - b| over pairs of finite items */
    double max_rel;       /* largest |a - b| / |a| where a is finite, not 0 */
    double max_magnitude; /* largest finite |a| */
    uint64_t max_ulp;     /* largest distance in units of the last place, when
                             both have the same float dtype; else 0 */
    uint64_t worst; /* item index of max_abs (or of the first mismatch) */
    uint64_t nan_a, nan_b;
    uint64_t inf_a, inf_b;
    uint64_t mismatched; /* one side NaN or infinite, the other not, or
                            infinities of different sign */
} t2m_difference;

/* Compares two views of the same shape and any dtypes, in C order.
   Values are compared as doubles, so integers beyond 2**53 are compared
   after rounding, except where both dtypes are the same integer type.
   complex64 counts each component as an item.
   Returns BAD_SHAPE when shapes differ, or what preparing a view returns. */
t2m_status t2m_compare(const t2m_view *a, t2m_dtype adtype, const t2m_view *b,
                       t2m_dtype bdtype, t2m_difference *out);

#endif
