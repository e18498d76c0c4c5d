#include "keys.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    t2m_trie *trie;
    t2m_trie_trail trail; /* of the key before */
} builder;

/* What a component is as an index. */
typedef struct {
    int32_t value;
    enum { NAME, NUMBER, TOO_LARGE } kind;
} number;

/* What deciding on lists needs. */
typedef struct {
    t2m_key_tree *tree;
    number *texts;  /* by text id */
    uint64_t holes; /* that may still be made */
    uint32_t bad;   /* the node that exceeds a limit */
} decider;

static t2m_status child_of(t2m_trie *t, uint32_t parent, const char *text,
                           size_t length, uint32_t *child);

/* Ends key `leaf` at this node: as its value, or under the empty component
   where the node has children. */
static t2m_status
end_at(t2m_trie *t, uint32_t node, uint32_t leaf)
{
    while (t->nodes[node].children) {
        t2m_status status = child_of(t, node, "", 0, &node);
        if (status != T2M_OK) {
            return status;
        }
    }
    if (t->nodes[node].value != T2M_NO_INDEX) {
        return T2M_KEY_COLLISION;
    }
    t->nodes[node].value = leaf;
    return T2M_OK;
}

/* Finds or adds a child.  A node that had a value of its own first moves it
   under the empty component. */
static t2m_status
child_of(t2m_trie *t, uint32_t parent, const char *text, size_t length,
         uint32_t *child)
{
    uint32_t empty, leaf = t->nodes[parent].value;
    t2m_status status;

    if (leaf != T2M_NO_INDEX) {
        t->nodes[parent].value = T2M_NO_INDEX;
        if ((status = child_of(t, parent, "", 0, &empty)) != T2M_OK ||
            (status = end_at(t, empty, leaf)) != T2M_OK) {
            return status;
        }
    }
    return t2m_trie_add(t, parent, text, length, child);
}

static t2m_status
add_key(builder *b, const t2m_key *key, uint32_t index)
{
    t2m_trie_trail *trail = &b->trail;
    size_t depth = t2m_trie_shared(trail, key->text, key->length);
    size_t at = depth ? trail->ends[depth - 1] + 1 : 0;
    uint32_t node = depth ? trail->path[depth - 1] : 0;

    while (at < key->length) {
        const char *start = key->text + at;
        size_t length = 0; /* components are too short for memchr() to pay */
        while (length < key->length - at && start[length] != '.') {
            length++;
        }
        if (depth == T2M_KEYS_MAX_DEPTH) {
            return T2M_DEPTH;
        }
        t2m_status status = child_of(b->trie, node, start, length, &node);
        if (status != T2M_OK) {
            return status;
        }
        trail->path[depth] = node;
        trail->ends[depth++] = at + length;
        at += length + 1;
    }
    trail->text = key->text;
    trail->length = key->length;
    trail->depth = depth;
    return end_at(b->trie, node, index);
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

/* A child on its way to its place in a list. */
typedef struct {
    int32_t number;
    uint32_t node;
} place;

static int
by_number(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* Reads each distinct component once. */
static void
read_numbers(const t2m_trie *t, t2m_number_reader reader, number *out)
{
    for (size_t i = 0; i < t->text_count; i++) {
        int64_t value;
        if (!read_number(t->texts[i].text, t->texts[i].length, reader,
                         &value)) {
            out[i] = (number){0, NAME};
        } else if (value > T2M_KEYS_MAX_INDEX || value < -T2M_KEYS_MAX_INDEX) {
            out[i] = (number){0, TOO_LARGE};
        } else {
            out[i] = (number){(int32_t)value, NUMBER};
        }
    }
}

/* Numbers the children when all are integers: 1, else 0; -1 when an index is
   over the limit. `places` gets them; *sorted whether they ascend. */
static int
number_children(decider *d, const t2m_trie_node *node, place *places,
                int *sorted)
{
    const t2m_trie_node *nodes = d->tree->trie.nodes;
    uint32_t over = T2M_NO_INDEX;
    size_t n = 0;

    *sorted = 1;
    for (uint32_t c = node->first_child; c != T2M_NO_INDEX;
         c = nodes[c].next) {
        const number *index = &d->texts[nodes[c].text_id];
        if (index->kind == NAME) {
            return 0;
        }
        over = index->kind == TOO_LARGE ? c : over;
        places[n] = (place){index->value, c};
        *sorted &= n == 0 || places[n - 1].number < places[n].number;
        n++;
    }
    if (over != T2M_NO_INDEX) {
        d->bad = over;
        return -1;
    }
    return 1;
}

/* Links n sorted children as a list, and counts the holes between them. */
static t2m_status
link_list(decider *d, uint32_t index, const place *places, uint32_t n)
{
    t2m_trie_node *nodes = d->tree->trie.nodes;
    uint32_t slots = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t node = places[i].node;
        uint32_t at = places[i].number > (int32_t)slots
                          ? (uint32_t)places[i].number
                          : slots;
        if (at - slots > d->holes) {
            d->bad = node;
            return T2M_KEY_HOLES;
        }
        d->holes -= at - slots;
        slots = at + 1;
        d->tree->numbers[node] = (int32_t)at;
        nodes[node].next = i + 1 < n ? places[i + 1].node : T2M_NO_INDEX;
    }
    nodes[index].first_child = n ? places[0].node : T2M_NO_INDEX;
    nodes[index].last_child = n ? places[n - 1].node : T2M_NO_INDEX;
    d->tree->slots[index] = slots;
    return T2M_OK;
}

/* Makes a node a list where it is one. */
static t2m_status
decide(decider *d, uint32_t index, place *places)
{
    const t2m_trie_node *node = &d->tree->trie.nodes[index];
    int sorted;
    int numbered = number_children(d, node, places, &sorted);

    if (numbered <= 0) {
        return numbered == 0 ? T2M_OK : T2M_LIMIT;
    }
    if (!sorted) {
        qsort(places, node->children, sizeof *places, by_number);
    }
    for (uint32_t i = 1; i < node->children; i++) {
        if (places[i - 1].number == places[i].number) {
            return T2M_OK; /* "01" and "1" are two keys of a dict */
        }
    }
    return link_list(d, index, places, node->children);
}

/* The first key at or below a node. */
static size_t
key_below(const t2m_trie *t, uint32_t node)
{
    while (t->nodes[node].value == T2M_NO_INDEX) {
        node = t->nodes[node].first_child;
    }
    return t->nodes[node].value;
}

static t2m_status
decide_lists(decider *d, t2m_number_reader reader, size_t *bad)
{
    const t2m_trie *t = &d->tree->trie;
    t2m_status status = T2M_OK;

    /* no product overflows: the trie holds more for each of these */
    place *places = malloc(t->count * sizeof *places);
    d->texts = malloc((t->text_count + 1) * sizeof *d->texts);
    d->tree->numbers = malloc(t->count * sizeof *d->tree->numbers);
    d->tree->slots = calloc(t->count, sizeof *d->tree->slots);
    if (!places || !d->texts || !d->tree->numbers || !d->tree->slots) {
        status = T2M_NO_MEMORY;
        goto done;
    }
    read_numbers(t, reader, d->texts);
    for (size_t i = 0; i < t->count && status == T2M_OK; i++) {
        if (t->nodes[i].children) {
            status = decide(d, (uint32_t)i, places);
        }
    }
    if (status == T2M_LIMIT || status == T2M_KEY_HOLES) {
        *bad = key_below(t, d->bad);
    }
done:
    free(places);
    free(d->texts);
    return status;
}

t2m_status
t2m_keys_nest(const t2m_key *keys, size_t n, int lists,
              t2m_number_reader reader, uint64_t secret, t2m_key_tree *out,
              size_t *bad)
{
    builder *b = calloc(1, sizeof *b);
    decider d = {out, NULL, T2M_KEYS_HOLES, 0};
    t2m_status status = T2M_NO_MEMORY;

    memset(out, 0, sizeof *out);
    *bad = n;
    if (!b) {
        goto done;
    }
    if (n >= UINT32_MAX) {
        status = T2M_LIMIT;
        goto done;
    }
    b->trie = &out->trie;
    status = t2m_trie_new(secret, b->trie);
    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        status = add_key(b, &keys[i], (uint32_t)i);
        if (status != T2M_OK) {
            *bad = i;
        }
    }
    if (status == T2M_OK && lists) {
        d.holes += (uint64_t)n * T2M_KEYS_HOLES_PER_KEY;
        status = decide_lists(&d, reader, bad);
    }
done:
    free(b);
    if (status != T2M_OK) {
        t2m_keys_free(out);
    }
    return status;
}

void
t2m_keys_free(t2m_key_tree *tree)
{
    t2m_trie_free(&tree->trie);
    free(tree->numbers);
    free(tree->slots);
    memset(tree, 0, sizeof *tree);
}
