/* Files of torch.save as Python objects: containers, numbers, borrowed
   tensors, and opaque values for all else. */
#include "bind.h"
#include "../core/crc32.h"
#include "../core/pickle_machine.h"
#include "../core/size.h"
#include "../core/torchfile.h"

#include <math.h>
#include <structmember.h>
#include <sys/mman.h>
#include <unistd.h>

/* Containers nested deeper than this are opaque. */
#define MAX_DEPTH 128

/* Longer names of foreign values are cut. */
#define MAX_NAME 200

/* Larger integers are opaque: their arithmetic is not linear. */
#define MAX_INT_BYTES 128

/* Containers without data in them are built up to this many; more of them are
   opaque. Nobody needs them but to keep a value of a state dict. */
#define MAX_PLAIN 200000

/* Objects built between two looks for Ctrl-C. */
#define SIGNAL_STEP 4096

/* A tensor whose stored items are not its values yet. */
typedef struct {
    PyObject_HEAD
    PyObject *tensor;
    char conj, neg, swapped;
} UnresolvedObject;

static void
unresolved_dealloc(UnresolvedObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_CLEAR(self->tensor);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef unresolved_members[] = {
    {"tensor", T_OBJECT_EX, offsetof(UnresolvedObject, tensor), READONLY,
     "The items as they are stored."},
    {"conj", T_BOOL, offsetof(UnresolvedObject, conj), READONLY,
     "Whether the values are their conjugates."},
    {"neg", T_BOOL, offsetof(UnresolvedObject, neg), READONLY,
     "Whether the values are their negatives."},
    {"swapped", T_BOOL, offsetof(UnresolvedObject, swapped), READONLY,
     "Whether the items are big-endian."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot unresolved_slots[] = {
    {Py_tp_dealloc, unresolved_dealloc},
    {Py_tp_members, unresolved_members},
    {Py_tp_doc, "A tensor of a file whose items have to be changed first."},
    {0, NULL},
};

PyType_Spec bind_unresolved_spec = {
    .name = "torch2mlx._core.Unresolved",
    .basicsize = sizeof(UnresolvedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = unresolved_slots,
};

/* Turns nodes into objects; each node once, so sharing stays sharing. */
typedef struct {
    PyObject *module;
    PyObject *owner;
    t2m_pickle *pickle;
    PyObject **made; /* by node */
    uint64_t count;
    uint32_t plain; /* containers without data so far */
    PyObject *many; /* what stands for more of them, or NULL */
} builder;

enum {
    FRESH = 0,
    WALKING = 1,
};

static PyObject *object_of(builder *b, uint32_t index, int depth);

/* A foreign value that is named at `at`; takes over `name`, which may be NULL
   with an exception set. */
static ForeignObject *
foreign_new(builder *b, PyObject *name, uint64_t at)
{
    ForeignObject *self = bind_foreign(b->module, name, 0);
    if (self) {
        self->offset = b->pickle->base + at;
    }
    return self;
}

/* A foreign value that is called so, and may hold anything. */
static PyObject *
foreign_unknown(builder *b, const char *name)
{
    ForeignObject *self = foreign_new(b, PyUnicode_FromString(name), 0);
    if (self) {
        self->holds_data = 1;
    }
    return (PyObject *)self;
}

static PyObject *
decode(const uint8_t *text, size_t length)
{
    size_t shown = length < MAX_NAME ? length : MAX_NAME;
    return PyUnicode_DecodeUTF8((const char *)text, (Py_ssize_t)shown,
                                "replace");
}

/* "module.name" */
static PyObject *
full_name(const builder *b, uint32_t index)
{
    const t2m_inert_name *n = &b->pickle->names[index];
    PyObject *name = decode(n->name, n->name_length);
    if (!name || n->module_length == 0) {
        return name;
    }
    PyObject *module = decode(n->module, n->module_length);
    PyObject *full =
        module ? PyUnicode_FromFormat("%U.%U", module, name) : NULL;
    Py_XDECREF(module);
    Py_DECREF(name);
    return full;
}

static PyObject *
inert_of(builder *b, const t2m_node *node)
{
    uint64_t at = b->pickle->names[node->other].at;
    ForeignObject *self = foreign_new(b, full_name(b, node->other), at);
    if (self) {
        self->holds_data = (char)node->holds;
    }
    return (PyObject *)self;
}

static PyObject *
global_of(builder *b, const t2m_node *node)
{
    const t2m_global *g = t2m_global_get(node->as.index);
    return (PyObject *)foreign_new(
        b, PyUnicode_FromFormat("%s.%s", g->module, g->name), 0);
}

static PyObject *
sizes_of(const uint64_t *sizes, int rank)
{
    PyObject *tuple = PyTuple_New(rank);
    for (int i = 0; tuple && i < rank; i++) {
        PyObject *size = PyLong_FromUnsignedLongLong(sizes[i]);
        if (!size) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, size);
    }
    return tuple;
}

/* Why a tensor cannot be read: "sparse", or the name of its class. */
static PyObject *
unreadable_name(const builder *b, const t2m_tensor *t)
{
    if (!t->class) {
        return PyUnicode_FromString(t->problem ? t->problem : t->dtype_name);
    }
    PyObject *class = full_name(b, t->class - 1);
    if (!class || !t->problem) {
        return class;
    }
    PyObject *name = PyUnicode_FromFormat("%s %U", t->problem, class);
    Py_DECREF(class);
    return name;
}

static PyObject *
unreadable_of(builder *b, const t2m_tensor *t)
{
    ForeignObject *self = foreign_new(b, unreadable_name(b, t), t->at);
    if (!self) {
        return NULL;
    }
    self->is_tensor = 1;
    self->holds_data = 1;
    if (!t->class && !t->problem) {
        uint64_t nbytes = t->storage < b->pickle->storage_count
                              ? b->pickle->storages[t->storage].item
                              : 0;
        for (int i = 0; i < t->rank; i++) {
            if (t2m_mul(nbytes, t->shape[i], &nbytes)) {
                nbytes = 0;
            }
        }
        self->nbytes = nbytes;
        Py_SETREF(self->shape, sizes_of(t->shape, t->rank));
        if (!self->shape) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

/* Wraps a tensor whose items have to be changed; takes it over. */
static PyObject *
unresolved_of(builder *b, const t2m_tensor *t, PyObject *tensor)
{
    PyTypeObject *type = bind_state(b->module)->unresolved_type;
    UnresolvedObject *self =
        tensor ? (UnresolvedObject *)type->tp_alloc(type, 0) : NULL;
    if (!self) {
        Py_XDECREF(tensor);
        return NULL;
    }
    self->tensor = tensor;
    self->conj = (char)t->conj;
    self->neg = (char)t->neg;
    self->swapped = (char)t->swapped;
    return (PyObject *)self;
}

/* Finds the bytes of a storage and what keeps them alive, borrowed. */
static PyObject *
storage_data(builder *b, const t2m_storage *s, const uint8_t **data)
{
    *data = s->data;
    if (!s->bytes_node || s->data) {
        return b->owner;
    }
    PyObject *bytes = object_of(b, s->bytes_node - 1, 0);
    if (!bytes) {
        return NULL;
    }
    *data = (const uint8_t *)PyBytes_AS_STRING(bytes);
    Py_DECREF(bytes); /* `made` has another reference */
    return bytes;
}

static PyObject *
tensor_of(builder *b, const t2m_tensor *t)
{
    t2m_view view = {.rank = t->rank};
    const uint8_t *data;
    if (t->problem || t->class || t->dtype < 0) {
        return unreadable_of(b, t);
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
    PyObject *owner = storage_data(b, s, &data);
    if (!owner) {
        return NULL;
    }
    view.data =
        empty || !data ? bind_nothing : data + t->offset * (uint64_t)item;
    PyObject *tensor =
        bind_tensor(b->module, &view, (t2m_dtype)t->dtype, owner);
    if (tensor) {
        ((TensorObject *)tensor)->numpy = s->bytes_node != 0;
    }
    return t->conj || t->neg || t->swapped ? unresolved_of(b, t, tensor)
                                           : tensor;
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

/* A key of a dictionary.  Only what no file can make collide is hashed: a
   tuple hashes all it holds, and equal hashes of tuples and large integers
   are made at will.  Anything else is a foreign value, equal to none. */
static PyObject *
key_of(builder *b, uint32_t index, int depth)
{
    const t2m_node *node = &b->pickle->nodes[index];
    switch ((t2m_node_kind)node->kind) {
    case T2M_NODE_FLOAT:
        return isnan(node->as.f) ? foreign_unknown(b, "nan")
                                 : object_of(b, index, depth);
    case T2M_NODE_NONE:
    case T2M_NODE_BOOL:
    case T2M_NODE_INT:
    case T2M_NODE_BYTES:
    case T2M_NODE_LATIN1:
    case T2M_NODE_TEXT:
        return object_of(b, index, depth);
    case T2M_NODE_TUPLE:
        return foreign_unknown(b, "tuple");
    case T2M_NODE_INERT:
        return inert_of(b, node);
    default:
        return foreign_unknown(b, "value");
    }
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
    }
    return -1;
}

static PyObject *
dict_of(builder *b, const t2m_node *node, int depth)
{
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict && i + 1 < node->count; i += 2) {
        PyObject *key = key_of(b, node->as.items[i], depth + 1);
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
bytes_of(const t2m_node *node)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, node->other);
    if (bytes) {
        t2m_latin1_decode(node, (uint8_t *)PyBytes_AS_STRING(bytes));
    }
    return bytes;
}

/* int.from_bytes(bytes, "little", signed=True) */
static PyObject *
int_of(builder *b, const t2m_node *node)
{
    if (node->count > MAX_INT_BYTES) {
        return (PyObject *)foreign_new(b, PyUnicode_FromString("int"), 0);
    }
    PyObject *from =
        PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
    PyObject *args = Py_BuildValue("(y#s)", node->as.text,
                                   (Py_ssize_t)node->count, "little");
    PyObject *named = Py_BuildValue("{sO}", "signed", Py_True);
    PyObject *value =
        from && args && named ? PyObject_Call(from, args, named) : NULL;
    Py_XDECREF(from);
    Py_XDECREF(args);
    Py_XDECREF(named);
    return value;
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
    case T2M_NODE_BIGINT:
        return int_of(b, node);
    case T2M_NODE_FLOAT:
        return PyFloat_FromDouble(node->as.f);
    case T2M_NODE_BYTES:
        return PyBytes_FromStringAndSize(text, node->count);
    case T2M_NODE_LATIN1:
        return bytes_of(node);
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
        return inert_of(b, node);
    case T2M_NODE_GLOBAL:
        return global_of(b, node);
    case T2M_NODE_STORAGE:
        return foreign_unknown(b, "a torch storage");
    default:
        return (PyObject *)foreign_new(b, PyUnicode_FromString("numpy.dtype"),
                                       0);
    }
}

/* What containers without data are once there are too many: one value. */
static PyObject *
too_many(builder *b)
{
    if (!b->many) {
        b->many = (PyObject *)foreign_new(
            b, PyUnicode_FromString("a value among too many"), 0);
    }
    return Py_XNewRef(b->many);
}

static PyObject *
object_of(builder *b, uint32_t index, int depth)
{
    t2m_node *node = &b->pickle->nodes[index];
    if (b->made[index]) {
        return Py_NewRef(b->made[index]);
    }
    /* neither is kept: the node may be whole where it is met again */
    if (node->mark == WALKING) {
        return foreign_unknown(b, "a container within itself");
    }
    int container =
        node->kind >= T2M_NODE_TUPLE && node->kind <= T2M_NODE_DICT;
    if (container && depth > MAX_DEPTH) {
        return foreign_unknown(b, "a value nested deeper than the limit");
    }
    if (container && !node->holds && b->plain++ >= MAX_PLAIN) {
        return too_many(b);
    }
    if (++b->count % SIGNAL_STEP == 0 && PyErr_CheckSignals() < 0) {
        return NULL;
    }
    node->mark = WALKING;
    PyObject *object = make_object(b, node, depth);
    node->mark = FRESH;
    b->made[index] = Py_XNewRef(object);
    return object;
}

/* The storages of the file that have a checksum:
   [(address, offset in the file, bytes, checksum, key)]. */
static PyObject *
checks_of(const t2m_pickle *pickle, const Py_buffer *file)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < pickle->storage_count; i++) {
        const t2m_storage *s = &pickle->storages[i];
        if (!s->has_crc || s->length == 0) {
            continue;
        }
        uint64_t start = (uint64_t)(s->data - (const uint8_t *)file->buf);
        PyObject *row =
            Py_BuildValue("(NKKkN)", PyLong_FromVoidPtr((void *)s->data),
                          (unsigned long long)start,
                          (unsigned long long)s->length, (unsigned long)s->crc,
                          decode((const uint8_t *)s->key, s->key_length));
        if (!row || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    return list;
}

static PyObject *
read_pickle(PyObject *module, PyObject *owner, const Py_buffer *file,
            t2m_pickle *pickle)
{
    builder b = {module, owner, pickle, NULL, 0, 0, NULL};
    PyObject *object = NULL, *checks = NULL, *result = NULL;

    b.made = PyMem_Calloc(pickle->node_count, sizeof *b.made);
    if (!b.made) {
        return PyErr_NoMemory();
    }
    object = object_of(&b, pickle->root, 0);
    checks = object ? checks_of(pickle, file) : NULL;
    if (checks) {
        result = PyTuple_Pack(2, object, checks);
    }
    Py_XDECREF(object);
    Py_XDECREF(checks);
    for (size_t i = 0; i < pickle->node_count; i++) {
        Py_XDECREF(b.made[i]);
    }
    Py_XDECREF(b.many);
    PyMem_Free(b.made);
    return result;
}

/* read_torch(buffer) -> (the saved object, the checksums of its storages) */
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
    if (status == T2M_OK) {
        result = read_pickle(module, owner, file, &pickle);
        t2m_pickle_free(&pickle);
    } else {
        bind_raise(module, status, &where);
    }
    Py_DECREF(owner);
    return result;
}

/* Gives back the pages of a mapped file that were read: what a file weighs is
   no matter for the memory that reading it takes. */
static void
forget_pages(const uint8_t *data, uint64_t length)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t low = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t high = ((uintptr_t)data + length) / page * page;
    if (high > low) {
        madvise((void *)low, high - low, MADV_DONTNEED);
    }
}

/* crc32(buffer, start, length, crc=0, simd=True) */
static PyObject *
crc32(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buffer", "start", "length", "crc", "simd", NULL};
    PyObject *source;
    const Py_buffer *file;
    uint64_t start, length;
    unsigned int crc = 0;
    int simd = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&O&|Ip:crc32", names,
                                     &source, bind_size, &start, bind_size,
                                     &length, &crc, &simd)) {
        return NULL;
    }
    PyObject *owner = bind_hold_buffer(source, PyBUF_SIMPLE, &file);
    if (!owner) {
        return NULL;
    }
    int inside =
        start <= (uint64_t)file->len && length <= (uint64_t)file->len - start;
    /* of a mapping alone: memory would lose what it holds */
    int mapped = Py_IS_TYPE(source, bind_state(module)->mapping_type);
    if (inside) {
        Py_BEGIN_ALLOW_THREADS
        const uint8_t *data = (const uint8_t *)file->buf + start;
        crc = t2m_crc32(crc, data, length, simd);
        if (mapped) {
            forget_pages(data, length);
        }
        Py_END_ALLOW_THREADS
    } else {
        PyErr_SetString(PyExc_ValueError, "range outside the buffer");
    }
    Py_DECREF(owner);
    return inside ? PyLong_FromUnsignedLong(crc) : NULL;
}

PyMethodDef bind_torch_functions[] = {
    {"read_torch", read_torch, METH_O,
     "read_torch(buffer): (the object that torch.save wrote, as data; the "
     "checksums of its storages)."},
    {"crc32", (PyCFunction)(void (*)(void))crc32, METH_VARARGS | METH_KEYWORDS,
     "crc32(buffer, start, length, crc=0, simd=True): CRC-32 of a part."},
    {NULL, NULL, 0, NULL},
};
