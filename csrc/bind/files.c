#include "bind.h"
#include "../core/safetensors.h"
#include "../core/torchfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Objects nested deeper than this in a pickle are refused. */
#define MAX_DEPTH 128

/* Mapping(path): maps a regular file, read-only. */
static PyObject *
mapping_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *path;
    struct stat info;
    MappingObject *self = NULL;
    int fd = -1;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O&:Mapping", PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    const char *name = PyBytes_AS_STRING(path);
    Py_BEGIN_ALLOW_THREADS
    fd = open(name, O_RDONLY | O_CLOEXEC);
    Py_END_ALLOW_THREADS
    if (fd < 0 || fstat(fd, &info) < 0) {
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        errno = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
        goto done;
    }
    self = (MappingObject *)type->tp_alloc(type, 0);
    if (!self) {
        goto done;
    }
    self->fd = -1;
    self->length = (uint64_t)info.st_size;
    if (self->length > 0) {
        void *p = mmap(NULL, self->length, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            self->length = 0;
            PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
            Py_CLEAR(self);
            goto done;
        }
        self->data = p;
    }
    self->fd = fd;
    fd = -1;
done:
    if (fd >= 0) {
        close(fd);
    }
    Py_DECREF(path);
    return (PyObject *)self;
}

static void
mapping_dealloc(MappingObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->length > 0) {
        munmap(self->data, self->length);
    }
    if (self->fd >= 0) {
        close(self->fd);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static int
mapping_getbuffer(MappingObject *self, Py_buffer *buffer, int flags)
{
    static uint8_t nothing;
    return PyBuffer_FillInfo(buffer, (PyObject *)self,
                             self->data ? self->data : &nothing,
                             (Py_ssize_t)self->length, 1, flags);
}

static PyType_Slot mapping_slots[] = {
    {Py_tp_new, mapping_new},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_bf_getbuffer, mapping_getbuffer},
    {Py_tp_doc, "Mapping(path): a file mapped into memory, read-only."},
    {0, NULL},
};

PyType_Spec bind_mapping_spec = {
    .name = "torch2mlx._core.Mapping",
    .basicsize = sizeof(MappingObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = mapping_slots,
};

/* A value that a pickle holds and that is not data: a name and a reason. */
typedef struct {
    PyObject_HEAD
    PyObject *name;
    char is_tensor;
} ForeignObject;

static void
foreign_dealloc(ForeignObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_CLEAR(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
foreign_name(ForeignObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(self->name);
}

static PyObject *
foreign_is_tensor(ForeignObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->is_tensor);
}

static PyObject *
foreign_repr(ForeignObject *self)
{
    return PyUnicode_FromFormat(
        "<%s %U>", self->is_tensor ? "tensor:" : "value:", self->name);
}

static PyGetSetDef foreign_getset[] = {
    {"name", (getter)foreign_name, NULL, "What it would have been.", NULL},
    {"is_tensor", (getter)foreign_is_tensor, NULL,
     "Whether it is a tensor of a kind that cannot be read.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot foreign_slots[] = {
    {Py_tp_dealloc, foreign_dealloc},
    {Py_tp_getset, foreign_getset},
    {Py_tp_repr, foreign_repr},
    {Py_tp_doc, "A value of a checkpoint that is kept by name only."},
    {0, NULL},
};

PyType_Spec bind_foreign_spec = {
    .name = "torch2mlx._core.Foreign",
    .basicsize = sizeof(ForeignObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = foreign_slots,
};

static PyObject *
foreign_new(PyObject *module, const char *text, size_t length, int is_tensor)
{
    PyTypeObject *type = bind_state(module)->foreign_type;
    PyObject *name = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "replace");
    ForeignObject *self =
        name ? (ForeignObject *)type->tp_alloc(type, 0) : NULL;
    if (!self) {
        Py_XDECREF(name);
        return NULL;
    }
    self->name = name;
    self->is_tensor = (char)is_tensor;
    return (PyObject *)self;
}

/* The entry's tensor as (name, Tensor). */
static PyObject *
entry_pair(PyObject *module, const t2m_st_entry *e, const uint8_t *data,
           PyObject *owner)
{
    t2m_view view = {.data = data + e->begin, .rank = e->rank};
    memcpy(view.shape, e->shape, sizeof view.shape);
    t2m_dense_strides(e->rank, e->shape, t2m_dtype_get(e->dtype)->bytes,
                      view.strides);
    PyObject *tensor = bind_tensor(module, &view, e->dtype, owner);
    if (!tensor) {
        return NULL;
    }
    return Py_BuildValue("(s#N)", e->name, (Py_ssize_t)e->name_length, tensor);
}

static PyObject *
header_entries(PyObject *module, const t2m_st_header *h, const uint8_t *file,
               PyObject *owner)
{
    PyObject *list = PyList_New((Py_ssize_t)h->count);
    for (size_t i = 0; list && i < h->count; i++) {
        PyObject *pair =
            entry_pair(module, &h->entries[i], file + h->data_start, owner);
        if (!pair) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
    }
    return list;
}

static PyObject *
header_metadata(const t2m_st_header *h)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < h->meta_count; i++) {
        const t2m_st_meta *m = &h->meta[i];
        PyObject *key =
            PyUnicode_DecodeUTF8(m->key, (Py_ssize_t)m->key_length, "strict");
        PyObject *value = PyUnicode_DecodeUTF8(
            m->value, (Py_ssize_t)m->value_length, "strict");
        if (!key || !value || PyDict_SetItem(dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

/* read_safetensors(buffer) -> ([(name, Tensor)], {metadata}) */
static PyObject *
read_safetensors(PyObject *module, PyObject *source)
{
    const Py_buffer *file;
    t2m_st_header header;
    t2m_where where;
    t2m_status status;
    PyObject *list = NULL, *dict = NULL, *result = NULL;

    PyObject *owner = bind_hold_buffer(source, PyBUF_SIMPLE, &file);
    if (!owner) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = t2m_st_parse(file->buf, (uint64_t)file->len, &header, &where);
    Py_END_ALLOW_THREADS
    if (status != T2M_OK) {
        bind_raise(module, status, &where);
        goto done;
    }
    list = header_entries(module, &header, file->buf, owner);
    dict = list ? header_metadata(&header) : NULL;
    if (dict) {
        result = PyTuple_Pack(2, list, dict);
    }
    t2m_st_free(&header);
done:
    Py_XDECREF(list);
    Py_XDECREF(dict);
    Py_DECREF(owner);
    return result;
}

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
        return foreign_new(b->module, name, strlen(name), 1);
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
        return foreign_new(b->module, text, node->count, 0);
    case T2M_NODE_BIGINT:
        return foreign_new(b->module, "int", 3, 0);
    case T2M_NODE_STORAGE:
        return foreign_new(b->module, "storage", 7, 0);
    default:
        return foreign_new(b->module, "global", 6, 0);
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
    {"read_safetensors", read_safetensors, METH_O,
     "read_safetensors(buffer): ([(name, Tensor), ...], {metadata})."},
    {"read_torch", read_torch, METH_O,
     "read_torch(buffer): the object that torch.save wrote, as data."},
    {NULL, NULL, 0, NULL},
};
