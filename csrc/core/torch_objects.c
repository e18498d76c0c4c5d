/* What torch puts into a pickle: storages as persistent ids, tensors as calls
   of its rebuild functions. */
#include "pickle_machine.h"

#include <string.h>

/* Entries that a tensor's metadata ({"conj": True}) may have. */
#define MAX_METADATA 8

/* dtypes of torch that are none of ours, with the bytes of an item in files
   from before 1.6, where storages follow one another. */
static const struct {
    const char *name;
    size_t bytes;
} other_dtypes[] = {
    {"complex128", 16}, {"complex32", 4}, {"qint8", 1},    {"quint8", 1},
    {"qint32", 4},      {"quint4x2", 1},  {"quint2x4", 1},
};

static int
is_text(const t2m_node *n, const char *text)
{
    return n && n->kind == T2M_NODE_TEXT && n->count == strlen(text) &&
           memcmp(n->as.text, text, n->count) == 0;
}

/* Adds a tensor that cannot be read: why, and 1 + the index of the name of
   what it is, or 0. */
static t2m_status
new_unreadable(t2m_machine *m, const char *problem, uint32_t class,
               uint32_t *result)
{
    t2m_tensor *t;
    t2m_status status = t2m_tensor_new(m->out, m->opcode_at, &t, result);
    if (status == T2M_OK) {
        t->problem = problem;
        t->dtype_name = problem;
        t->class = class;
    }
    return status;
}

/* Reads {"conj": True, "neg": True}: what torch does to the stored values
   when they are used.  Returns 0 for entries of another meaning. */
static int
take_metadata(const t2m_machine *m, const t2m_node *dict, t2m_tensor *t)
{
    if (!dict || dict->kind == T2M_NODE_NONE) {
        return 1;
    }
    if (dict->kind != T2M_NODE_DICT || dict->count > 2 * MAX_METADATA) {
        return 0;
    }
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const t2m_node *key = t2m_node_at(m, dict->as.items[i]);
        const t2m_node *value = t2m_node_at(m, dict->as.items[i + 1]);
        if (value->kind != T2M_NODE_BOOL) {
            return 0;
        }
        if (is_text(key, "conj")) {
            t->conj = (uint8_t)value->as.i;
        } else if (is_text(key, "neg")) {
            t->neg = (uint8_t)value->as.i;
        } else if (value->as.i) {
            return 0;
        }
    }
    return 1;
}

/* _rebuild_tensor(storage, offset, size, stride)
   _rebuild_tensor_v2(..., requires_grad, hooks[, metadata])
   _rebuild_tensor_v3(..., requires_grad, hooks, dtype[, metadata]) */
static t2m_status
rebuild_tensor(t2m_machine *m, uint32_t args, int v3, uint32_t *result)
{
    t2m_tensor t = {
        .dtype = T2M_DTYPE_OTHER, .dtype_name = "", .at = m->opcode_at};
    const t2m_node *storage = t2m_argument_at(m, args, 0);
    const t2m_node *offset = t2m_argument_at(m, args, 1);
    const t2m_global *dtype = t2m_global_of(t2m_argument_at(m, args, 6));
    int strides;
    t2m_status status;

    if (storage && storage->kind == T2M_NODE_INERT) {
        return new_unreadable(m, "a tensor in a storage of class",
                              storage->other + 1, result);
    }
    if (!storage || storage->kind != T2M_NODE_STORAGE || !offset ||
        offset->kind != T2M_NODE_INT || offset->as.i < 0) {
        return T2M_PK_CALL;
    }
    if ((status = t2m_take_sizes(m, t2m_argument_at(m, args, 2), t.shape,
                                 &t.rank)) != T2M_OK ||
        (status = t2m_take_sizes(m, t2m_argument_at(m, args, 3), t.strides,
                                 &strides)) != T2M_OK) {
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
        if (!dtype || dtype->kind != T2M_GLOBAL_DTYPE) {
            return new_unreadable(m, "a tensor of an unknown dtype", 0,
                                  result);
        }
        t.dtype_name = dtype->text;
        t.dtype = t2m_dtype_from_name(t.dtype_name, strlen(t.dtype_name));
    } else if (t.dtype == T2M_DTYPE_UNTYPED) {
        return T2M_PK_CALL;
    }
    if (!take_metadata(m, t2m_argument_at(m, args, v3 ? 7 : 6), &t)) {
        t.problem = "a tensor that is lazily changed in an unknown way";
    }
    t2m_tensor *slot;
    if ((status = t2m_tensor_new(m->out, t.at, &slot, result)) == T2M_OK) {
        *slot = t;
    }
    return status;
}

/* OrderedDict([[key, value], ...]), as Python 2 wrote it. Anything else but
   a list is a default factory. */
static t2m_status
new_dict(t2m_machine *m, uint32_t args, uint32_t *result)
{
    const t2m_node *pairs = t2m_argument_at(m, args, 0);
    t2m_status status = T2M_OK;

    if (pairs && pairs->kind >= T2M_NODE_TUPLE &&
        pairs->kind <= T2M_NODE_DICT && pairs->kind != T2M_NODE_LIST) {
        return T2M_OK; /* no meaning: an inert node */
    }
    uint32_t count = pairs && pairs->kind == T2M_NODE_LIST ? pairs->count : 0;
    const uint32_t *items = count ? pairs->as.items : NULL;
    status = t2m_node_new(m->out, T2M_NODE_DICT, result);
    for (uint32_t i = 0; status == T2M_OK && i < count; i++) {
        const t2m_node *pair = t2m_node_at(m, items[i]);
        if ((pair->kind != T2M_NODE_TUPLE && pair->kind != T2M_NODE_LIST) ||
            pair->count != 2) {
            return T2M_PK_CALL;
        }
        status = t2m_node_extend(m->out, *result, pair->as.items, 2);
    }
    return status;
}

/* _codecs.encode(text, "latin1"): a byte string, in protocol 2 */
static t2m_status
encode(t2m_machine *m, uint32_t args, uint32_t *result)
{
    const t2m_node *tuple = t2m_node_at(m, args);
    const t2m_node *text = t2m_argument_at(m, args, 0);
    const t2m_node *name = t2m_argument_at(m, args, 1);
    if (!text || text->kind != T2M_NODE_TEXT ||
        (!is_text(name, "latin1") && !is_text(name, "latin-1"))) {
        return T2M_OK;
    }
    return t2m_latin1_new(m->out, tuple->as.items[0], result);
}

/* Passes its only argument on, where that is of this kind (or any, -1). */
static void
pass(const t2m_machine *m, uint32_t args, int kind, uint32_t *result)
{
    const t2m_node *tuple = t2m_node_at(m, args);
    if (tuple->count > 0 &&
        (kind < 0 || t2m_argument_at(m, args, 0)->kind == kind)) {
        *result = tuple->as.items[0];
    }
}

static t2m_status
plain_call(t2m_machine *m, const t2m_global *g, uint32_t args,
           uint32_t *result)
{
    const t2m_node *tuple = t2m_node_at(m, args);
    switch (g->kind) {
    case T2M_GLOBAL_REBUILD_TENSOR:
        return rebuild_tensor(m, args, 0, result);
    case T2M_GLOBAL_REBUILD_TENSOR_V3:
        return rebuild_tensor(m, args, 1, result);
    case T2M_GLOBAL_REBUILD_FIRST:
        pass(m, args, T2M_NODE_TENSOR, result);
        pass(m, args, T2M_NODE_INERT, result);
        return T2M_OK;
    case T2M_GLOBAL_REBUILD_NONE:
        return new_unreadable(m, g->text, 0, result);
    case T2M_GLOBAL_DICT:
        return new_dict(m, args, result);
    case T2M_GLOBAL_COPY:
        if (tuple->count == 1) {
            pass(m, args, -1, result);
        }
        return T2M_OK;
    case T2M_GLOBAL_BYTES:
        pass(m, args, T2M_NODE_BYTES, result);
        pass(m, args, T2M_NODE_LATIN1, result);
        return tuple->count ? T2M_OK
                            : t2m_node_new(m->out, T2M_NODE_BYTES, result);
    case T2M_GLOBAL_ENCODE:
        return encode(m, args, result);
    default:
        return t2m_array_call(m, g, args, result);
    }
}

/* _rebuild_from_type_v2(function, type, args, state): a tensor of a class.
   Only classes whose tensors are plain ones are known. */
static t2m_status
rebuild_from_type(t2m_machine *m, uint32_t args, uint32_t *result)
{
    const t2m_node *function = t2m_argument_at(m, args, 0);
    const t2m_node *type = t2m_argument_at(m, args, 1);
    const t2m_node *inner = t2m_argument_at(m, args, 2);
    const t2m_global *known = t2m_global_of(type);
    const t2m_global *callee = t2m_global_of(function);

    if (type && type->kind == T2M_NODE_INERT) {
        return new_unreadable(m, NULL, type->other + 1, result);
    }
    if (function && function->kind == T2M_NODE_INERT) {
        return new_unreadable(m, NULL, function->other + 1, result);
    }
    /* One level only: the function must be a plain rebuild function. */
    if (!known || known->kind != T2M_GLOBAL_TYPE || !callee || !inner ||
        inner->kind != T2M_NODE_TUPLE ||
        callee->kind == T2M_GLOBAL_REBUILD_FROM_TYPE) {
        return T2M_PK_CALL;
    }
    return plain_call(m, callee, t2m_node_at(m, args)->as.items[2], result);
}

static t2m_status
call(t2m_machine *m, uint32_t callee, uint32_t args, uint32_t *result)
{
    const t2m_global *g = t2m_global_of(t2m_node_at(m, callee));
    return g->kind == T2M_GLOBAL_REBUILD_FROM_TYPE
               ? rebuild_from_type(m, args, result)
               : plain_call(m, g, args, result);
}

static t2m_status
build(t2m_machine *m, uint32_t object, uint32_t state)
{
    const t2m_node *node = t2m_node_at(m, object);
    if (node->kind == T2M_NODE_DTYPE) {
        return t2m_array_dtype_build(m, object, state);
    }
    /* attributes of a tensor are no weights */
    return m->out->tensors[node->as.index].array
               ? t2m_array_build(m, object, state)
               : T2M_OK;
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
    const t2m_node *offset = t2m_node_at(m, view->as.items[1]);
    const t2m_node *size = t2m_node_at(m, view->as.items[2]);
    if (offset->kind != T2M_NODE_INT || offset->as.i < 0 ||
        size->kind != T2M_NODE_INT || size->as.i < 0) {
        return T2M_PT_BAD_STORAGE;
    }
    s->view_offset = (uint64_t)offset->as.i;
    s->numel = (uint64_t)size->as.i;
    s->has_view = 1;
    return T2M_OK;
}

/* Fills in what the class of a storage says; 0 where it is no class. */
static int
take_class(const t2m_node *class, t2m_storage *s)
{
    const t2m_global *g = t2m_global_of(class);
    if (class->kind == T2M_NODE_INERT) {
        s->dtype = T2M_DTYPE_OTHER;
        s->dtype_name = "a tensor in a storage of an unknown class";
        return 1;
    }
    if (!g || g->kind != T2M_GLOBAL_STORAGE) {
        return 0;
    }
    s->dtype_name = g->text;
    s->dtype = g->text[0] ? t2m_dtype_from_name(g->text, strlen(g->text))
                          : T2M_DTYPE_UNTYPED;
    s->item = s->dtype == T2M_DTYPE_UNTYPED ? 1 : 0;
    if (s->dtype >= 0) {
        s->item = t2m_dtype_get((t2m_dtype)s->dtype)->bytes;
    }
    for (size_t i = 0; i < sizeof other_dtypes / sizeof *other_dtypes; i++) {
        if (strcmp(other_dtypes[i].name, g->text) == 0) {
            s->item = other_dtypes[i].bytes;
        }
    }
    return 1;
}

/* ("storage", class, key, location, items[, view]), or, in files from before
   1.6, ("module", class, file, source) for a class itself */
static t2m_status
persistent(t2m_machine *m, uint32_t id, uint32_t *result)
{
    const t2m_node *class = t2m_argument_at(m, id, 1);
    const t2m_node *key = t2m_argument_at(m, id, 2);
    const t2m_node *numel = t2m_argument_at(m, id, 4);
    t2m_storage s = {.dtype = T2M_DTYPE_OTHER, .dtype_name = ""};
    uint32_t index;

    if (is_text(t2m_argument_at(m, id, 0), "module") && class) {
        *result = t2m_node_at(m, id)->as.items[1];
        return T2M_OK;
    }
    if (!is_text(t2m_argument_at(m, id, 0), "storage")) {
        return T2M_OK;
    }
    if (!numel || key->kind != T2M_NODE_TEXT || !take_class(class, &s) ||
        numel->kind != T2M_NODE_INT || numel->as.i < 0) {
        return T2M_PT_BAD_STORAGE;
    }
    s.key = (const char *)key->as.text;
    s.key_length = key->count;
    s.numel = (uint64_t)numel->as.i;
    t2m_status status = take_view(m, t2m_argument_at(m, id, 5), &s);
    if (status == T2M_OK) {
        status = t2m_storage_new(m->out, &s, &index);
    }
    if (status == T2M_OK &&
        (status = t2m_node_new(m->out, T2M_NODE_STORAGE, result)) == T2M_OK) {
        t2m_node_at(m, *result)->as.index = index;
    }
    return status;
}

const t2m_pickle_hooks t2m_torch_hooks = {
    .find = t2m_global_find,
    .call = call,
    .build = build,
    .persistent = persistent,
};
