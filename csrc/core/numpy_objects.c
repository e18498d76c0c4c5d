/* What numpy puts into a pickle:

     dtype(code, align, copy), with the state
         (version, byte order, base, names, fields, size, alignment, flags)
     _reconstruct(class, (0,), "b"), with the state
         ([version,] shape, dtype, Fortran order, bytes)
     _frombuffer(bytes, dtype, shape, order[, axes])      protocol 5
     scalar(dtype, bytes)

   Each array becomes a tensor over a storage of its own, whose bytes are
   those in the pickle. */
#include "pickle_machine.h"
#include "size.h"

#include <string.h>

/* numpy's codes of our dtypes: kind and bytes of an item. */
static const struct {
    const char *code, *torch;
} codes[] = {
    {"b1", "bool"},      {"u1", "uint8"},   {"i1", "int8"},
    {"u2", "uint16"},    {"i2", "int16"},   {"u4", "uint32"},
    {"i4", "int32"},     {"u8", "uint64"},  {"i8", "int64"},
    {"f2", "float16"},   {"f4", "float32"}, {"f8", "float64"},
    {"c8", "complex64"},
};

/* What arrays of other kinds are called in a refusal. */
static const char *
kind_name(const t2m_node *code)
{
    switch (code->count ? code->as.text[0] : 0) {
    case 'O':
        return "an array of numpy objects";
    case 'U':
    case 'S':
        return "an array of numpy text";
    case 'V':
        return "an array of numpy records";
    case 'M':
    case 'm':
        return "an array of numpy times";
    case 'c':
        return "complex128";
    default:
        return "an array of an unknown numpy dtype";
    }
}

static t2m_status
new_dtype(t2m_machine *m, const t2m_array_dtype *dtype, uint32_t *result)
{
    t2m_pickle *p = m->out;
    t2m_status status =
        t2m_pickle_grow(p, (void **)&p->dtypes, &p->dtype_capacity,
                        p->dtype_count, sizeof *p->dtypes);
    if (status == T2M_OK &&
        (status = t2m_node_new(p, T2M_NODE_DTYPE, result)) == T2M_OK) {
        p->nodes[*result].as.index = (uint32_t)p->dtype_count;
        p->dtypes[p->dtype_count++] = *dtype;
    }
    return status;
}

/* dtype(code, ...), or dtype(scalar type, ...) of ml_dtypes */
static t2m_status
dtype_call(t2m_machine *m, uint32_t args, uint32_t *result)
{
    t2m_array_dtype made = {-1, "an array of an unknown numpy dtype", 0};
    const t2m_node *code = t2m_argument_at(m, args, 0);
    const t2m_global *item = t2m_global_of(code);

    if (item && item->kind == T2M_GLOBAL_ARRAY_ITEM) {
        made.name = item->text;
        made.dtype = t2m_dtype_from_name(item->text, strlen(item->text));
    } else if (code && code->kind == T2M_NODE_TEXT) {
        made.name = kind_name(code);
        for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
            if (strlen(codes[i].code) == code->count &&
                memcmp(codes[i].code, code->as.text, code->count) == 0) {
                made.name = codes[i].torch;
                made.dtype = t2m_dtype_from_name(made.name, strlen(made.name));
            }
        }
    }
    return new_dtype(m, &made, result);
}

t2m_status
t2m_array_dtype_build(t2m_machine *m, uint32_t dtype, uint32_t state)
{
    t2m_array_dtype *d = &m->out->dtypes[t2m_node_at(m, dtype)->as.index];
    const t2m_node *order = t2m_argument_at(m, state, 1);

    if (!order || order->kind != T2M_NODE_TEXT || order->count != 1) {
        return T2M_PK_CALL;
    }
    d->swapped = order->as.text[0] == '>';
    for (uint32_t i = 2; i <= 4; i++) {
        const t2m_node *part = t2m_argument_at(m, state, i);
        if (!part || part->kind != T2M_NODE_NONE) {
            d->dtype = T2M_DTYPE_OTHER;
            d->name = "an array of numpy records";
        }
    }
    return T2M_OK;
}

/* Fills strides, in items, for C order or (fortran) its mirror image. */
static t2m_status
dense_strides(t2m_tensor *t, int fortran)
{
    uint64_t step = 1;
    for (int i = 0; i < t->rank; i++) {
        int k = fortran ? i : t->rank - 1 - i;
        t->strides[k] = step;
        if (t2m_mul(step, t->shape[k] ? t->shape[k] : 1, &step)) {
            return T2M_OVERFLOW;
        }
    }
    return T2M_OK;
}

/* Gives a tensor the bytes of a node as its storage, all of which it must
   fill; says so in `problem` where it does not. */
static t2m_status
fill(t2m_machine *m, t2m_tensor *t, uint32_t bytes, uint32_t dtype)
{
    static const t2m_array_dtype unknown = {
        T2M_DTYPE_OTHER, "an array of an unknown numpy dtype", 0};
    const t2m_node *node = t2m_node_at(m, bytes);
    const t2m_node *kind = t2m_node_at(m, dtype);
    const t2m_array_dtype *d = kind->kind == T2M_NODE_DTYPE
                                   ? &m->out->dtypes[kind->as.index]
                                   : &unknown;
    uint64_t count, needed;
    t2m_storage s = {.key = "numpy array",
                     .key_length = 11,
                     .dtype = d->dtype,
                     .dtype_name = d->name,
                     .bytes_node = bytes + 1};

    t->storage = T2M_NO_NODE;
    t->dtype = d->dtype;
    t->dtype_name = d->name;
    t->swapped = d->swapped;
    if (d->dtype < 0) {
        return T2M_OK;
    }
    if (node->kind != T2M_NODE_BYTES && node->kind != T2M_NODE_LATIN1) {
        t->problem = "a numpy array without bytes";
        return T2M_OK;
    }
    s.item = t2m_dtype_get((t2m_dtype)d->dtype)->bytes;
    s.length = node->kind == T2M_NODE_BYTES ? node->count : node->other;
    s.data = node->kind == T2M_NODE_BYTES ? node->as.text : NULL;
    t->swapped = (uint8_t)(t->swapped && s.item > 1);
    if (t2m_shape_count(t->rank, t->shape, s.item, &count) != T2M_OK ||
        t2m_mul(count, s.item, &needed) || needed != s.length) {
        t->problem = "a numpy array whose shape does not fit its bytes";
        return T2M_OK;
    }
    s.numel = count;
    return t2m_storage_new(m->out, &s, &t->storage);
}

/* _reconstruct(class, shape, code) */
static t2m_status
array_empty(t2m_machine *m, uint32_t args, uint32_t *result)
{
    t2m_tensor *t;
    const t2m_node *class = t2m_argument_at(m, args, 0);
    const t2m_global *known = t2m_global_of(class);
    int inert = class && class->kind == T2M_NODE_INERT;

    if (!inert && (!known || known->kind != T2M_GLOBAL_ARRAY_TYPE)) {
        return T2M_PK_CALL;
    }
    uint32_t name = inert ? class->other + 1 : 0;
    t2m_status status = t2m_tensor_new(m->out, m->opcode_at, &t, result);
    if (status == T2M_OK) {
        t->array = 1;
        t->class = name;
        t->problem = inert ? "a numpy array of class"
                           : "a numpy array without its state";
    }
    return status;
}

t2m_status
t2m_array_build(t2m_machine *m, uint32_t array, uint32_t state)
{
    t2m_tensor t = m->out->tensors[t2m_node_at(m, array)->as.index];
    const t2m_node *tuple = t2m_node_at(m, state);

    if (t.class) {
        return T2M_OK; /* a class that is not known keeps what it likes */
    }
    if (tuple->kind != T2M_NODE_TUPLE || tuple->count < 4 ||
        tuple->count > 5) {
        return T2M_PK_CALL;
    }
    uint32_t first = tuple->count - 4; /* a version comes before, or not */
    const uint32_t *items = tuple->as.items + first;
    const t2m_node *order = t2m_node_at(m, items[2]);
    t2m_status status =
        t2m_take_sizes(m, t2m_node_at(m, items[0]), t.shape, &t.rank);
    if (status != T2M_OK) {
        return status;
    }
    if (order->kind != T2M_NODE_BOOL && order->kind != T2M_NODE_INT) {
        return T2M_PK_CALL;
    }
    t.problem = NULL;
    if ((status = dense_strides(&t, order->as.i != 0)) == T2M_OK &&
        (status = fill(m, &t, items[3], items[1])) == T2M_OK) {
        m->out->tensors[t2m_node_at(m, array)->as.index] = t;
    }
    return status;
}

/* Turns the axes of a C-ordered array: axis i of the result is axes[i]. */
static t2m_status
turn(t2m_tensor *t, const uint64_t *axes, int count)
{
    t2m_tensor given = *t;
    uint32_t seen = 0;

    for (int i = 0; count == t->rank && i < count; i++) {
        if (axes[i] < (uint64_t)count) {
            seen |= 1u << axes[i];
            t->shape[i] = given.shape[axes[i]];
            t->strides[i] = given.strides[axes[i]];
        }
    }
    return count == t->rank && seen == (1u << count) - 1 ? T2M_OK
                                                         : T2M_PK_CALL;
}

/* _frombuffer(bytes, dtype, shape, order[, axes]) */
static t2m_status
array_from_buffer(t2m_machine *m, uint32_t args, uint32_t *result)
{
    t2m_tensor t = {.dtype = T2M_DTYPE_OTHER, .at = m->opcode_at}, *slot;
    const t2m_node *order = t2m_argument_at(m, args, 3);
    const t2m_node *turned = t2m_argument_at(m, args, 4);
    uint64_t axes[T2M_MAX_RANK];
    int count;

    if (!order || order->kind != T2M_NODE_TEXT || order->count != 1) {
        return T2M_PK_CALL;
    }
    const uint32_t *items = t2m_node_at(m, args)->as.items;
    int letter = order->as.text[0];
    t2m_status status =
        t2m_take_sizes(m, t2m_node_at(m, items[2]), t.shape, &t.rank);
    if (status != T2M_OK ||
        (status = dense_strides(&t, letter == 'F')) != T2M_OK ||
        (status = fill(m, &t, items[0], items[1])) != T2M_OK) {
        return status;
    }
    if (letter == 'K' && turned && turned->kind != T2M_NODE_NONE) {
        status = t2m_take_sizes(m, turned, axes, &count);
        if (status != T2M_OK || (status = turn(&t, axes, count)) != T2M_OK) {
            return status;
        }
    } else if (letter != 'C' && letter != 'F') {
        return T2M_PK_CALL;
    }
    if ((status = t2m_tensor_new(m->out, t.at, &slot, result)) == T2M_OK) {
        *slot = t;
    }
    return status;
}

/* scalar(dtype, bytes): an array without dimensions */
static t2m_status
array_scalar(t2m_machine *m, uint32_t args, uint32_t *result)
{
    t2m_tensor t = {.dtype = T2M_DTYPE_OTHER, .at = m->opcode_at}, *slot;
    const t2m_node *tuple = t2m_node_at(m, args);

    if (tuple->count != 2) {
        return T2M_PK_CALL;
    }
    t2m_status status = fill(m, &t, tuple->as.items[1], tuple->as.items[0]);
    if (status == T2M_OK &&
        (status = t2m_tensor_new(m->out, t.at, &slot, result)) == T2M_OK) {
        *slot = t;
    }
    return status;
}

t2m_status
t2m_array_call(t2m_machine *m, const t2m_global *global, uint32_t args,
               uint32_t *result)
{
    switch (global->kind) {
    case T2M_GLOBAL_ARRAY_DTYPE:
        return dtype_call(m, args, result);
    case T2M_GLOBAL_ARRAY_EMPTY:
        return array_empty(m, args, result);
    case T2M_GLOBAL_ARRAY_BUFFER:
        return array_from_buffer(m, args, result);
    case T2M_GLOBAL_ARRAY_SCALAR:
        return array_scalar(m, args, result);
    default:
        return T2M_OK; /* no meaning: an inert node */
    }
}
