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

/* The one name that no tensor can have. */
#define T2M_ST_RESERVED "__metadata__"

/* Why a sound entry cannot be a tensor here. */
typedef enum {
    T2M_ST_SOUND, /* it can */
    T2M_ST_DTYPE, /* `tag` is none of dtypes.def */
    T2M_ST_RANK,  /* more than T2M_MAX_RANK dimensions */
    T2M_ST_SIZE,  /* no items, and sizes whose product is beyond 63 bits */
} t2m_st_problem;

typedef struct {
    const char *name; /* UTF-8, not terminated */
    size_t name_length;
    t2m_st_problem problem; /* unless SOUND, `dtype` and `rank` are void */
    t2m_dtype dtype;
    int rank;
    uint64_t shape[T2M_MAX_RANK];
    uint64_t begin, end; /* in the data section */
    const char *tag;     /* UTF-8, not terminated */
    size_t tag_length;
    /* for t2m_st_parse and t2m_st_sizes alone: */
    const uint8_t *sizes; /* after the '[', in the file */
    size_t sizes_length;
    uint64_t size_count;
    uint64_t items; /* their product */
    unsigned bits;  /* of an item; 0: not known */
    char overflows, repeated;
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
   data section belongs to exactly one entry.  Accepts what the format's own
   library accepts; an entry that cannot be a tensor here says why.  On
   failure *out is empty and *where says where. */
t2m_status t2m_st_parse(const uint8_t *file, uint64_t length,
                        t2m_st_header *out, t2m_where *where);

/* Writes all sizes of a parsed entry, entry->size_count of them; the file
   must still be there. */
void t2m_st_sizes(const t2m_st_entry *entry, uint64_t *out);

void t2m_st_free(t2m_st_header *header);

/* Builds the 8-byte length and header of a file, padded with spaces so that
   the data section starts at a multiple of 8.  *out is malloc'ed; the caller
   frees it.  Entries are written in the given order; ST_NAME where one has
   the reserved name. */
t2m_status t2m_st_build(const t2m_st_entry *entries, size_t count,
                        const t2m_st_meta *meta, size_t meta_count,
                        uint8_t **out, size_t *out_length);

#endif
