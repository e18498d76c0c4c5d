/* Conversion between dtypes over dense blocks.

   To a float type: round to nearest, ties to even; overflow gives infinity
   (NaN for float8_e4m3fn, which has no infinity); NaN stays NaN.
   To an integer type: floats truncate toward zero and saturate, NaN gives 0;
   integers wrap modulo 2**bits.  To bool: not equal to zero.
   Real to complex64 sets the imaginary part to 0; complex64 converts to
   nothing but itself, because a real type would lose the imaginary part. */
#ifndef T2M_CAST_H
#define T2M_CAST_H

#include "dtype.h"
#include "status.h"

#include <stdint.h>

/* Returns OK when `from` converts to `to`, else BAD_CAST. */
t2m_status t2m_cast_check(t2m_dtype from, t2m_dtype to);

/* Converts a leading part of n items and returns how many; the scalar code
   does the rest. */
typedef uint64_t (*t2m_cast_loop)(uint8_t *dst, const uint8_t *src,
                                  uint64_t n);

/* Returns the vector loop for a pair on this processor, or NULL. To be asked
   once, not for each block: asking a processor what it can do takes as long
   as converting some thousand items. */
t2m_cast_loop t2m_cast_fast(t2m_dtype to, t2m_dtype from);

/* Converts count items; neither pointer needs alignment and the blocks must
   not overlap. The pair must have passed t2m_cast_check. `fast` is what
   t2m_cast_fast gives for it; NULL takes the scalar twin, which gives the
   same bits. */
void t2m_cast(t2m_dtype to, void *dst, t2m_dtype from, const void *src,
              uint64_t count, t2m_cast_loop fast);

/* Whether a cast of those blocks made an item infinite (NaN for
   float8_e4m3fn) that was finite; 0 where `to` is no float type. */
int t2m_cast_lost(t2m_dtype to, const void *dst, t2m_dtype from,
                  const void *src, uint64_t count);

/* One item as a double (the real part of complex64), for comparison.
   64-bit integers beyond 2**53 round. */
double t2m_item_as_double(t2m_dtype dtype, const void *item);

#endif
