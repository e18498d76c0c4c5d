#include "dtype.h"

#include <string.h>

static const t2m_dtype_info table[] = {
#define DTYPE(id, bytes, tag, torch, mlx, numpy, format, code, bits)          \
    {bytes, tag, torch, mlx, numpy, format, code, bits},
#include "dtypes.def"
#undef DTYPE
};

static int
same(const char *name, const char *text, size_t length)
{
    return strlen(name) == length && memcmp(name, text, length) == 0;
}

const t2m_dtype_info *
t2m_dtype_get(t2m_dtype dtype)
{
    return &table[dtype];
}

int
t2m_dtype_from_tag(const char *text, size_t length)
{
    for (int i = 0; i < T2M_DTYPE_COUNT; i++) {
        if (same(table[i].tag, text, length)) {
            return i;
        }
    }
    return -1;
}

int
t2m_dtype_from_name(const char *text, size_t length)
{
    for (int i = 0; i < T2M_DTYPE_COUNT; i++) {
        if (same(table[i].torch, text, length)) {
            return i;
        }
    }
    return -1;
}

int
t2m_dtype_from_dlpack(int code, int bits)
{
    for (int i = 0; i < T2M_DTYPE_COUNT; i++) {
        if (table[i].dl_code == code && table[i].dl_bits == bits) {
            return i;
        }
    }
    return -1;
}
