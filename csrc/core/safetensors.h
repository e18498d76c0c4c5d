/* Reader and writer of the safetensors format.

   A parsed header owns its entries and names; the tensor bytes stay in the
   caller's memory and are given as offsets into the data section. */
#ifndef T2M_SAFETENSORS_H
#define T2M_SAFETENSORS_H

#include "dtype.h"
#include "permute.h"
#include "status.h"

/* A longer header is refused (the limit of the format's own reader). */
#define T2M_ST_MAX_HEADER 100000000u

typedef struct {
    const char *name; /* UTF-8, not terminated */
    size_t name_length;
    t2m_dtype dtype;
    int rank;
    uint64_t shape[T2M_MAX_RANK];
    uint64_t begin, end; /* in the data section */
} t2m_st_entry;

typedef struct {
    const char *key, *value; /* UTF-8, not terminated */
    size_t key_length, value_length;
} t2m_st_meta;

typedef struct {
    t2m_st_entry *entries; /* in header order */
    size_t count;
    t2m_st_meta *meta; /* the strings of __metadata__ */
    size_t meta_count;
    uint64_t data_start; /* of the data section in the file */
    char *text;          /* owns all names and strings */
} t2m_st_header;

/* Parses and validates a whole file of `length` bytes: every byte of the
   data section belongs to exactly one tensor.  On failure *out is empty and
   *where says where. */
t2m_status t2m_st_parse(const uint8_t *file, uint64_t length,
                        t2m_st_header *out, t2m_where *where);

void t2m_st_free(t2m_st_header *header);

/* Builds the 8-byte length and header of a file, padded with spaces so that
   the data section starts at a multiple of 8.  *out is malloc'ed; the caller
   frees it.  Entries are written in the given order. */
t2m_status t2m_st_build(const t2m_st_entry *entries, size_t count,
                        const t2m_st_meta *meta, size_t meta_count,
                        uint8_t **out, size_t *out_length);

#endif
