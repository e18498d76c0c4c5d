/* State of the running machine, shared by pickle.c and pickle_torch.c. */
#ifndef T2M_PICKLE_MACHINE_H
#define T2M_PICKLE_MACHINE_H

#include "pickle.h"

typedef enum {
    T2M_GLOBAL_STORAGE,
    T2M_GLOBAL_DTYPE,
    T2M_GLOBAL_REBUILD_TENSOR,
    T2M_GLOBAL_REBUILD_TENSOR_V3,
    T2M_GLOBAL_REBUILD_FROM_TYPE,
    T2M_GLOBAL_REBUILD_FIRST,
    T2M_GLOBAL_REBUILD_NONE,
    T2M_GLOBAL_DICT,
    T2M_GLOBAL_COPY,
    T2M_GLOBAL_INERT,
} t2m_global_kind;

typedef struct {
    const char *module, *name;
    t2m_global_kind kind;
    const char *text;
} t2m_global;

typedef struct {
    t2m_pickle *out;
    const uint8_t *data;
    size_t length, at;
    uint32_t *stack;
    size_t depth, stack_capacity;
    size_t *marks;
    size_t mark_count, mark_capacity;
    uint32_t *memo; /* node + 1; 0 is empty */
    size_t memo_capacity, memo_next;
    int stopped;
    t2m_where *where;
} t2m_machine;

/* Finds a global by its full name; returns its index, or -1. */
int t2m_global_find(const uint8_t *module, size_t module_length,
                    const uint8_t *name, size_t name_length);

/* Returns a row of pickle_globals.def. */
const t2m_global *t2m_global_get(uint32_t index);

/* Adds a node of this kind; *index gets its number. */
t2m_status t2m_node_new(t2m_pickle *p, t2m_node_kind kind, uint32_t *index);

/* Makes room for `item` bytes in an array holding `count`, charging the
   growth to the pickle's memory limit. */
t2m_status t2m_pickle_grow(t2m_pickle *p, void **items, size_t *capacity,
                           size_t count, size_t item);

/* Builds what calling global `callee` with the tuple `args` stands for. */
t2m_status t2m_torch_call(t2m_machine *m, uint32_t callee, uint32_t args,
                          uint32_t *result);

/* Builds the storage that a persistent id (a tuple) declares. */
t2m_status t2m_torch_storage(t2m_machine *m, uint32_t id, uint32_t *result);

#endif
