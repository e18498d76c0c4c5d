#include "trie.h"
#include "array.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

/* Parents with at most this many children are searched one by one. */
#define FEW 8

static uint64_t
fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Fewer than eight bytes as a number; without a copy of odd length, which the
   processor would wait for. */
static uint64_t
tail_of(const char *text, size_t length)
{
    uint32_t low, high;
    if (length >= 4) {
        memcpy(&low, text, 4);
        memcpy(&high, text + length - 4, 4);
        return (uint64_t)high << 32 | low;
    }
    if (length == 0) {
        return 0;
    }
    return (uint64_t)(uint8_t)text[0] |
           (uint64_t)(uint8_t)text[length / 2] << 8 |
           (uint64_t)(uint8_t)text[length - 1] << 16;
}

static uint64_t
hash_text(uint64_t secret, const char *text, size_t length)
{
    uint64_t h = secret ^ length;
    for (; length >= 8; text += 8, length -= 8) {
        uint64_t part;
        memcpy(&part, text, 8);
        h = fold(h ^ part, secret);
    }
    return fold(h ^ tail_of(text, length), secret);
}

static uint64_t
hash_place(uint64_t secret, uint32_t parent, uint32_t text)
{
    return fold((uint64_t)parent << 32 | text, secret);
}

static uint64_t
hash_of(const t2m_trie *t, const t2m_trie_table *table, uint32_t index)
{
    if (table == &t->by_text) {
        return t->texts[index].hash;
    }
    const t2m_trie_node *n = &t->nodes[index];
    return hash_place(t->secret, n->parent, n->hash);
}

/* Makes a table that is half full four times as large. */
static t2m_status
make_room(const t2m_trie *t, t2m_trie_table *table)
{
    if (table->slots && table->used * 2 <= table->mask) {
        return T2M_OK;
    }
    size_t size = table->slots ? (table->mask + 1) * 4 : 256;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) {
        return T2M_NO_MEMORY;
    }
    for (size_t i = 0; table->slots && i <= table->mask; i++) {
        if (table->slots[i]) {
            size_t at = hash_of(t, table, table->slots[i] - 1) & (size - 1);
            while (slots[at]) {
                at = (at + 1) & (size - 1);
            }
            slots[at] = table->slots[i];
        }
    }
    free(table->slots);
    table->slots = slots;
    table->mask = size - 1;
    return T2M_OK;
}

/* Room for one more; items are numbered with 32 bits. */
static t2m_status
grow(void **items, size_t *capacity, size_t count, size_t item)
{
    if (count >= UINT32_MAX / 2) {
        return T2M_LIMIT;
    }
    return t2m_array_grow(items, capacity, count, item);
}

static t2m_status
intern(t2m_trie *t, const char *text, size_t length, uint64_t hash,
       uint32_t *id)
{
    if (length >= UINT32_MAX) {
        return T2M_LIMIT;
    }
    t2m_status status = make_room(t, &t->by_text);
    if (status != T2M_OK) {
        return status;
    }
    size_t at = hash & t->by_text.mask;
    for (; t->by_text.slots[at]; at = (at + 1) & t->by_text.mask) {
        uint32_t i = t->by_text.slots[at] - 1;
        const t2m_trie_text *known = &t->texts[i];
        if (known->hash == hash && known->length == length &&
            memcmp(known->text, text, length) == 0) {
            *id = i;
            return T2M_OK;
        }
    }
    status = grow((void **)&t->texts, &t->text_capacity, t->text_count,
                  sizeof *t->texts);
    if (status != T2M_OK) {
        return status;
    }
    *id = (uint32_t)t->text_count++;
    t->texts[*id] = (t2m_trie_text){text, (uint32_t)length, hash};
    t->by_text.slots[at] = *id + 1;
    t->by_text.used++;
    return T2M_OK;
}

t2m_status
t2m_trie_intern(t2m_trie *t, const char *text, size_t length, uint32_t *id)
{
    return intern(t, text, length, hash_text(t->secret, text, length), id);
}

/* Adds a node behind the children of its parent, in no table yet. */
static t2m_status
new_node(t2m_trie *t, uint32_t parent, uint32_t text_id, uint32_t hash,
         uint32_t *index)
{
    t2m_status status =
        grow((void **)&t->nodes, &t->capacity, t->count, sizeof *t->nodes);
    if (status != T2M_OK) {
        return status;
    }
    *index = (uint32_t)t->count++;
    t->nodes[*index] = (t2m_trie_node){.text_id = text_id,
                                       .hash = hash,
                                       .parent = parent,
                                       .value = T2M_NO_INDEX,
                                       .first_child = T2M_NO_INDEX,
                                       .last_child = T2M_NO_INDEX,
                                       .next = T2M_NO_INDEX};
    if (*index == 0) {
        return T2M_OK;
    }
    t2m_trie_node *p = &t->nodes[parent];
    if (p->last_child == T2M_NO_INDEX) {
        p->first_child = *index;
    } else {
        t->nodes[p->last_child].next = *index;
    }
    p->last_child = *index;
    p->children++;
    return T2M_OK;
}

/* Puts a node into the table of places. */
static t2m_status
remember(t2m_trie *t, uint32_t node)
{
    t2m_status status = make_room(t, &t->by_place);
    if (status != T2M_OK) {
        return status;
    }
    size_t at = hash_of(t, &t->by_place, node) & t->by_place.mask;
    while (t->by_place.slots[at]) {
        at = (at + 1) & t->by_place.mask;
    }
    t->by_place.slots[at] = node + 1;
    t->by_place.used++;
    return T2M_OK;
}

static int
is_called(const t2m_trie *t, uint32_t node, const char *text, size_t length)
{
    const t2m_trie_text *known = &t->texts[t->nodes[node].text_id];
    return known->length == length && memcmp(known->text, text, length) == 0;
}

static uint32_t
find_few(const t2m_trie *t, uint32_t parent, const char *text, size_t length,
         uint32_t hash)
{
    uint32_t c = t->nodes[parent].first_child;
    while (c != T2M_NO_INDEX &&
           (t->nodes[c].hash != hash || !is_called(t, c, text, length))) {
        c = t->nodes[c].next;
    }
    return c;
}

static uint32_t
find_many(const t2m_trie *t, uint32_t parent, const char *text, size_t length,
          uint32_t hash)
{
    size_t at = hash_place(t->secret, parent, hash) & t->by_place.mask;
    for (; t->by_place.slots[at]; at = (at + 1) & t->by_place.mask) {
        uint32_t i = t->by_place.slots[at] - 1;
        const t2m_trie_node *n = &t->nodes[i];
        if (n->parent == parent && n->hash == hash &&
            is_called(t, i, text, length)) {
            return i;
        }
    }
    return T2M_NO_INDEX;
}

static uint32_t
find(const t2m_trie *t, uint32_t parent, const char *text, size_t length,
     uint64_t hash)
{
    return t->nodes[parent].children <= FEW
               ? find_few(t, parent, text, length, (uint32_t)hash)
               : find_many(t, parent, text, length, (uint32_t)hash);
}

uint32_t
t2m_trie_find(const t2m_trie *t, uint32_t parent, const char *text,
              size_t length)
{
    return find(t, parent, text, length, hash_text(t->secret, text, length));
}

/* Enters a new node; the one that makes its parent's children many enters
   them all. */
static t2m_status
enter(t2m_trie *t, uint32_t parent, uint32_t node)
{
    t2m_status status = T2M_OK;
    if (t->nodes[parent].children > FEW + 1) {
        return remember(t, node);
    }
    if (t->nodes[parent].children == FEW + 1) {
        uint32_t c = t->nodes[parent].first_child;
        for (; c != T2M_NO_INDEX && status == T2M_OK; c = t->nodes[c].next) {
            status = remember(t, c);
        }
    }
    return status;
}

t2m_status
t2m_trie_add(t2m_trie *t, uint32_t parent, const char *text, size_t length,
             uint32_t *child)
{
    uint64_t hash = hash_text(t->secret, text, length);
    uint32_t id;

    *child = find(t, parent, text, length, hash);
    if (*child != T2M_NO_INDEX) {
        return T2M_OK;
    }
    t2m_status status = intern(t, text, length, hash, &id);
    if (status == T2M_OK) {
        status = new_node(t, parent, id, (uint32_t)hash, child);
    }
    return status == T2M_OK ? enter(t, parent, *child) : status;
}

t2m_status
t2m_trie_new(uint64_t secret, t2m_trie *out)
{
    uint32_t root;

    memset(out, 0, sizeof *out);
    out->secret = secret | 1;
    return new_node(out, 0, 0, 0, &root);
}

void
t2m_trie_free(t2m_trie *t)
{
    free(t->nodes);
    free(t->texts);
    free(t->by_text.slots);
    free(t->by_place.slots);
    memset(t, 0, sizeof *t);
}

size_t
t2m_common(const char *a, const char *b, size_t n)
{
    size_t at = 0;
    for (uint64_t x, y; at + 8 <= n; at += 8) {
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        if (x != y) {
            break;
        }
    }
    while (at < n && a[at] == b[at]) {
        at++;
    }
    return at;
}

size_t
t2m_trie_shared(const t2m_trie_trail *trail, const char *text, size_t length)
{
    size_t n = trail->length < length ? trail->length : length;
    size_t depth = trail->depth;

    n = trail->depth ? t2m_common(trail->text, text, n) : 0;
    while (depth && trail->ends[depth - 1] >= n) {
        depth--;
    }
    return depth;
}
