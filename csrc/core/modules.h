/* Trees of modules by their dotted paths: which module owns a tensor's key,
   what MLX calls the module, and the tree that keys alone show.

   Names belong to the caller and outlive the tree. A key that begins with a
   dot is the root's own: no module is called nothing. */
#ifndef T2M_MODULES_H
#define T2M_MODULES_H

#include "trie.h"

/* Paths made from keys may add up to this many bytes, and so many more for
   each byte of the keys: only trees deeper than that hold more. */
#define T2M_MODULES_PATH_BYTES  (1 << 20)
#define T2M_MODULES_PATH_FACTOR 64

/* What is known of a module beside its place in the trie, where its node's
   value is its number; by node. */
typedef struct {
    const char *name; /* what MLX calls it; NULL: as its component */
    size_t name_length;
    uint32_t inner; /* of a wrapper: the node it stands for, or NO_INDEX */
    int is_tensor;  /* a wrapper's own tensor, no module */
} t2m_module_note;

typedef struct {
    t2m_trie trie;
    t2m_module_note *notes; /* by node */
    size_t capacity;
    uint32_t *nodes; /* by module */
    size_t count;
} t2m_module_tree;

/* The tree of n module paths, the root's ("") first; the caller frees it.
    DEPTH for a path with too many components; *bad is its number. */
t2m_status t2m_modules_new(const t2m_key *paths, size_t n, uint64_t secret,
                           t2m_module_tree *out, size_t *bad);

void t2m_modules_free(t2m_module_tree *tree);

/* Says that a module is a wrapper around its child `inner`. */
void t2m_modules_wrap(t2m_module_tree *tree, size_t module, t2m_key inner);

/* Says that a wrapper has a tensor of its own. */
t2m_status t2m_modules_own(t2m_module_tree *tree, size_t module,
                           t2m_key tensor);

/* Gives a child another name in MLX; nothing where there is no such child. */
void t2m_modules_rename(t2m_module_tree *tree, size_t module, t2m_key child,
                        t2m_key name);

/* Finds the owner of a key; its name in there begins at *name.  A wrapper's
   component may be in the key or not. */
size_t t2m_modules_locate(const t2m_module_tree *tree, const t2m_key *key,
                          size_t *name);

/* Writes the MLX path of a module with a dot behind it, and returns its
   length; `out` NULL only counts. */
size_t t2m_modules_prefix(const t2m_module_tree *tree, size_t module,
                          char *out);

/* What keys show of the module that each belongs to. */
typedef struct {
    t2m_trie trie;    /* nodes are modules, in the order of their keys */
    uint32_t *paths;  /* by node: a key that begins with its path */
    size_t *lengths;  /* by node: length of the path */
    uint32_t *owners; /* by key: its node */
    uint32_t *names;  /* by key: the text id of its name in there */
    size_t capacity;
} t2m_shown;

/* The tree of n keys: what stands before the last dot is a module, but what
   parametrize keeps belongs to the module that holds it.  DEPTH or KEY_PATHS
   for the limits above; *bad is then the number of the key. */
t2m_status t2m_modules_shown(const t2m_key *keys, size_t n, uint64_t secret,
                             t2m_shown *out, size_t *bad);

void t2m_shown_free(t2m_shown *shown);

#endif
