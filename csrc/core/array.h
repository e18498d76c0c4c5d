/* An array that doubles when it is full: items, how many they are and how
   many there is room for are kept by whoever owns it. */
#ifndef T2M_ARRAY_H
#define T2M_ARRAY_H

#include "size.h"
#include "status.h"

#include <stdlib.h>

/* Makes room for one more item of `item` bytes in an array that holds
   `count`; T2M_OVERFLOW, T2M_NO_MEMORY, and the array stays as it was. */
static inline t2m_status
t2m_array_grow(void **items, size_t *capacity, size_t count, size_t item)
{
    if (count < *capacity) {
        return T2M_OK;
    }
    size_t wanted = *capacity ? *capacity * 2 : 64;
    uint64_t bytes;
    if (t2m_mul(wanted, item, &bytes)) {
        return T2M_OVERFLOW;
    }
    void *bigger = realloc(*items, bytes);
    if (!bigger) {
        return T2M_NO_MEMORY;
    }
    *items = bigger;
    *capacity = wanted;
    return T2M_OK;
}

#endif
