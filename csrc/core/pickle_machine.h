/* State of the running machine, and what its parts share:

     pickle_nodes.c    tables, their limits, and what is reached from where
     pickle_globals.c  the globals that have a meaning
     pickle_machine.c  stack, memo and the loop over opcodes
     pickle_actions.c  what each opcode does
     numpy_objects.c   dtypes, arrays and scalars of numpy
     torch_objects.c   storages and tensors of torch, and the hooks

   The machine reaches the last two by the hooks alone. */
#ifndef T2M_PICKLE_MACHINE_H
#define T2M_PICKLE_MACHINE_H

#include "pickle.h"

typedef enum {
    T2M_GLOBAL_STORAGE,
    T2M_GLOBAL_DTYPE,
    T2M_GLOBAL_TYPE,
    T2M_GLOBAL_REBUILD_TENSOR,
    T2M_GLOBAL_REBUILD_TENSOR_V3,
    T2M_GLOBAL_REBUILD_FROM_TYPE,
    T2M_GLOBAL_REBUILD_FIRST,
    T2M_GLOBAL_REBUILD_NONE,
    T2M_GLOBAL_DICT,
    T2M_GLOBAL_COPY,
    T2M_GLOBAL_BYTES,
    T2M_GLOBAL_ENCODE,
    T2M_GLOBAL_ARRAY_TYPE,
    T2M_GLOBAL_ARRAY_ITEM,
    T2M_GLOBAL_ARRAY_DTYPE,
    T2M_GLOBAL_ARRAY_EMPTY,
    T2M_GLOBAL_ARRAY_BUFFER,
    T2M_GLOBAL_ARRAY_SCALAR,
} t2m_global_kind;

typedef struct {
    const char *module, *name;
    t2m_global_kind kind;
    const char *text;
} t2m_global;

typedef struct t2m_machine {
    t2m_pickle *out;
    const t2m_pickle_hooks *hooks;
    const uint8_t *data;
    size_t length, at, opcode_at;
    uint32_t *stack;
    size_t depth, stack_capacity;
    size_t *marks;
    size_t mark_count, mark_capacity;
    uint32_t *memo; /* node + 1; 0 is empty */
    size_t memo_capacity, memo_next;
    uint32_t constants[3]; /* node + 1 of None, False, True */
    int stopped;
    t2m_where *where;
} t2m_machine;

/* What an opcode carries: a number, or a text. */
typedef struct {
    uint64_t number;
    const uint8_t *text;
    size_t length;
} t2m_argument;

typedef enum {
    T2M_ARG_NONE,
    T2M_ARG_U1,
    T2M_ARG_U2,
    T2M_ARG_U4,
    T2M_ARG_U8,
    T2M_ARG_T1,
    T2M_ARG_T4,
    T2M_ARG_T8,
    T2M_ARG_LINE,
    T2M_ARG_F8,
} t2m_argument_kind;

typedef struct {
    t2m_status (*run)(t2m_machine *m, const t2m_argument *arg);
    t2m_argument_kind kind;
    int forbidden;
} t2m_opcode;

/* Returns the row of an opcode; `run` is NULL where there is none. */
const t2m_opcode *t2m_opcode_get(uint8_t byte);

/* -- pickle_nodes.c ------------------------------------------------------ */

/* Makes room for `item` bytes in an array holding `count`, charging the
   growth to the pickle's memory limit. */
t2m_status t2m_pickle_grow(t2m_pickle *p, void **items, size_t *capacity,
                           size_t count, size_t item);

/* Adds a node of this kind; *index gets its number. */
t2m_status t2m_node_new(t2m_pickle *p, t2m_node_kind kind, uint32_t *index);

/* Appends n nodes to a container. */
t2m_status t2m_node_extend(t2m_pickle *p, uint32_t target,
                           const uint32_t *items, size_t n);

/* Adds an inert node of this name (an index) that was given `n` nodes. */
t2m_status t2m_inert_new(t2m_pickle *p, uint32_t name, const uint32_t *given,
                         size_t n, uint32_t *result);

/* Adds a name that stands at `at`; *index gets its number. */
t2m_status t2m_name_new(t2m_pickle *p, const t2m_inert_name *name,
                        uint32_t *index);

/* Adds a tensor node that stands at `at`; *tensor is valid until the next
   one is added. */
t2m_status t2m_tensor_new(t2m_pickle *p, uint64_t at, t2m_tensor **tensor,
                          uint32_t *result);

/* Adds a storage; *index gets its number. */
t2m_status t2m_storage_new(t2m_pickle *p, const t2m_storage *storage,
                           uint32_t *index);

/* Finds the bytes that the characters of a text stand for in Latin-1: a
   BYTES or LATIN1 node, made once.  PK_VALUE where it has others. */
t2m_status t2m_latin1_new(t2m_pickle *p, uint32_t text, uint32_t *result);

static inline t2m_node *
t2m_node_at(const t2m_machine *m, uint32_t index)
{
    return &m->out->nodes[index];
}

/* Returns the i-th argument, or NULL when there are fewer. */
const t2m_node *t2m_argument_at(const t2m_machine *m, uint32_t args,
                                uint32_t i);

/* Reads a tuple or list of at most T2M_MAX_RANK non-negative integers.
   Returns PK_CALL, or BAD_RANK. */
t2m_status t2m_take_sizes(const t2m_machine *m, const t2m_node *n,
                          uint64_t *out, int *count);

/* -- pickle_machine.c ---------------------------------------------------- */

t2m_status t2m_push(t2m_machine *m, uint32_t node);
t2m_status t2m_pop(t2m_machine *m, uint32_t *node);

/* Pushes a new node, which *node points to until the next one is made. */
t2m_status t2m_push_new(t2m_machine *m, t2m_node_kind kind, t2m_node **node);

/* The lowest stack index that may be popped: above the last mark. */
size_t t2m_stack_floor(const t2m_machine *m);

/* The stack from `index` on; an empty stack has no memory yet. */
const uint32_t *t2m_stack_at(const t2m_machine *m, size_t index);

/* Takes the text up to a newline. */
t2m_status t2m_take_line(t2m_machine *m, const uint8_t **text, size_t *length);

t2m_status t2m_memo_get(t2m_machine *m, uint64_t slot);
t2m_status t2m_memo_put(t2m_machine *m, uint64_t slot);

/* -- pickle_globals.c ---------------------------------------------------- */

/* Finds a global by its full name; returns its index, or -1. */
int t2m_global_find(const uint8_t *module, size_t module_length,
                    const uint8_t *name, size_t name_length);

/* Returns a row of pickle_globals.def. */
const t2m_global *t2m_global_get(uint32_t index);

/* The global that a node is, or NULL. */
const t2m_global *t2m_global_of(const t2m_node *node);

/* -- numpy_objects.c ----------------------------------------------------- */

/* Builds what calling a global of a kind that starts with ARRAY stands for:
     dtype(code, ...)
     _reconstruct(class, shape, code)      an array that waits for its state
     _frombuffer(bytes, dtype, shape, order[, axes])
     scalar(dtype, bytes)                                                  */
t2m_status t2m_array_call(t2m_machine *m, const t2m_global *global,
                          uint32_t args, uint32_t *result);

/* Gives their states to a dtype and to an array. */
t2m_status t2m_array_dtype_build(t2m_machine *m, uint32_t dtype,
                                 uint32_t state);
t2m_status t2m_array_build(t2m_machine *m, uint32_t array, uint32_t state);

#endif
