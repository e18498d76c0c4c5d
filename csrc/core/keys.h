/* Dotted keys to a nested tree, with the meaning of
   mlx.utils.tree_unflatten (mlx/python/mlx/utils.py): a level whose keys are
   all integers is a list in numeric order, every other level is a dict; a
   key that is also a prefix of others goes under the empty key.

   The tree owns its nodes; component texts point into the caller's keys. */
#ifndef T2M_KEYS_H
#define T2M_KEYS_H

#include "trie.h"

/* A list with a larger index is refused. */
#define T2M_KEYS_MAX_INDEX (1 << 24)

/* mlx fills the holes of a list with {}.  All lists of a tree may have this
   many, and so many more for each key. */
#define T2M_KEYS_HOLES         1024
#define T2M_KEYS_HOLES_PER_KEY 16

/* Reads a component that is not plain ASCII as Python's int() does: 1 and
 *out, or 0 when it is no integer. May be NULL: then none is. */
typedef int (*t2m_number_reader)(const char *text, size_t length,
                                 int64_t *out);

typedef struct {
    t2m_trie trie;    /* a node's value is the key that ends there */
    int32_t *numbers; /* by node, where the parent is a list: its index */
    uint32_t *slots;  /* by node: the length of a list, 0 for no list */
} t2m_key_tree;

/* Builds the tree of n keys, the children of a list linked in its order.
   lists == 0 keeps every level a dict (the plain form).  KEY_COLLISION when
   two keys end at the same place, KEY_HOLES, LIMIT or DEPTH for the limits
   above; *bad is then the index of the key (n: unknown). `secret` as for a
   trie. */
t2m_status t2m_keys_nest(const t2m_key *keys, size_t n, int lists,
                         t2m_number_reader reader, uint64_t secret,
                         t2m_key_tree *out, size_t *bad);

void t2m_keys_free(t2m_key_tree *tree);

/* Finds two names of which the first (in *a) is the second, or what stands
   before one of its dots: 1 and their numbers, those of the earliest such
   pair, else 0; -1 without memory. */
int t2m_keys_collide(const t2m_key *keys, size_t n, size_t *a, size_t *b);

#endif
