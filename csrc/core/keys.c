#include "keys.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

/* Two open-addressing tables: component text -> id, and (parent, text id)
   -> node. Slots hold index + 1; 0 is empty. */
typedef struct {
    uint32_t *slots;
    size_t mask, used;
} table;

typedef struct {
    const char *text;
    uint32_t length;
} component;

typedef struct {
    t2m_key_tree *out;
    size_t node_capacity;
    component *texts;
    size_t text_capacity;
    table by_text, by_place;
    /* The path of the key before: neighbours share most of it. */
    const t2m_key *last;
    size_t last_depth;
    uint32_t path[T2M_KEYS_MAX_DEPTH];
    size_t ends[T2M_KEYS_MAX_DEPTH]; /* offset behind each component */
} builder;

static uint64_t
mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

static uint64_t
hash_text(const char *text, size_t length)
{
    uint64_t h = length;
    for (; length >= 8; text += 8, length -= 8) {
        uint64_t part;
        memcpy(&part, text, 8);
        h = mix(h ^ part);
    }
    uint64_t tail = 0;
    memcpy(&tail, text, length);
    return mix(h ^ tail);
}

static uint64_t
hash_place(uint32_t parent, uint32_t text_id)
{
    return mix((uint64_t)parent << 32 | text_id);
}

static uint64_t
hash_of(const builder *b, const table *t, uint32_t index)
{
    if (t == &b->by_text) {
        return hash_text(b->texts[index].text, b->texts[index].length);
    }
    /* A node keeps its parent in `number` while the tree is built. */
    const t2m_key_node *n = &b->out->nodes[index];
    return hash_place((uint32_t)n->number, n->text_id);
}

/* Doubles a table that is half full. */
static t2m_status
make_room(const builder *b, table *t)
{
    if (t->slots && t->used * 2 <= t->mask) {
        return T2M_OK;
    }
    size_t size = t->slots ? (t->mask + 1) * 2 : 256;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) {
        return T2M_NO_MEMORY;
    }
    for (size_t i = 0; t->slots && i <= t->mask; i++) {
        if (t->slots[i]) {
            size_t at = hash_of(b, t, t->slots[i] - 1) & (size - 1);
            while (slots[at]) {
                at = (at + 1) & (size - 1);
            }
            slots[at] = t->slots[i];
        }
    }
    free(t->slots);
    t->slots = slots;
    t->mask = size - 1;
    return T2M_OK;
}

/* Parents with at most this many children are searched one by one. */
#define FEW 8

static t2m_status
grow(void **items, size_t *capacity, size_t count, size_t item)
{
    if (count < *capacity) {
        return T2M_OK;
    }
    size_t wanted = *capacity ? *capacity * 2 : 64;
    uint64_t bytes;
    if (wanted >= UINT32_MAX || t2m_mul(wanted, item, &bytes)) {
        return T2M_LIMIT;
    }
    void *bigger = realloc(*items, bytes);
    if (!bigger) {
        return T2M_NO_MEMORY;
    }
    *items = bigger;
    *capacity = wanted;
    return T2M_OK;
}

static t2m_status
intern(builder *b, const char *text, size_t length, uint32_t *id)
{
    t2m_status status = make_room(b, &b->by_text);
    if (status != T2M_OK) {
        return status;
    }
    size_t at = hash_text(text, length) & b->by_text.mask;
    for (; b->by_text.slots[at]; at = (at + 1) & b->by_text.mask) {
        uint32_t i = b->by_text.slots[at] - 1;
        if (b->texts[i].length == length &&
            memcmp(b->texts[i].text, text, length) == 0) {
            *id = i;
            return T2M_OK;
        }
    }
    status = grow((void **)&b->texts, &b->text_capacity, b->out->text_count,
                  sizeof *b->texts);
    if (status != T2M_OK) {
        return status;
    }
    *id = b->out->text_count++;
    b->texts[*id] = (component){text, (uint32_t)length};
    b->by_text.slots[at] = *id + 1;
    b->by_text.used++;
    return T2M_OK;
}

static t2m_status
new_node(builder *b, uint32_t parent, uint32_t text_id, uint32_t *index)
{
    t2m_status status = grow((void **)&b->out->nodes, &b->node_capacity,
                             b->out->count, sizeof *b->out->nodes);
    if (status != T2M_OK) {
        return status;
    }
    *index = (uint32_t)b->out->count++;
    t2m_key_node *n = &b->out->nodes[*index];
    *n = (t2m_key_node){.text_id = text_id,
                        .leaf = T2M_NO_INDEX,
                        .first_child = T2M_NO_INDEX,
                        .last_child = T2M_NO_INDEX,
                        .next = T2M_NO_INDEX,
                        .number = (int32_t)parent};
    if (*index == 0) {
        return T2M_OK;
    }
    n->text = b->texts[text_id].text;
    n->length = b->texts[text_id].length;
    t2m_key_node *p = &b->out->nodes[parent];
    if (p->last_child == T2M_NO_INDEX) {
        p->first_child = *index;
    } else {
        b->out->nodes[p->last_child].next = *index;
    }
    p->last_child = *index;
    p->children++;
    return T2M_OK;
}

static t2m_status child_of(builder *b, uint32_t parent, const char *text,
                           size_t length, uint32_t *child);

/* Ends key `leaf` at this node: as its value, or under the empty component
   where the node has children. */
static t2m_status
end_at(builder *b, uint32_t node, uint32_t leaf)
{
    while (b->out->nodes[node].children) {
        t2m_status status = child_of(b, node, "", 0, &node);
        if (status != T2M_OK) {
            return status;
        }
    }
    if (b->out->nodes[node].leaf != T2M_NO_INDEX) {
        return T2M_KEY_COLLISION;
    }
    b->out->nodes[node].leaf = leaf;
    return T2M_OK;
}

/* Puts a node into the table of places. */
static t2m_status
remember(builder *b, uint32_t node)
{
    t2m_status status = make_room(b, &b->by_place);
    if (status != T2M_OK) {
        return status;
    }
    size_t at = hash_of(b, &b->by_place, node) & b->by_place.mask;
    while (b->by_place.slots[at]) {
        at = (at + 1) & b->by_place.mask;
    }
    b->by_place.slots[at] = node + 1;
    b->by_place.used++;
    return T2M_OK;
}

/* child_of for a parent with few children; the one that makes them many puts
   them all into the table. */
static t2m_status
child_of_few(builder *b, uint32_t parent, uint32_t text_id, uint32_t *child)
{
    uint32_t c = b->out->nodes[parent].first_child;
    for (; c != T2M_NO_INDEX; c = b->out->nodes[c].next) {
        if (b->out->nodes[c].text_id == text_id) {
            *child = c;
            return T2M_OK;
        }
    }
    t2m_status status = new_node(b, parent, text_id, child);
    if (status != T2M_OK || b->out->nodes[parent].children <= FEW) {
        return status;
    }
    c = b->out->nodes[parent].first_child;
    for (; c != T2M_NO_INDEX && status == T2M_OK; c = b->out->nodes[c].next) {
        status = remember(b, c);
    }
    return status;
}

/* Finds or adds a child.  A node that had a value of its own first moves it
   under the empty component. */
static t2m_status
child_of(builder *b, uint32_t parent, const char *text, size_t length,
         uint32_t *child)
{
    uint32_t id, leaf = b->out->nodes[parent].leaf;
    t2m_status status;

    if (leaf != T2M_NO_INDEX) {
        uint32_t empty;
        b->out->nodes[parent].leaf = T2M_NO_INDEX;
        if ((status = child_of(b, parent, "", 0, &empty)) != T2M_OK ||
            (status = end_at(b, empty, leaf)) != T2M_OK) {
            return status;
        }
    }
    if ((status = intern(b, text, length, &id)) != T2M_OK) {
        return status;
    }
    if (b->out->nodes[parent].children <= FEW) {
        return child_of_few(b, parent, id, child);
    }
    size_t at = hash_place(parent, id) & b->by_place.mask;
    for (; b->by_place.slots[at]; at = (at + 1) & b->by_place.mask) {
        uint32_t i = b->by_place.slots[at] - 1;
        const t2m_key_node *n = &b->out->nodes[i];
        if ((uint32_t)n->number == parent && n->text_id == id) {
            *child = i;
            return T2M_OK;
        }
    }
    status = new_node(b, parent, id, child);
    return status == T2M_OK ? remember(b, *child) : status;
}

/* Returns how many leading components the key shares with the one before,
   each followed by a dot in both. */
static size_t
shared_depth(const builder *b, const t2m_key *key)
{
    size_t depth = 0, at = 0;
    if (!b->last) {
        return 0;
    }
    for (; depth < b->last_depth; depth++) {
        size_t end = b->ends[depth];
        if (end >= b->last->length || end >= key->length ||
            memcmp(b->last->text + at, key->text + at, end + 1 - at) != 0) {
            break;
        }
        at = end + 1;
    }
    return depth;
}

static t2m_status
add_key(builder *b, const t2m_key *key, uint32_t index)
{
    size_t depth = shared_depth(b, key);
    size_t at = depth ? b->ends[depth - 1] + 1 : 0;
    uint32_t node = depth ? b->path[depth - 1] : 0;

    while (at < key->length) {
        const char *start = key->text + at;
        const char *dot = memchr(start, '.', key->length - at);
        size_t length = dot ? (size_t)(dot - start) : key->length - at;
        if (depth == T2M_KEYS_MAX_DEPTH) {
            return T2M_DEPTH;
        }
        t2m_status status = child_of(b, node, start, length, &node);
        if (status != T2M_OK) {
            return status;
        }
        b->path[depth] = node;
        b->ends[depth++] = at + length;
        at += length + 1;
    }
    b->last = key;
    b->last_depth = depth;
    return end_at(b, node, index);
}

static int
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

/* Reads what Python's int() reads: spaces around, a sign, digits with single
   underscores between them. */
static int
read_number(const char *text, size_t length, t2m_number_reader reader,
            int64_t *out)
{
    for (size_t i = 0; i < length; i++) {
        if ((uint8_t)text[i] >= 0x80) {
            return reader ? reader(text, length, out) : 0;
        }
    }
    while (length && is_space(text[0])) {
        text++;
        length--;
    }
    while (length && is_space(text[length - 1])) {
        length--;
    }
    int negative = length && text[0] == '-';
    size_t i = length && (text[0] == '-' || text[0] == '+');
    int64_t value = 0;
    int digit = 0; /* the byte before was one */
    for (; i < length; i++) {
        if (text[i] == '_' && digit) {
            digit = 0;
            continue;
        }
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        digit = 1;
        if (value <= INT32_MAX) {
            value = value * 10 + (text[i] - '0');
        }
    }
    *out = negative ? -value : value;
    return digit;
}

static int
by_number(const void *a, const void *b)
{
    const t2m_key_node *x = *(t2m_key_node *const *)a;
    const t2m_key_node *y = *(t2m_key_node *const *)b;
    return (x->number > y->number) - (x->number < y->number);
}

/* Fills `order` with the children when all are integers: 1, else 0; -1 when
   an index is over the limit. */
static int
numbered_children(t2m_key_tree *tree, const t2m_key_node *node,
                  t2m_number_reader reader, t2m_key_node **order)
{
    size_t n = 0;
    int limit = 0;
    for (uint32_t c = node->first_child; c != T2M_NO_INDEX;
         c = tree->nodes[c].next) {
        t2m_key_node *child = &tree->nodes[c];
        int64_t number;
        if (!read_number(child->text, child->length, reader, &number)) {
            return 0;
        }
        if (number > T2M_KEYS_MAX_INDEX || number < -T2M_KEYS_MAX_INDEX) {
            limit = 1;
            number = 0;
        }
        child->number = (int32_t)number;
        order[n++] = child;
    }
    return limit ? -1 : 1;
}

/* Marks a node as a list where it is one, its children linked in order. */
static t2m_status
decide(t2m_key_tree *tree, t2m_key_node *node, t2m_number_reader reader,
       t2m_key_node **order)
{
    uint32_t n = node->children;
    int numbered = numbered_children(tree, node, reader, order);
    if (numbered == 0) {
        return T2M_OK;
    }
    if (numbered < 0) {
        return T2M_LIMIT;
    }
    qsort(order, n, sizeof *order, by_number);
    for (uint32_t i = 1; i < n; i++) {
        if (order[i - 1]->number == order[i]->number) {
            return T2M_OK; /* "01" and "1" are two keys of a dict */
        }
    }
    node->is_list = 1;
    for (uint32_t i = 0; i < n; i++) {
        order[i]->next =
            i + 1 < n ? (uint32_t)(order[i + 1] - tree->nodes) : T2M_NO_INDEX;
    }
    if (n) {
        node->first_child = (uint32_t)(order[0] - tree->nodes);
        node->last_child = (uint32_t)(order[n - 1] - tree->nodes);
    }
    return T2M_OK;
}

static t2m_status
decide_lists(t2m_key_tree *tree, t2m_number_reader reader)
{
    t2m_status status = T2M_OK;
    t2m_key_node **order = malloc(tree->count * sizeof *order);
    if (!order) {
        return T2M_NO_MEMORY;
    }
    for (size_t i = 0; i < tree->count && status == T2M_OK; i++) {
        t2m_key_node *node = &tree->nodes[i];
        if (node->leaf == T2M_NO_INDEX) {
            status = decide(tree, node, reader, order);
        }
    }
    free(order);
    return status;
}

t2m_status
t2m_keys_nest(const t2m_key *keys, size_t n, int lists,
              t2m_number_reader reader, t2m_key_tree *out, size_t *bad)
{
    builder *b = calloc(1, sizeof *b);
    uint32_t root;
    t2m_status status = T2M_NO_MEMORY;

    memset(out, 0, sizeof *out);
    *bad = n;
    if (!b) {
        goto done;
    }
    b->out = out;
    if (n >= UINT32_MAX) {
        status = T2M_LIMIT;
        goto done;
    }
    status = new_node(b, 0, 0, &root);
    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        status = add_key(b, &keys[i], (uint32_t)i);
        if (status != T2M_OK) {
            *bad = i;
        }
    }
    if (status == T2M_OK && lists) {
        status = decide_lists(out, reader);
    }
done:
    if (b) {
        free(b->texts);
        free(b->by_text.slots);
        free(b->by_place.slots);
        free(b);
    }
    if (status != T2M_OK) {
        t2m_keys_free(out);
    }
    return status;
}

void
t2m_keys_free(t2m_key_tree *tree)
{
    free(tree->nodes);
    memset(tree, 0, sizeof *tree);
}
