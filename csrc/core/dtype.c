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
    return T2M_DTYPE_OTHER;
}

/* Tags of dtypes that neither torch nor MLX computes with, or MLX alone
   lacks.  What packs items into bytes has to fill whole ones. */
static const struct {
    const char *tag;
    unsigned bits;
} foreign[] = {
    {"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"C128", 128},
};

#define MAX_TAG 32

int
t2m_foreign_tag(const char *text, size_t length, unsigned *bits)
{
    *bits = 0;
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        if (same(foreign[i].tag, text, length)) {
            *bits = foreign[i].bits;
        }
    }
    if (length == 0 || length > MAX_TAG || text[0] < 'A' || text[0] > 'Z') {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        char c = text[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) {
            return 0;
        }
    }
    return 1;
}

int
t2m_dtype_from_name(const char *text, size_t length)
{
    for (int i = 0; i < T2M_DTYPE_COUNT; i++) {
        if (same(table[i].torch, text, length)) {
            return i;
        }
    }
    return T2M_DTYPE_OTHER;
}

int
t2m_dtype_from_dlpack(int code, int bits)
{
    for (int i = 0; i < T2M_DTYPE_COUNT; i++) {
        if (table[i].dl_code == code && table[i].dl_bits == bits) {
            return i;
        }
    }
    return T2M_DTYPE_OTHER;
}
