/* The inner loops of the gather, one row of a table per item size.
   Private to permute.c. */
#ifndef T2M_PERMUTE_KERNELS_H
#define T2M_PERMUTE_KERNELS_H

#include <stdint.h>
#include <stddef.h>

typedef struct {
    /* n items, stride bytes apart, to dst densely. */
    void (*row)(uint8_t *dst, const uint8_t *src, int64_t stride, uint64_t n);
    /* rows x cols items: to dst + row * ds, densely along the columns, from
       src + row * rs + col * cs. */
    void (*plane)(uint8_t *dst, int64_t ds, const uint8_t *src, uint64_t rows,
                  uint64_t cols, int64_t rs, int64_t cs);
} t2m_kernel;

/* Returns the kernels of an item size, or NULL where there are none.
   simd: 1 takes the fastest the processor has, 0 the scalar twin. */
const t2m_kernel *t2m_kernel_for(size_t itemsize, int simd);

#endif
