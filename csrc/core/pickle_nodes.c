#include "pickle_machine.h"
#include "json.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

t2m_status
t2m_pickle_grow(t2m_pickle *p, void **items, size_t *capacity, size_t count,
                size_t item)
{
    if (count < *capacity) {
        return T2M_OK;
    }
    uint64_t wanted = *capacity ? (uint64_t)*capacity * 2 : 16;
    uint64_t added = (wanted - *capacity) * item;
    if (wanted > UINT32_MAX || added > p->memory_limit - p->memory) {
        return T2M_LIMIT;
    }
    void *bigger = realloc(*items, wanted * item);
    if (!bigger) {
        return T2M_NO_MEMORY;
    }
    p->memory += added;
    *items = bigger;
    *capacity = wanted;
    return T2M_OK;
}

t2m_status
t2m_node_new(t2m_pickle *p, t2m_node_kind kind, uint32_t *index)
{
    t2m_status status =
        t2m_pickle_grow(p, (void **)&p->nodes, &p->node_capacity,
                        p->node_count, sizeof *p->nodes);
    if (status != T2M_OK) {
        return status;
    }
    t2m_node *node = &p->nodes[p->node_count];
    memset(node, 0, sizeof *node);
    node->kind = (uint8_t)kind;
    *index = (uint32_t)p->node_count++;
    return T2M_OK;
}

t2m_status
t2m_node_extend(t2m_pickle *p, uint32_t target, const uint32_t *items,
                size_t n)
{
    t2m_node *node = &p->nodes[target];
    size_t capacity = node->capacity;
    void *array = node->as.items;
    t2m_status status = T2M_OK;

    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        status =
            t2m_pickle_grow(p, &array, &capacity, node->count, sizeof *items);
        if (status == T2M_OK) {
            ((uint32_t *)array)[node->count++] = items[i];
        }
    }
    node->as.items = array;
    node->capacity = (uint32_t)capacity;
    return status;
}

t2m_status
t2m_name_new(t2m_pickle *p, const t2m_inert_name *name, uint32_t *index)
{
    t2m_status status =
        t2m_pickle_grow(p, (void **)&p->names, &p->name_capacity,
                        p->name_count, sizeof *p->names);
    if (status == T2M_OK) {
        p->names[p->name_count] = *name;
        *index = (uint32_t)p->name_count++;
    }
    return status;
}

t2m_status
t2m_inert_new(t2m_pickle *p, uint32_t name, const uint32_t *given, size_t n,
              uint32_t *result)
{
    t2m_status status = t2m_node_new(p, T2M_NODE_INERT, result);
    if (status == T2M_OK) {
        p->nodes[*result].other = name;
        status = t2m_node_extend(p, *result, given, n);
    }
    return status;
}

t2m_status
t2m_tensor_new(t2m_pickle *p, uint64_t at, t2m_tensor **tensor,
               uint32_t *result)
{
    t2m_status status =
        t2m_pickle_grow(p, (void **)&p->tensors, &p->tensor_capacity,
                        p->tensor_count, sizeof *p->tensors);
    if (status == T2M_OK) {
        status = t2m_node_new(p, T2M_NODE_TENSOR, result);
    }
    if (status != T2M_OK) {
        return status;
    }
    p->nodes[*result].as.index = (uint32_t)p->tensor_count;
    *tensor = &p->tensors[p->tensor_count++];
    memset(*tensor, 0, sizeof **tensor);
    (*tensor)->dtype = T2M_DTYPE_OTHER;
    (*tensor)->dtype_name = "";
    (*tensor)->at = at;
    return T2M_OK;
}

t2m_status
t2m_storage_new(t2m_pickle *p, const t2m_storage *storage, uint32_t *index)
{
    t2m_status status =
        t2m_pickle_grow(p, (void **)&p->storages, &p->storage_capacity,
                        p->storage_count, sizeof *p->storages);
    if (status == T2M_OK) {
        p->storages[p->storage_count] = *storage;
        *index = (uint32_t)p->storage_count++;
    }
    return status;
}

/* Counts the characters of a UTF-8 text; 0 where one is beyond U+00FF. */
static int
latin1_length(const uint8_t *text, uint32_t length, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] > 0xc3) {
            return 0;
        }
        *count += (text[i] & 0xc0) != 0x80;
    }
    return 1;
}

t2m_status
t2m_latin1_new(t2m_pickle *p, uint32_t text, uint32_t *result)
{
    uint32_t count;
    t2m_node made = p->nodes[text];

    if (made.other) { /* scanned before: no text is scanned twice */
        *result = made.other - 1;
        return T2M_OK;
    }
    if (!latin1_length(made.as.text, made.count, &count)) {
        return T2M_PK_VALUE;
    }
    made.kind = count == made.count ? T2M_NODE_BYTES : T2M_NODE_LATIN1;
    made.other = count;
    t2m_status status = t2m_node_new(p, T2M_NODE_BYTES, result);
    if (status == T2M_OK) {
        p->nodes[*result] = made;
        p->nodes[text].other = *result + 1;
    }
    return status;
}

void
t2m_latin1_decode(const t2m_node *node, uint8_t *out)
{
    const uint8_t *text = node->as.text;
    for (uint32_t i = 0; i < node->count; i++) {
        int wide = text[i] >= 0x80;
        *out++ =
            wide ? (uint8_t)(text[i] << 6 | (text[i + 1] & 0x3f)) : text[i];
        i += (uint32_t)wide;
    }
}

const t2m_node *
t2m_argument_at(const t2m_machine *m, uint32_t args, uint32_t i)
{
    const t2m_node *tuple = t2m_node_at(m, args);
    return tuple->kind == T2M_NODE_TUPLE && i < tuple->count
               ? t2m_node_at(m, tuple->as.items[i])
               : NULL;
}

t2m_status
t2m_take_sizes(const t2m_machine *m, const t2m_node *n, uint64_t *out,
               int *count)
{
    if (!n || (n->kind != T2M_NODE_TUPLE && n->kind != T2M_NODE_LIST)) {
        return T2M_PK_CALL;
    }
    if (n->count > T2M_MAX_RANK) {
        return T2M_BAD_RANK;
    }
    for (uint32_t i = 0; i < n->count; i++) {
        const t2m_node *item = t2m_node_at(m, n->as.items[i]);
        if (item->kind != T2M_NODE_INT || item->as.i < 0) {
            return T2M_PK_CALL;
        }
        out[i] = (uint64_t)item->as.i;
    }
    *count = (int)n->count;
    return T2M_OK;
}

static int
has_items(const t2m_node *node)
{
    return (node->kind >= T2M_NODE_TUPLE && node->kind <= T2M_NODE_DICT) ||
           node->kind == T2M_NODE_INERT;
}

void
t2m_pickle_free(t2m_pickle *pickle)
{
    for (size_t i = 0; i < pickle->node_count; i++) {
        if (has_items(&pickle->nodes[i])) {
            free(pickle->nodes[i].as.items);
        }
    }
    free(pickle->nodes);
    free(pickle->names);
    free(pickle->storages);
    free(pickle->tensors);
    free(pickle->dtypes);
    memset(pickle, 0, sizeof *pickle);
}

/* Whether a node is itself what can hold weights. */
static int
is_data(const t2m_node *node)
{
    switch ((t2m_node_kind)node->kind) {
    case T2M_NODE_TENSOR:
    case T2M_NODE_STORAGE:
    case T2M_NODE_DTYPE: /* of an array of an unknown class */
        return 1;
    case T2M_NODE_BYTES:
    case T2M_NODE_LATIN1:
        return node->count >= T2M_PK_DATA_BYTES;
    default:
        return node->holds;
    }
}

/* Lists the containers of every node: those of node i are parents[start[i]]
   up to parents[start[i + 1]]. */
static void
list_parents(const t2m_pickle *p, size_t *start, uint32_t *parents)
{
    for (size_t i = 0; i < p->node_count; i++) {
        const t2m_node *node = &p->nodes[i];
        for (uint32_t k = 0; has_items(node) && k < node->count; k++) {
            start[node->as.items[k] + 1]++;
        }
    }
    for (size_t i = 0; i < p->node_count; i++) {
        start[i + 1] += start[i];
    }
    /* Fills each list from its end, so that start[i] ends where it began. */
    for (size_t i = p->node_count; i-- > 0;) {
        const t2m_node *node = &p->nodes[i];
        for (uint32_t k = 0; has_items(node) && k < node->count; k++) {
            parents[--start[node->as.items[k] + 1]] = (uint32_t)i;
        }
    }
    for (size_t i = 0; i < p->node_count; i++) {
        start[i] = start[i + 1];
    }
}

/* Sets `holds` of all nodes from which data can be reached: backwards from
   the data, each node once, cycles or not. */
static t2m_status
mark_holders(t2m_pickle *p)
{
    size_t edges = 0, waiting = 0;
    t2m_status status = T2M_NO_MEMORY;

    for (size_t i = 0; i < p->node_count; i++) {
        edges += has_items(&p->nodes[i]) ? p->nodes[i].count : 0;
    }
    size_t *start = calloc(p->node_count + 2, sizeof *start);
    uint32_t *parents = calloc(edges + 1, sizeof *parents);
    uint32_t *queue = calloc(p->node_count + 1, sizeof *queue);
    if (!start || !parents || !queue) {
        goto done;
    }
    list_parents(p, start, parents);
    start[p->node_count] = edges;
    for (size_t i = 0; i < p->node_count; i++) {
        if (is_data(&p->nodes[i])) {
            p->nodes[i].holds = 1;
            queue[waiting++] = (uint32_t)i;
        }
    }
    while (waiting > 0) {
        uint32_t node = queue[--waiting];
        for (size_t k = start[node]; k < start[node + 1]; k++) {
            t2m_node *parent = &p->nodes[parents[k]];
            if (!parent->holds) {
                parent->holds = 1;
                queue[waiting++] = parents[k];
            }
        }
    }
    status = T2M_OK;
done:
    free(start);
    free(parents);
    free(queue);
    return status;
}

static t2m_status
check_tensor(const t2m_tensor *t, const t2m_storage *s)
{
    uint64_t bytes = t2m_dtype_get((t2m_dtype)t->dtype)->bytes;
    uint64_t count, span, last = t->offset;
    t2m_status status = t2m_shape_count(t->rank, t->shape, bytes, &count);

    if (status != T2M_OK) {
        return status;
    }
    if (count == 0) {
        return T2M_OK;
    }
    for (int i = 0; i < t->rank; i++) {
        if (t2m_mul(t->shape[i] - 1, t->strides[i], &span) ||
            t2m_add(last, span, &last)) {
            return T2M_OVERFLOW;
        }
    }
    if (t2m_add(last, 1, &last) || t2m_mul(last, bytes, &last)) {
        return T2M_OVERFLOW;
    }
    return last <= s->length ? T2M_OK : T2M_PT_TENSOR_BOUNDS;
}

t2m_status
t2m_pickle_finish(t2m_pickle *pickle, t2m_where *where)
{
    for (size_t i = 0; i < pickle->tensor_count; i++) {
        const t2m_tensor *t = &pickle->tensors[i];
        if (t->dtype < 0 || t->problem || t->class) {
            continue;
        }
        const t2m_storage *s = &pickle->storages[t->storage];
        t2m_status status = check_tensor(t, s);
        if (status != T2M_OK) {
            where->offset = pickle->base + t->at;
            t2m_where_name(where, s->key, s->key_length);
            return status;
        }
    }
    return mark_holders(pickle);
}
