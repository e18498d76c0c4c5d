/* The largest finite magnitude in a tensor of doubles. */
#ifndef T2M_LARGEST_H
#define T2M_LARGEST_H

#include "dtype.h"
#include "permute.h"

/* Finds the largest finite |x| in a view of float64; 0 where there is none.
   Returns BAD_CAST for another dtype, or what preparing a view returns. */
t2m_status t2m_largest(const t2m_view *view, t2m_dtype dtype, double *out);

#endif
