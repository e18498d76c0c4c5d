/* A pickle machine that can only build data.

   It reads protocols 0 to 5 into a table of nodes; a node refers to others
   by index, so shared objects are shared and nothing recurses.  No global is
   ever imported or called: hooks give a fixed meaning to the few that tensors
   are pickled with (pickle_globals.def), and whatever any other global would
   make becomes an inert node, of which only the name is kept, and whether
   tensors were among what it was given.

   A t2m_pickle owns its tables; texts point into the pickle's bytes. */
#ifndef T2M_PICKLE_H
#define T2M_PICKLE_H

#include "dtype.h"
#include "permute.h"
#include "status.h"

/* Memory the tables may take: a floor, and a multiple of the input. */
#define T2M_PK_MEMORY_FLOOR  (24u << 20)
#define T2M_PK_MEMORY_FACTOR 24u

/* Byte strings from this length on may hold weights. */
#define T2M_PK_DATA_BYTES 16u

typedef enum {
    T2M_NODE_NONE,
    T2M_NODE_BOOL,
    T2M_NODE_INT,
    T2M_NODE_BIGINT, /* text: little-endian two's complement */
    T2M_NODE_FLOAT,
    T2M_NODE_BYTES,
    T2M_NODE_LATIN1, /* bytes whose text has a character for each of them */
    T2M_NODE_TEXT,   /* UTF-8, checked */
    T2M_NODE_TUPLE,
    T2M_NODE_LIST,
    T2M_NODE_SET,
    T2M_NODE_DICT,    /* items: key, value, key, value, ... */
    T2M_NODE_GLOBAL,  /* index into pickle_globals.def */
    T2M_NODE_STORAGE, /* index into storages */
    T2M_NODE_TENSOR,  /* index into tensors */
    T2M_NODE_DTYPE,   /* of numpy: index into dtypes */
    T2M_NODE_INERT,   /* items: what it was given; name: what it is */
} t2m_node_kind;

typedef struct {
    uint8_t kind;  /* t2m_node_kind */
    uint8_t mark;  /* for the consumer: walking state */
    uint8_t holds; /* 1: a tensor, storage or data can be reached from it */
    uint32_t count, capacity; /* items of a container; bytes of a text */
    uint32_t other; /* INERT: index into names; TEXT: node of its bytes + 1;
                       LATIN1: length of the bytes */
    union {
        int64_t i;
        double f;
        const uint8_t *text; /* `count` bytes */
        uint32_t *items;     /* `count` nodes, owned */
        uint32_t index;
    } as;
} t2m_node;

/* The full name of something that is not built, and where it stands. */
typedef struct {
    const uint8_t *module, *name;
    uint32_t module_length, name_length;
    uint64_t at; /* offset in the pickle */
} t2m_inert_name;

/* What a persistent id declares; `data` is filled by the file's reader. */
typedef struct {
    const char *key; /* names the bytes inside the file */
    size_t key_length;
    int dtype; /* t2m_dtype, T2M_DTYPE_OTHER or T2M_DTYPE_UNTYPED */
    const char *dtype_name;
    size_t item;          /* bytes of one item; 0: not known */
    uint64_t numel;       /* items (bytes where untyped) */
    uint64_t view_offset; /* legacy storage views: first item in the root */
    int has_view;
    int has_crc; /* 1: `crc` is the CRC-32 of the data */
    uint32_t crc;
    uint32_t bytes_node; /* node + 1 of a pickled array's bytes; 0: a file's */
    const uint8_t *data;
    uint64_t length; /* bytes */
} t2m_storage;

typedef struct {
    uint32_t storage; /* index; NO_NODE for an array that is not read */
    int dtype;        /* T2M_DTYPE_OTHER: dtype_name says what it is */
    const char *dtype_name;
    const char *problem; /* NULL, or why there is no plain data: "meta" ... */
    uint32_t class;      /* 0, or 1 + index in names of what it is */
    uint8_t conj, neg;   /* 1: the stored values are to be changed so */
    uint8_t swapped;     /* 1: items are big-endian */
    uint8_t array;       /* 1: of numpy */
    int rank;
    uint64_t at;     /* offset in the pickle */
    uint64_t offset; /* items */
    uint64_t shape[T2M_MAX_RANK];
    uint64_t strides[T2M_MAX_RANK]; /* items */
} t2m_tensor;

/* A numpy dtype. */
typedef struct {
    int dtype;        /* t2m_dtype, or T2M_DTYPE_OTHER */
    const char *name; /* what a dtype that is not ours is called */
    uint8_t swapped;  /* 1: big-endian */
} t2m_array_dtype;

typedef struct {
    t2m_node *nodes;
    size_t node_count, node_capacity;
    t2m_inert_name *names;
    size_t name_count, name_capacity;
    t2m_storage *storages;
    size_t storage_count, storage_capacity;
    t2m_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    t2m_array_dtype *dtypes;
    size_t dtype_count, dtype_capacity;
    uint32_t root;
    uint64_t base; /* offset of the pickle in its file */
    uint64_t memory, memory_limit;
} t2m_pickle;

struct t2m_machine;

/* What globals and persistent ids mean.  Every hook may refuse the pickle. */
typedef struct {
    /* Finds a global by its full name; returns its index, or -1. */
    int (*find)(const uint8_t *module, size_t module_length,
                const uint8_t *name, size_t name_length);
    /* Builds what calling global `callee` with the tuple `args` stands for;
     *result is NO_NODE where that has no meaning. */
    t2m_status (*call)(struct t2m_machine *m, uint32_t callee, uint32_t args,
                       uint32_t *result);
    /* Gives a state to a tensor or a numpy dtype. */
    t2m_status (*build)(struct t2m_machine *m, uint32_t object,
                        uint32_t state);
    /* Builds what a persistent id declares. */
    t2m_status (*persistent)(struct t2m_machine *m, uint32_t id,
                             uint32_t *result);
} t2m_pickle_hooks;

#define T2M_NO_NODE UINT32_MAX

/* The hooks of torch's and numpy's pickles. */
extern const t2m_pickle_hooks t2m_torch_hooks;

/* Runs one pickle that starts at data. *used gets its length.  On failure
 *out is empty, and *where has the offset. */
t2m_status t2m_pickle_load(const uint8_t *data, size_t length,
                           const t2m_pickle_hooks *hooks, t2m_pickle *out,
                           size_t *used, t2m_where *where);

void t2m_pickle_free(t2m_pickle *pickle);

/* Checks every tensor against its storage once the storages have data, and
   fills `holds` of every node.  Time and memory grow with the nodes. */
t2m_status t2m_pickle_finish(t2m_pickle *pickle, t2m_where *where);

/* Decodes the text of a LATIN1 node into `other` bytes. */
void t2m_latin1_decode(const t2m_node *node, uint8_t *out);

#endif
