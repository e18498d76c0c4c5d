/* A pickle machine that can only build data.

   It reads protocols 0 to 5 into a table of nodes; a node refers to others
   by index, so shared objects are shared and nothing recurses.  Globals are
   looked up by full name in pickle_globals.def and are never imported or
   called: the few that torch pickles tensors with have a fixed meaning, any
   other name is an error.

   A t2m_pickle owns its tables; texts point into the pickle's bytes. */
#ifndef T2M_PICKLE_H
#define T2M_PICKLE_H

#include "dtype.h"
#include "permute.h"
#include "status.h"

/* Memory the tables may take: a floor, and a multiple of the input. */
#define T2M_PK_MEMORY_FLOOR  (24u << 20)
#define T2M_PK_MEMORY_FACTOR 24u

typedef enum {
    T2M_NODE_NONE,
    T2M_NODE_BOOL,
    T2M_NODE_INT,
    T2M_NODE_BIGINT, /* text: little-endian two's complement */
    T2M_NODE_FLOAT,
    T2M_NODE_BYTES,
    T2M_NODE_TEXT, /* UTF-8, checked */
    T2M_NODE_TUPLE,
    T2M_NODE_LIST,
    T2M_NODE_SET,
    T2M_NODE_DICT, /* items: key, value, key, value, ... */
    T2M_NODE_GLOBAL,
    T2M_NODE_STORAGE, /* index into storages */
    T2M_NODE_TENSOR,  /* index into tensors */
    T2M_NODE_INERT,   /* text: what it would have been */
} t2m_node_kind;

typedef struct {
    uint8_t kind; /* t2m_node_kind */
    uint8_t mark; /* for the consumer: walking state */
    uint32_t count, capacity;
    union {
        int64_t i;
        double f;
        const uint8_t *text; /* `count` bytes */
        uint32_t *items;     /* `count` nodes, owned */
        uint32_t index;
    } as;
} t2m_node;

/* What a persistent id declares; `data` is filled by the file's reader. */
typedef struct {
    const char *key; /* names the bytes inside the file */
    size_t key_length;
    int dtype; /* t2m_dtype, -1: not one of ours, -2: untyped */
    const char *dtype_name;
    uint64_t numel;       /* items (bytes where untyped) */
    uint64_t view_offset; /* legacy storage views: first item in the root */
    int has_view;
    const uint8_t *data;
    uint64_t length; /* bytes */
} t2m_storage;

typedef struct {
    uint32_t storage;
    int dtype; /* -1: cannot be converted; dtype_name says what it is */
    const char *dtype_name;
    const char *problem; /* NULL, or why there is no plain data: "meta" ... */
    int rank;
    uint64_t offset; /* items */
    uint64_t shape[T2M_MAX_RANK];
    uint64_t strides[T2M_MAX_RANK]; /* items */
} t2m_tensor;

typedef struct {
    t2m_node *nodes;
    size_t node_count, node_capacity;
    t2m_storage *storages;
    size_t storage_count, storage_capacity;
    t2m_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    uint32_t root;
    uint64_t memory, memory_limit;
} t2m_pickle;

/* Runs one pickle that starts at data. *used gets its length.  On failure
 *out is empty, and *where has the offset and, for PK_GLOBAL, the name. */
t2m_status t2m_pickle_load(const uint8_t *data, size_t length, t2m_pickle *out,
                           size_t *used, t2m_where *where);

void t2m_pickle_free(t2m_pickle *pickle);

/* Checks every tensor against its storage once the storages have data. */
t2m_status t2m_pickle_check_tensors(const t2m_pickle *pickle,
                                    t2m_where *where);

#endif
