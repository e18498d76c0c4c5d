#include "bind.h"
#include "dlpack.h"
#include "../core/cast.h"
#include "../core/compare.h"

#include <sys/mman.h>

/* Fresh memory of blocks from this size on is asked for in huge pages:
   faulting small pages costs more than filling them. */
#define HUGE_BLOCK (4u << 20)
#define HUGE_PAGE  (2u << 20)

TensorObject *
bind_as_tensor(PyObject *module, PyObject *object)
{
    if (!PyObject_TypeCheck(object, bind_state(module)->tensor_type)) {
        PyErr_Format(PyExc_TypeError, "expected a Tensor, got %.100s",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    return (TensorObject *)object;
}

int
bind_dtype(PyObject *name, t2m_dtype *out)
{
    Py_ssize_t n;
    const char *text = PyUnicode_AsUTF8AndSize(name, &n);
    if (!text) {
        return -1;
    }
    int id = t2m_dtype_from_name(text, (size_t)n);
    if (id < 0) {
        PyErr_Format(PyExc_ValueError, "unknown dtype %R", name);
        return -1;
    }
    *out = (t2m_dtype)id;
    return 0;
}

PyObject *
bind_tensor(PyObject *module, const t2m_view *view, t2m_dtype dtype,
            PyObject *owner)
{
    module_state *s = bind_state(module);
    TensorObject *t =
        (TensorObject *)s->tensor_type->tp_alloc(s->tensor_type, 0);
    if (!t) {
        return NULL;
    }
    t->view = *view;
    t->dtype = dtype;
    t->owner = Py_NewRef(owner);
    t->fd = -1;
    for (int i = 0; i < view->rank; i++) {
        t->exported_shape[i] = (Py_ssize_t)view->shape[i];
        t->exported_strides[i] = (Py_ssize_t)view->strides[i];
    }
    if (Py_TYPE(owner) == s->mapping_type) {
        const MappingObject *m = (const MappingObject *)owner;
        t->fd = m->fd;
        t->fd_offset = (uint64_t)(view->data - m->data);
    }
    return (PyObject *)t;
}

static void
block_free(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, "torch2mlx.block"));
}

/* Asks for huge pages where a block has not been touched yet.  Pages that
   are there already stay as they are. */
static void
prefer_huge_pages(uint8_t *data, size_t bytes)
{
#if defined(MADV_HUGEPAGE)
    size_t skip = -(uintptr_t)data % HUGE_PAGE;
    if (bytes >= HUGE_BLOCK) {
        madvise(data + skip, (bytes - skip) & ~((size_t)HUGE_PAGE - 1),
                MADV_HUGEPAGE);
    }
#else
    (void)data;
    (void)bytes;
#endif
}

/* Allocates bytes owned by a capsule.  malloc, and not a mapping of its own,
   for large blocks too: where the process has freed as much before, malloc
   hands out memory that the system need not clear again. */
static PyObject *
block_new(size_t bytes, uint8_t **data)
{
    *data = malloc(bytes ? bytes : 1);
    if (!*data) {
        return PyErr_NoMemory();
    }
    prefer_huge_pages(*data, bytes);
    PyObject *capsule = PyCapsule_New(*data, "torch2mlx.block", block_free);
    if (!capsule) {
        free(*data);
    }
    return capsule;
}

PyObject *
bind_tensor_new(PyObject *module, int rank, const uint64_t *shape,
                t2m_dtype dtype, uint8_t **data)
{
    size_t item = t2m_dtype_get(dtype)->bytes;
    t2m_view view = {.rank = rank};
    uint64_t count;
    t2m_status status = t2m_shape_count(rank, shape, item, &count);
    if (status != T2M_OK) {
        return bind_raise(module, status, NULL);
    }
    PyObject *owner = block_new(count * item, data);
    if (!owner) {
        return NULL;
    }
    memcpy(view.shape, shape, sizeof *shape * (size_t)rank);
    t2m_dense_strides(rank, shape, item, view.strides);
    view.data = *data;
    PyObject *tensor = bind_tensor(module, &view, dtype, owner);
    Py_DECREF(owner);
    return tensor;
}

static int
tensor_traverse(TensorObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    return 0;
}

static int
tensor_clear(TensorObject *self)
{
    Py_CLEAR(self->owner);
    return 0;
}

static void
tensor_dealloc(TensorObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static uint64_t
tensor_count(const TensorObject *self)
{
    uint64_t n = 1;
    for (int i = 0; i < self->view.rank; i++) {
        n *= self->view.shape[i];
    }
    return n;
}

/* Exports the strided memory itself, read-only. */
static int
tensor_getbuffer(TensorObject *self, Py_buffer *buffer, int flags)
{
    const t2m_dtype_info *d = t2m_dtype_get(self->dtype);
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "tensors are read-only");
        return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) {
        PyErr_SetString(PyExc_BufferError,
                        "tensors export strided buffers only");
        return -1;
    }
    buffer->buf = (void *)self->view.data;
    buffer->obj = Py_NewRef(self);
    buffer->itemsize = (Py_ssize_t)d->bytes;
    buffer->len = (Py_ssize_t)(tensor_count(self) * d->bytes);
    buffer->readonly = 1;
    buffer->ndim = self->view.rank;
    buffer->format = flags & PyBUF_FORMAT ? (char *)d->format : NULL;
    buffer->shape = self->exported_shape;
    buffer->strides = self->exported_strides;
    buffer->suboffsets = NULL;
    buffer->internal = NULL;
    return 0;
}

static PyObject *
tuple_of(const Py_ssize_t *values, int n)
{
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++) {
        PyObject *value = PyLong_FromSsize_t(values[i]);
        if (!value) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, value);
    }
    return tuple;
}

static PyObject *
get_shape(TensorObject *self, void *closure)
{
    (void)closure;
    return tuple_of(self->exported_shape, self->view.rank);
}

static PyObject *
get_strides(TensorObject *self, void *closure)
{
    (void)closure;
    return tuple_of(self->exported_strides, self->view.rank);
}

static PyObject *
get_dtype(TensorObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(t2m_dtype_get(self->dtype)->torch);
}

static PyObject *
get_nbytes(TensorObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(tensor_count(self) *
                                       t2m_dtype_get(self->dtype)->bytes);
}

static PyObject *
get_address(TensorObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr((void *)self->view.data);
}

static PyGetSetDef tensor_getset[] = {
    {"shape", (getter)get_shape, NULL, "Sizes of the dimensions.", NULL},
    {"strides", (getter)get_strides, NULL, "Steps in bytes.", NULL},
    {"dtype", (getter)get_dtype, NULL, "Name of the torch dtype.", NULL},
    {"nbytes", (getter)get_nbytes, NULL, "Bytes when dense.", NULL},
    {"address", (getter)get_address, NULL, "Address of item (0, ...).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* Reads a sequence of at most MAX_RANK non-negative integers. */
static int
read_sizes(PyObject *sequence, uint64_t *out, int *count)
{
    PyObject *fast = PySequence_Fast(sequence, "expected a sequence");
    int result = -1;
    if (!fast) {
        return -1;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fast);
    if (n > T2M_MAX_RANK) {
        PyErr_Format(PyExc_ValueError, "at most %d dimensions", T2M_MAX_RANK);
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        out[i] = PyLong_AsUnsignedLongLong(PySequence_Fast_GET_ITEM(fast, i));
        if (PyErr_Occurred()) {
            goto done;
        }
    }
    *count = (int)n;
    result = 0;
done:
    Py_DECREF(fast);
    return result;
}

static PyObject *
view_like(TensorObject *self, const t2m_view *view)
{
    PyObject *module = PyType_GetModule(Py_TYPE(self));
    return bind_tensor(module, view, self->dtype, self->owner);
}

/* permute(axes): dimension i of the result is dimension axes[i]. */
static PyObject *
tensor_permute(TensorObject *self, PyObject *axes)
{
    uint64_t order[T2M_MAX_RANK];
    int n;
    unsigned seen = 0;
    t2m_view view = self->view;

    if (read_sizes(axes, order, &n) < 0) {
        return NULL;
    }
    for (int i = 0; n == view.rank && i < n; i++) {
        if (order[i] < (uint64_t)n) {
            seen |= 1u << order[i];
            view.shape[i] = self->view.shape[order[i]];
            view.strides[i] = self->view.strides[order[i]];
        }
    }
    if (n != view.rank || seen != (1u << n) - 1) {
        PyErr_SetString(PyExc_ValueError,
                        "axes must be a permutation of the dimensions");
        return NULL;
    }
    return view_like(self, &view);
}

/* split(shape): each dimension becomes the next ones of `shape` whose
   product it is; never moves bytes. */
static PyObject *
tensor_split(TensorObject *self, PyObject *sizes)
{
    uint64_t shape[T2M_MAX_RANK];
    int n, out = 0;
    t2m_view view = self->view;

    if (read_sizes(sizes, shape, &n) < 0) {
        return NULL;
    }
    for (int i = 0; i < self->view.rank; i++) {
        uint64_t product = 1;
        int first = out;
        do {
            if (out == n) {
                goto mismatch;
            }
            product *= shape[out++];
        } while (product < self->view.shape[i]);
        if (product != self->view.shape[i]) {
            goto mismatch;
        }
        int64_t stride = self->view.strides[i];
        for (int k = out - 1; k >= first; k--) {
            view.shape[k] = shape[k];
            view.strides[k] = stride;
            stride *= (int64_t)(shape[k] ? shape[k] : 1);
        }
    }
    for (; out < n; out++) {
        if (shape[out] != 1) {
            goto mismatch;
        }
        view.shape[out] = 1;
        view.strides[out] = 0;
    }
    view.rank = n;
    return view_like(self, &view);
mismatch:
    PyErr_SetString(PyExc_ValueError, "sizes do not split the dimensions");
    return NULL;
}

/* narrow(axis, start, length) */
static PyObject *
tensor_narrow(TensorObject *self, PyObject *args)
{
    int axis;
    unsigned long long start, length;
    t2m_view view = self->view;

    if (!PyArg_ParseTuple(args, "iKK:narrow", &axis, &start, &length)) {
        return NULL;
    }
    if (axis < 0 || axis >= view.rank || start > view.shape[axis] ||
        length > view.shape[axis] - start) {
        PyErr_SetString(PyExc_ValueError, "range outside the dimension");
        return NULL;
    }
    if (length > 0) {
        view.data += (int64_t)start * view.strides[axis];
    }
    view.shape[axis] = length;
    return view_like(self, &view);
}

/* dense(dtype=None, threads=0, simd=True): gathered and cast into new
   memory. */
static PyObject *
tensor_dense(TensorObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dtype", "threads", "simd", NULL};
    PyObject *module = PyType_GetModule(Py_TYPE(self));
    PyObject *dtype = Py_None;
    int threads = 0, simd = 1;
    t2m_job job = {.view = self->view,
                   .from = self->dtype,
                   .to = self->dtype,
                   .source_fd = -1};
    t2m_target target = {.fd = -1};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Oip:dense", names, &dtype,
                                     &threads, &simd) ||
        (dtype != Py_None && bind_dtype(dtype, &job.to) < 0)) {
        return NULL;
    }
    PyObject *result = bind_tensor_new(module, self->view.rank,
                                       self->view.shape, job.to, &target.base);
    if (!result) {
        return NULL;
    }
    t2m_exec_options options = {.threads = threads, .simd = simd};
    PyObject *none = bind_execute(module, &job, 1, &target, &options, Py_None);
    if (!none) {
        Py_DECREF(result);
        return NULL;
    }
    Py_DECREF(none);
    return result;
}

static PyMethodDef tensor_methods[] = {
    {"permute", (PyCFunction)tensor_permute, METH_O,
     "permute(axes): a view with its dimensions reordered."},
    {"split", (PyCFunction)tensor_split, METH_O,
     "split(shape): a view with dimensions split into factors."},
    {"narrow", (PyCFunction)tensor_narrow, METH_VARARGS,
     "narrow(axis, start, length): a view of part of one dimension."},
    {"dense", (PyCFunction)(void (*)(void))tensor_dense,
     METH_VARARGS | METH_KEYWORDS,
     "dense(dtype=None, threads=0, simd=True): a dense copy."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot tensor_slots[] = {
    {Py_tp_traverse, tensor_traverse},
    {Py_tp_clear, tensor_clear},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_getset, tensor_getset},
    {Py_tp_methods, tensor_methods},
    {Py_bf_getbuffer, tensor_getbuffer},
    {Py_tp_doc, "A borrowed tensor: memory, dtype, shape and strides."},
    {0, NULL},
};

PyType_Spec bind_tensor_spec = {
    .name = "torch2mlx._core.Tensor",
    .basicsize = sizeof(TensorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tensor_slots,
};

static void
buffer_free(PyObject *capsule)
{
    Py_buffer *buffer = PyCapsule_GetPointer(capsule, "torch2mlx.buffer");
    PyBuffer_Release(buffer);
    PyMem_Free(buffer);
}

/* The view of a buffer that matches a dtype's item size. */
static PyObject *
tensor_of_buffer(PyObject *module, const Py_buffer *b, t2m_dtype dtype,
                 PyObject *owner)
{
    t2m_view view = {.data = b->buf, .rank = b->ndim};
    if (b->ndim > T2M_MAX_RANK) {
        return bind_raise(module, T2M_BAD_RANK, NULL);
    }
    if ((size_t)b->itemsize != t2m_dtype_get(dtype)->bytes) {
        PyErr_SetString(PyExc_ValueError,
                        "the item size of the buffer is not that of dtype");
        return NULL;
    }
    for (int i = 0; i < b->ndim; i++) {
        view.shape[i] = (uint64_t)b->shape[i];
        view.strides[i] = b->strides[i];
    }
    return bind_tensor(module, &view, dtype, owner);
}

/* from_buffer(object, dtype) */
static PyObject *
from_buffer(PyObject *module, PyObject *args)
{
    PyObject *object, *name, *result = NULL;
    t2m_dtype dtype;

    if (!PyArg_ParseTuple(args, "OU:from_buffer", &object, &name) ||
        bind_dtype(name, &dtype) < 0) {
        return NULL;
    }
    Py_buffer *buffer = PyMem_Malloc(sizeof *buffer);
    if (!buffer) {
        return PyErr_NoMemory();
    }
    if (PyObject_GetBuffer(object, buffer, PyBUF_STRIDED_RO) < 0) {
        PyMem_Free(buffer);
        return NULL;
    }
    PyObject *owner = PyCapsule_New(buffer, "torch2mlx.buffer", buffer_free);
    if (!owner) {
        PyBuffer_Release(buffer);
        PyMem_Free(buffer);
        return NULL;
    }
    result = tensor_of_buffer(module, buffer, dtype, owner);
    Py_DECREF(owner);
    return result;
}

static PyObject *
tensor_of_dlpack(PyObject *module, const DLTensor *t, PyObject *owner)
{
    t2m_view view = {.rank = t->ndim};
    int dtype = t2m_dtype_from_dlpack(t->dtype.code, t->dtype.bits);

    if (t->device.device_type != kDLCPU) {
        PyErr_SetString(PyExc_ValueError, "the tensor is not in CPU memory");
        return NULL;
    }
    if (dtype < 0 || t->dtype.lanes != 1) {
        return bind_raise(module, T2M_BAD_DTYPE, NULL);
    }
    if (t->ndim < 0 || t->ndim > T2M_MAX_RANK) {
        return bind_raise(module, T2M_BAD_RANK, NULL);
    }
    size_t item = t2m_dtype_get((t2m_dtype)dtype)->bytes;
    view.data = (const uint8_t *)t->data + t->byte_offset;
    for (int i = 0; i < t->ndim; i++) {
        view.shape[i] = (uint64_t)t->shape[i];
    }
    if (t->strides) {
        for (int i = 0; i < t->ndim; i++) {
            view.strides[i] = t->strides[i] * (int64_t)item;
        }
    } else {
        t2m_dense_strides(t->ndim, view.shape, item, view.strides);
    }
    return bind_tensor(module, &view, (t2m_dtype)dtype, owner);
}

static void
managed_free(PyObject *capsule)
{
    DLManagedTensor *m = PyCapsule_GetPointer(capsule, "torch2mlx.dlpack");
    if (m->deleter) {
        m->deleter(m);
    }
}

static void
versioned_free(PyObject *capsule)
{
    DLManagedTensorVersioned *m =
        PyCapsule_GetPointer(capsule, "torch2mlx.dlpack_versioned");
    if (m->deleter) {
        m->deleter(m);
    }
}

/* Takes over a DLPack capsule, which is marked as used. */
static PyObject *
take_capsule(PyObject *module, PyObject *capsule)
{
    PyObject *owner, *result;
    const DLTensor *t;

    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        DLManagedTensorVersioned *m =
            PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (m->version.major != 1) {
            PyErr_SetString(PyExc_BufferError, "unknown DLPack version");
            return NULL;
        }
        t = &m->dl_tensor;
        owner = PyCapsule_New(m, "torch2mlx.dlpack_versioned", versioned_free);
        if (owner) {
            PyCapsule_SetName(capsule, "used_dltensor_versioned");
        }
    } else {
        DLManagedTensor *m = PyCapsule_GetPointer(capsule, "dltensor");
        if (!m) {
            return NULL;
        }
        t = &m->dl_tensor;
        owner = PyCapsule_New(m, "torch2mlx.dlpack", managed_free);
        if (owner) {
            PyCapsule_SetName(capsule, "used_dltensor");
        }
    }
    if (!owner) {
        return NULL;
    }
    result = tensor_of_dlpack(module, t, owner);
    Py_DECREF(owner);
    return result;
}

/* from_dlpack(object): object has __dlpack__, or is a capsule. */
static PyObject *
from_dlpack(PyObject *module, PyObject *object)
{
    PyObject *capsule = PyCapsule_CheckExact(object)
                            ? Py_NewRef(object)
                            : PyObject_CallMethod(object, "__dlpack__", NULL);
    if (!capsule) {
        return NULL;
    }
    PyObject *result = take_capsule(module, capsule);
    Py_DECREF(capsule);
    return result;
}

/* compare(a, b): a dict of the fields of t2m_difference. */
static PyObject *
compare(PyObject *module, PyObject *args)
{
    PyObject *first, *second;
    TensorObject *a, *b;
    t2m_difference d;
    t2m_status status;

    if (!PyArg_ParseTuple(args, "OO:compare", &first, &second) ||
        !(a = bind_as_tensor(module, first)) ||
        !(b = bind_as_tensor(module, second))) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = t2m_compare(&a->view, a->dtype, &b->view, b->dtype, &d);
    Py_END_ALLOW_THREADS
    if (status != T2M_OK) {
        return bind_raise(module, status, NULL);
    }
    return Py_BuildValue(
        "{sKsKsdsdsdsKsKsKsKsKsKsK}", "count", d.count, "differing",
        d.differing, "max_abs", d.max_abs, "max_rel", d.max_rel,
        "max_magnitude", d.max_magnitude, "max_ulp", d.max_ulp, "worst",
        d.worst, "nan_a", d.nan_a, "nan_b", d.nan_b, "inf_a", d.inf_a, "inf_b",
        d.inf_b, "mismatched", d.mismatched);
}

PyMethodDef bind_tensor_functions[] = {
    {"from_buffer", from_buffer, METH_VARARGS,
     "from_buffer(object, dtype): borrow the memory of a buffer."},
    {"from_dlpack", from_dlpack, METH_O,
     "from_dlpack(object): borrow the memory of a DLPack exporter."},
    {"compare", compare, METH_VARARGS,
     "compare(a, b): how far two tensors of one shape are apart."},
    {NULL, NULL, 0, NULL},
};
