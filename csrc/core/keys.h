/* Dotted keys to a nested tree, with the meaning of
   mlx.utils.tree_unflatten (mlx/python/mlx/utils.py): a level whose keys are
   all integers is a list in numeric order, every other level is a dict; a
   key that is also a prefix of others goes under the empty key.

   The tree owns its nodes; component texts point into the caller's keys. */
#ifndef T2M_KEYS_H
#define T2M_KEYS_H

#include "status.h"

/* A key of more components is refused. */
#define T2M_KEYS_MAX_DEPTH 512

/* A list with a larger index is refused: mlx fills holes with {}. */
#define T2M_KEYS_MAX_INDEX (1 << 24)

#define T2M_NO_INDEX UINT32_MAX

typedef struct {
    const char *text; /* UTF-8, not terminated */
    size_t length;
} t2m_key;

typedef struct {
    const char *text; /* this component */
    uint32_t length;
    uint32_t text_id;                 /* equal components share an id */
    uint32_t leaf;                    /* key that ends here, or NO_INDEX */
    uint32_t first_child, last_child; /* NO_INDEX: none */
    uint32_t next;                    /* sibling, or NO_INDEX */
    uint32_t children;
    int32_t number; /* where the parent is a list: its index */
    int is_list;    /* children form a list, and are linked in its order */
} t2m_key_node;

/* Reads a component that is not plain ASCII as Python's int() does: 1 and
 *out, or 0 when it is no integer. May be NULL: then none is. */
typedef int (*t2m_number_reader)(const char *text, size_t length,
                                 int64_t *out);

typedef struct {
    t2m_key_node *nodes; /* node 0 is the root */
    size_t count;
    uint32_t text_count; /* distinct components */
} t2m_key_tree;

/* Builds the tree of n keys.  lists == 0 keeps every level a dict (the plain
   form).  KEY_COLLISION when two keys end at the same place, LIMIT or DEPTH
   for the limits above; *bad is then the index of the key (n: unknown). */
t2m_status t2m_keys_nest(const t2m_key *keys, size_t n, int lists,
                         t2m_number_reader reader, t2m_key_tree *out,
                         size_t *bad);

void t2m_keys_free(t2m_key_tree *tree);

#endif
