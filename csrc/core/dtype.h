/* The dtypes of the project: one table, looked up by id or by any name. */
#ifndef T2M_DTYPE_H
#define T2M_DTYPE_H

#include <stddef.h>

typedef enum {
#define DTYPE(id, bytes, tag, torch, mlx, numpy, format, code, bits) T2M_##id,
#include "dtypes.def"
#undef DTYPE
    T2M_DTYPE_COUNT
} t2m_dtype;

/* What stands for a dtype where there is none of the table. */
enum {
    T2M_DTYPE_OTHER = -1,  /* a dtype that is none of ours */
    T2M_DTYPE_UNTYPED = -2 /* bytes, whose dtype each tensor says */
};

typedef struct {
    size_t bytes;       /* size of one item */
    const char *tag;    /* in a safetensors header */
    const char *torch;  /* torch.<name> */
    const char *mlx;    /* mlx.core.<name>, "" where MLX has none */
    const char *numpy;  /* numpy or ml_dtypes name */
    const char *format; /* of the exported buffer (PEP 3118) */
    int dl_code;        /* DLPack type code */
    int dl_bits;        /* DLPack bits */
} t2m_dtype_info;

/* Returns the row of a dtype; the argument must be a valid id. */
const t2m_dtype_info *t2m_dtype_get(t2m_dtype dtype);

/* Finds a dtype by its safetensors tag of the given length.
   Returns the id, or T2M_DTYPE_OTHER when there is none. */
int t2m_dtype_from_tag(const char *text, size_t length);

/* Whether a text is a safetensors tag of a dtype that is none of ours: capital
   letters, digits and '_', from a letter on.  *bits gets the bits of an item,
   or 0 where nothing is known of it. */
int t2m_foreign_tag(const char *text, size_t length, unsigned *bits);

/* Finds a dtype by its torch name (which is also the numpy name of all).
   Returns the id, or T2M_DTYPE_OTHER. */
int t2m_dtype_from_name(const char *text, size_t length);

/* Finds a dtype by DLPack code and bits. Returns the id, or T2M_DTYPE_OTHER.
 */
int t2m_dtype_from_dlpack(int code, int bits);

#endif
