/* A tree of dotted names: a node for each component, found by its parent and
   its text. Children stand in the order in which they were added.

   The trie owns its nodes; component texts point into the caller's names. */
#ifndef T2M_TRIE_H
#define T2M_TRIE_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

/* A name of more components is refused. */
#define T2M_KEYS_MAX_DEPTH 512

#define T2M_NO_INDEX UINT32_MAX

typedef struct {
    const char *text; /* UTF-8, not terminated */
    size_t length;
} t2m_key;

typedef struct {
    uint32_t text_id; /* of this component: equal ones share an id */
    uint32_t hash;    /* of its text */
    uint32_t parent;
    uint32_t value;                   /* the caller's; NO_INDEX at first */
    uint32_t first_child, last_child; /* NO_INDEX: none */
    uint32_t next;                    /* sibling, or NO_INDEX */
    uint32_t children;
} t2m_trie_node;

/* An open-addressing table; slots hold index + 1, and 0 is empty. */
typedef struct {
    uint32_t *slots;
    size_t mask, used;
} t2m_trie_table;

typedef struct {
    const char *text; /* UTF-8, not terminated */
    uint32_t length;
    uint64_t hash;
} t2m_trie_text;

typedef struct {
    t2m_trie_node *nodes; /* node 0 is the root */
    size_t count, capacity;
    t2m_trie_text *texts; /* distinct components, by id */
    size_t text_count, text_capacity;
    t2m_trie_table by_text, by_place;
    uint64_t secret; /* of the hash: strangers cannot aim at its slots */
} t2m_trie;

/* An empty trie with a root.  NO_MEMORY leaves nothing to free. */
t2m_status t2m_trie_new(uint64_t secret, t2m_trie *out);

void t2m_trie_free(t2m_trie *trie);

/* Finds a child, or NO_INDEX. */
uint32_t t2m_trie_find(const t2m_trie *trie, uint32_t parent, const char *text,
                       size_t length);

/* Finds or adds a child. */
t2m_status t2m_trie_add(t2m_trie *trie, uint32_t parent, const char *text,
                        size_t length, uint32_t *child);

/* Gives a text its id without a node. */
t2m_status t2m_trie_intern(t2m_trie *trie, const char *text, size_t length,
                           uint32_t *id);

/* How many bytes two texts of n bytes have in common at their beginning. */
size_t t2m_common(const char *a, const char *b, size_t n);

/* Where the name before ended: neighbours share most of their path. */
typedef struct {
    const char *text;
    size_t length, depth;
    uint32_t path[T2M_KEYS_MAX_DEPTH];
    size_t ends[T2M_KEYS_MAX_DEPTH]; /* offset behind each component */
} t2m_trie_trail;

/* How many leading components a text has that the one before has too, each
   followed by a dot in both. */
size_t t2m_trie_shared(const t2m_trie_trail *trail, const char *text,
                       size_t length);

#endif
