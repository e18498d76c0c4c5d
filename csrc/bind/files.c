#include "bind.h"
#include "../core/torchfile.h"

/* Objects nested deeper than this in a pickle are refused. */
#define MAX_DEPTH 128

/* Turns nodes into objects; each node once, so sharing stays sharing. */
typedef struct {
    PyObject *module;
    PyObject *owner;
    t2m_pickle *pickle;
    PyObject **made; /* by node */
} builder;

enum {
    FRESH = 0,
    WALKING = 1,
};

static PyObject *object_of(builder *b, uint32_t index, int depth);

static PyObject *
tensor_of(builder *b, const t2m_tensor *t)
{
    t2m_view view = {.rank = t->rank};
    if (t->problem || t->dtype < 0) {
        const char *name = t->problem ? t->problem : t->dtype_name;
        return (PyObject *)bind_foreign(b->module, name, strlen(name), 1);
    }
    const t2m_storage *s = &b->pickle->storages[t->storage];
    int64_t item = (int64_t)t2m_dtype_get((t2m_dtype)t->dtype)->bytes;
    int empty = 0;
    for (int i = 0; i < t->rank; i++) {
        view.shape[i] = t->shape[i];
        empty |= t->shape[i] == 0;
    }
    /* Strides of size-1 dimensions are never checked or used. */
    for (int i = 0; i < t->rank && !empty; i++) {
        view.strides[i] =
            t->shape[i] > 1 ? (int64_t)t->strides[i] * item : item;
    }
    if (empty) {
        t2m_dense_strides(t->rank, view.shape, (size_t)item, view.strides);
    }
    view.data = empty || !s->data ? bind_nothing
                                  : s->data + t->offset * (uint64_t)item;
    return bind_tensor(b->module, &view, (t2m_dtype)t->dtype, b->owner);
}

static PyObject *
sequence_of(builder *b, const t2m_node *node, int depth)
{
    /* A list must exist before its items for cycles to be noticed, so all
       sequences are made by the same loop and tuples are kept tuples. */
    int is_list = node->kind == T2M_NODE_LIST;
    PyObject *out =
        is_list ? PyList_New(node->count) : PyTuple_New(node->count);
    for (uint32_t i = 0; out && i < node->count; i++) {
        PyObject *item = object_of(b, node->as.items[i], depth + 1);
        if (!item) {
            Py_CLEAR(out);
        } else if (is_list) {
            PyList_SET_ITEM(out, i, item);
        } else {
            PyTuple_SET_ITEM(out, i, item);
        }
    }
    return out;
}

static int
put_pair(builder *b, PyObject *dict, PyObject *key, PyObject *value)
{
    int present = PyDict_Contains(dict, key);
    if (present == 0) {
        return PyDict_SetItem(dict, key, value);
    }
    if (present > 0) {
        t2m_where where = {0, ""};
        const char *text = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
        if (text) {
            t2m_where_name(&where, text, strlen(text));
        }
        PyErr_Clear();
        bind_raise(b->module, T2M_KEY_COLLISION, &where);
    } else if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        bind_raise(b->module, T2M_PK_TYPE, NULL);
    }
    return -1;
}

static PyObject *
dict_of(builder *b, const t2m_node *node, int depth)
{
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict && i + 1 < node->count; i += 2) {
        PyObject *key = object_of(b, node->as.items[i], depth + 1);
        PyObject *value =
            key ? object_of(b, node->as.items[i + 1], depth + 1) : NULL;
        if (!value || put_pair(b, dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *
make_object(builder *b, const t2m_node *node, int depth)
{
    const char *text = (const char *)node->as.text;
    switch ((t2m_node_kind)node->kind) {
    case T2M_NODE_NONE:
        Py_RETURN_NONE;
    case T2M_NODE_BOOL:
        return PyBool_FromLong((long)node->as.i);
    case T2M_NODE_INT:
        return PyLong_FromLongLong(node->as.i);
    case T2M_NODE_FLOAT:
        return PyFloat_FromDouble(node->as.f);
    case T2M_NODE_BYTES:
        return PyBytes_FromStringAndSize(text, node->count);
    case T2M_NODE_TEXT:
        return PyUnicode_DecodeUTF8(text, node->count, "strict");
    case T2M_NODE_TUPLE:
    case T2M_NODE_LIST:
    case T2M_NODE_SET:
        return sequence_of(b, node, depth);
    case T2M_NODE_DICT:
        return dict_of(b, node, depth);
    case T2M_NODE_TENSOR:
        return tensor_of(b, &b->pickle->tensors[node->as.index]);
    case T2M_NODE_INERT:
        return (PyObject *)bind_foreign(b->module, text, node->count, 0);
    case T2M_NODE_BIGINT:
        return (PyObject *)bind_foreign(b->module, "int", 3, 0);
    case T2M_NODE_STORAGE:
        return (PyObject *)bind_foreign(b->module, "storage", 7, 0);
    default:
        return (PyObject *)bind_foreign(b->module, "global", 6, 0);
    }
}

static PyObject *
object_of(builder *b, uint32_t index, int depth)
{
    t2m_node *node = &b->pickle->nodes[index];
    if (b->made[index]) {
        return Py_NewRef(b->made[index]);
    }
    if (node->mark == WALKING) {
        return bind_raise(b->module, T2M_PK_CYCLE, NULL);
    }
    if (depth > MAX_DEPTH) {
        return bind_raise(b->module, T2M_DEPTH, NULL);
    }
    node->mark = WALKING;
    PyObject *object = make_object(b, node, depth);
    node->mark = FRESH;
    b->made[index] = Py_XNewRef(object);
    return object;
}

/* read_torch(buffer) -> the saved object, tensors as Tensor */
static PyObject *
read_torch(PyObject *module, PyObject *source)
{
    const Py_buffer *file;
    t2m_pickle pickle;
    t2m_where where;
    t2m_status status;
    PyObject *result = NULL;

    PyObject *owner = bind_hold_buffer(source, PyBUF_SIMPLE, &file);
    if (!owner) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status =
        t2m_torchfile_parse(file->buf, (uint64_t)file->len, &pickle, &where);
    Py_END_ALLOW_THREADS
    if (status != T2M_OK) {
        bind_raise(module, status, &where);
        goto done;
    }
    builder b = {module, owner, &pickle, NULL};
    b.made = PyMem_Calloc(pickle.node_count, sizeof *b.made);
    if (!b.made) {
        PyErr_NoMemory();
    } else {
        result = object_of(&b, pickle.root, 0);
        for (size_t i = 0; i < pickle.node_count; i++) {
            Py_XDECREF(b.made[i]);
        }
    }
    PyMem_Free(b.made);
    t2m_pickle_free(&pickle);
done:
    Py_DECREF(owner);
    return result;
}

PyMethodDef bind_file_functions[] = {
    {"read_torch", read_torch, METH_O,
     "read_torch(buffer): the object that torch.save wrote, as data."},
    {NULL, NULL, 0, NULL},
};
