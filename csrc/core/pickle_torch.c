/* What torch puts into a pickle: storages as persistent ids, tensors as calls
   of its rebuild functions. */
#include "pickle_machine.h"
#include "size.h"

#include <string.h>

static const t2m_global globals[] = {
#define GLOBAL(module, name, kind, text)                                      \
    {module, name, T2M_GLOBAL_##kind, text},
#include "pickle_globals.def"
#undef GLOBAL
};

enum {
    GLOBALS = sizeof globals / sizeof globals[0],
};

static int
same(const char *name, const uint8_t *text, size_t length)
{
    return strlen(name) == length && memcmp(name, text, length) == 0;
}

int
t2m_global_find(const uint8_t *module, size_t module_length,
                const uint8_t *name, size_t name_length)
{
    for (int i = 0; i < (int)GLOBALS; i++) {
        if (same(globals[i].name, name, name_length) &&
            same(globals[i].module, module, module_length)) {
            return i;
        }
    }
    return -1;
}

const t2m_global *
t2m_global_get(uint32_t index)
{
    return &globals[index];
}

static const t2m_node *
node(const t2m_machine *m, uint32_t index)
{
    return &m->out->nodes[index];
}

/* Returns the i-th argument, or NULL when there are fewer. */
static const t2m_node *
argument(const t2m_machine *m, uint32_t args, uint32_t i)
{
    const t2m_node *tuple = node(m, args);
    return i < tuple->count ? node(m, tuple->as.items[i]) : NULL;
}

/* Reads a tuple or list of non-negative integers. */
static t2m_status
take_sizes(const t2m_machine *m, const t2m_node *n, uint64_t *out, int *count)
{
    if (!n || (n->kind != T2M_NODE_TUPLE && n->kind != T2M_NODE_LIST)) {
        return T2M_PK_CALL;
    }
    if (n->count > T2M_MAX_RANK) {
        return T2M_BAD_RANK;
    }
    for (uint32_t i = 0; i < n->count; i++) {
        const t2m_node *item = node(m, n->as.items[i]);
        if (item->kind != T2M_NODE_INT || item->as.i < 0) {
            return T2M_PK_CALL;
        }
        out[i] = (uint64_t)item->as.i;
    }
    *count = (int)n->count;
    return T2M_OK;
}

static t2m_status
new_tensor(t2m_machine *m, t2m_tensor **tensor, uint32_t *result)
{
    t2m_pickle *p = m->out;
    t2m_status status = t2m_node_new(p, T2M_NODE_TENSOR, result);
    if (status == T2M_OK) {
        status = t2m_pickle_grow(p, (void **)&p->tensors, &p->tensor_capacity,
                                 p->tensor_count, sizeof *p->tensors);
    }
    if (status != T2M_OK) {
        return status;
    }
    p->nodes[*result].as.index = (uint32_t)p->tensor_count;
    *tensor = &p->tensors[p->tensor_count++];
    memset(*tensor, 0, sizeof **tensor);
    (*tensor)->dtype = -1;
    (*tensor)->dtype_name = "";
    return T2M_OK;
}

/* A true entry of a metadata dict ({"conj": True}) changes the values of the
   tensor lazily; such a tensor has no plain data. */
static int
has_true_value(const t2m_machine *m, const t2m_node *dict)
{
    if (!dict || dict->kind != T2M_NODE_DICT) {
        return 0;
    }
    for (uint32_t i = 1; i < dict->count; i += 2) {
        const t2m_node *value = node(m, dict->as.items[i]);
        if (value->kind == T2M_NODE_BOOL && value->as.i) {
            return 1;
        }
    }
    return 0;
}

/* _rebuild_tensor(storage, offset, size, stride)
   _rebuild_tensor_v2(..., requires_grad, hooks[, metadata])
   _rebuild_tensor_v3(..., requires_grad, hooks, dtype[, metadata]) */
static t2m_status
rebuild_tensor(t2m_machine *m, uint32_t args, int v3, uint32_t *result)
{
    t2m_tensor t = {.dtype = -1, .dtype_name = ""};
    const t2m_node *storage = argument(m, args, 0);
    const t2m_node *offset = argument(m, args, 1);
    const t2m_node *dtype = v3 ? argument(m, args, 6) : NULL;
    int strides;
    t2m_status status;

    if (!storage || storage->kind != T2M_NODE_STORAGE || !offset ||
        offset->kind != T2M_NODE_INT || offset->as.i < 0) {
        return T2M_PK_CALL;
    }
    if ((status = take_sizes(m, argument(m, args, 2), t.shape, &t.rank)) !=
            T2M_OK ||
        (status = take_sizes(m, argument(m, args, 3), t.strides, &strides)) !=
            T2M_OK) {
        return status;
    }
    if (strides != t.rank) {
        return T2M_PK_CALL;
    }
    t.storage = storage->as.index;
    t.offset = (uint64_t)offset->as.i;
    t.dtype = m->out->storages[t.storage].dtype;
    t.dtype_name = m->out->storages[t.storage].dtype_name;
    if (v3) {
        if (!dtype || dtype->kind != T2M_NODE_GLOBAL ||
            globals[dtype->as.index].kind != T2M_GLOBAL_DTYPE) {
            return T2M_PK_CALL;
        }
        t.dtype_name = globals[dtype->as.index].text;
        t.dtype = t2m_dtype_from_name(t.dtype_name, strlen(t.dtype_name));
    } else if (t.dtype == -2) {
        return T2M_PK_CALL;
    }
    if (has_true_value(m, argument(m, args, v3 ? 7 : 6))) {
        t.problem = "lazily conjugated or negated";
    }
    t2m_tensor *slot;
    if ((status = new_tensor(m, &slot, result)) == T2M_OK) {
        *slot = t;
    }
    return status;
}

/* _rebuild_from_type_v2(function, type, args, state) */
static t2m_status
rebuild_from_type(t2m_machine *m, uint32_t args, uint32_t *result)
{
    const t2m_node *callee = argument(m, args, 0);
    const t2m_node *inner = argument(m, args, 2);
    if (!callee || callee->kind != T2M_NODE_GLOBAL || !inner ||
        inner->kind != T2M_NODE_TUPLE) {
        return T2M_PK_CALL;
    }
    /* One level only: the function must be a plain rebuild function. */
    if (globals[callee->as.index].kind == T2M_GLOBAL_REBUILD_FROM_TYPE) {
        return T2M_PK_CALL;
    }
    const t2m_node *tuple = node(m, args);
    return t2m_torch_call(m, tuple->as.items[0], tuple->as.items[2], result);
}

static t2m_status
new_problem(t2m_machine *m, const char *problem, uint32_t *result)
{
    t2m_tensor *t;
    t2m_status status = new_tensor(m, &t, result);
    if (status == T2M_OK) {
        t->problem = problem;
        t->dtype_name = problem;
    }
    return status;
}

static t2m_status
new_inert(t2m_machine *m, const char *name, uint32_t *result)
{
    t2m_status status = t2m_node_new(m->out, T2M_NODE_INERT, result);
    if (status == T2M_OK) {
        t2m_node *n = &m->out->nodes[*result];
        n->as.text = (const uint8_t *)name;
        n->count = (uint32_t)strlen(name);
    }
    return status;
}

t2m_status
t2m_torch_call(t2m_machine *m, uint32_t callee, uint32_t args,
               uint32_t *result)
{
    const t2m_global *g = &globals[node(m, callee)->as.index];
    const t2m_node *tuple = node(m, args);

    switch (g->kind) {
    case T2M_GLOBAL_REBUILD_TENSOR:
        return rebuild_tensor(m, args, 0, result);
    case T2M_GLOBAL_REBUILD_TENSOR_V3:
        return rebuild_tensor(m, args, 1, result);
    case T2M_GLOBAL_REBUILD_FROM_TYPE:
        return rebuild_from_type(m, args, result);
    case T2M_GLOBAL_REBUILD_FIRST:
        if (tuple->count == 0 ||
            node(m, tuple->as.items[0])->kind != T2M_NODE_TENSOR) {
            return T2M_PK_CALL;
        }
        *result = tuple->as.items[0];
        return T2M_OK;
    case T2M_GLOBAL_REBUILD_NONE:
        return new_problem(m, g->text, result);
    case T2M_GLOBAL_DICT:
        /* Arguments, if any, are a default factory or a list of pairs. */
        if (tuple->count > 0 &&
            node(m, tuple->as.items[0])->kind == T2M_NODE_LIST &&
            node(m, tuple->as.items[0])->count > 0) {
            return T2M_PK_CALL;
        }
        return t2m_node_new(m->out, T2M_NODE_DICT, result);
    case T2M_GLOBAL_COPY:
        if (tuple->count != 1) {
            return T2M_PK_CALL;
        }
        *result = tuple->as.items[0];
        return T2M_OK;
    case T2M_GLOBAL_INERT:
        return new_inert(m, g->name, result);
    default:
        return T2M_PK_CALL;
    }
}

/* The view of a legacy storage: (key of the view, first item, items). */
static t2m_status
take_view(const t2m_machine *m, const t2m_node *view, t2m_storage *s)
{
    if (!view || view->kind == T2M_NODE_NONE) {
        return T2M_OK;
    }
    if (view->kind != T2M_NODE_TUPLE || view->count != 3) {
        return T2M_PT_BAD_STORAGE;
    }
    const t2m_node *offset = node(m, view->as.items[1]);
    const t2m_node *size = node(m, view->as.items[2]);
    if (offset->kind != T2M_NODE_INT || offset->as.i < 0 ||
        size->kind != T2M_NODE_INT || size->as.i < 0) {
        return T2M_PT_BAD_STORAGE;
    }
    s->view_offset = (uint64_t)offset->as.i;
    s->numel = (uint64_t)size->as.i;
    s->has_view = 1;
    return T2M_OK;
}

/* ("storage", class, key, location, items[, view]) */
t2m_status
t2m_torch_storage(t2m_machine *m, uint32_t id, uint32_t *result)
{
    t2m_pickle *p = m->out;
    if (node(m, id)->kind != T2M_NODE_TUPLE) {
        return T2M_PT_BAD_STORAGE;
    }
    const t2m_node *tag = argument(m, id, 0);
    const t2m_node *class = argument(m, id, 1);
    const t2m_node *key = argument(m, id, 2);
    const t2m_node *numel = argument(m, id, 4);
    if (!numel || tag->kind != T2M_NODE_TEXT ||
        !same("storage", tag->as.text, tag->count) ||
        class->kind != T2M_NODE_GLOBAL ||
        globals[class->as.index].kind != T2M_GLOBAL_STORAGE ||
        key->kind != T2M_NODE_TEXT || numel->kind != T2M_NODE_INT ||
        numel->as.i < 0) {
        return T2M_PT_BAD_STORAGE;
    }
    t2m_storage s = {.key = (const char *)key->as.text,
                     .key_length = key->count,
                     .dtype_name = globals[class->as.index].text,
                     .numel = (uint64_t)numel->as.i};
    s.dtype = s.dtype_name[0]
                  ? t2m_dtype_from_name(s.dtype_name, strlen(s.dtype_name))
                  : -2;
    t2m_status status = take_view(m, argument(m, id, 5), &s);
    if (status == T2M_OK) {
        status =
            t2m_pickle_grow(p, (void **)&p->storages, &p->storage_capacity,
                            p->storage_count, sizeof s);
    }
    if (status == T2M_OK &&
        (status = t2m_node_new(p, T2M_NODE_STORAGE, result)) == T2M_OK) {
        p->nodes[*result].as.index = (uint32_t)p->storage_count;
        p->storages[p->storage_count++] = s;
    }
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
t2m_pickle_check_tensors(const t2m_pickle *pickle, t2m_where *where)
{
    for (size_t i = 0; i < pickle->tensor_count; i++) {
        const t2m_tensor *t = &pickle->tensors[i];
        if (t->dtype < 0 || t->problem) {
            continue;
        }
        const t2m_storage *s = &pickle->storages[t->storage];
        t2m_status status = check_tensor(t, s);
        if (status != T2M_OK) {
            t2m_where_name(where, s->key, s->key_length);
            return status;
        }
    }
    return T2M_OK;
}
