/* Vector loops for the dtype pairs that weights are made of, chosen by what
   the processor reports at run time. Private to cast.c. */
#ifndef T2M_CAST_SIMD_H
#define T2M_CAST_SIMD_H

#include "dtype.h"

#include <stdint.h>

/* Converts a leading part of n items and returns how many; the scalar code
   does the rest. */
typedef uint64_t (*t2m_cast_loop)(uint8_t *dst, const uint8_t *src,
                                  uint64_t n);

/* Returns the loop for a pair on this processor, or NULL. */
t2m_cast_loop t2m_cast_fast(t2m_dtype to, t2m_dtype from);

#endif
