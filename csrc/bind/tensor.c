#include "bind.h"
#include "../core/size.h"

_Alignas(16) const uint8_t bind_nothing[16];

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

int
bind_is_tuple(PyObject *object)
{
    if (!PyTuple_Check(object)) {
        PyErr_Format(PyExc_TypeError, "expected a tuple, got %.100s",
                     Py_TYPE(object)->tp_name);
        return 0;
    }
    return 1;
}

int
bind_size(PyObject *object, void *out)
{
    /* runs no code of the caller's, who could change what is being read */
    unsigned long long value = PyLong_AsUnsignedLongLong(object);
    if (value == (unsigned long long)-1 && PyErr_Occurred()) {
        return 0;
    }
    *(uint64_t *)out = value;
    return 1;
}

/* Notes the file that the memory of a tensor is mapped from. */
static void
find_file(TensorObject *t, PyTypeObject *mapping_type)
{
    const PyObject *source = bind_held_object(t->owner);
    t->fd = -1;
    if (source && Py_IS_TYPE(source, mapping_type)) {
        const MappingObject *m = (const MappingObject *)source;
        uintptr_t first = (uintptr_t)m->data, at = (uintptr_t)t->view.data;
        if (at >= first && at - first < m->length) {
            t->fd = m->fd;
            t->fd_offset = at - first;
        }
    }
}

PyObject *
bind_tensor(PyObject *module, const t2m_view *view, t2m_dtype dtype,
            PyObject *owner)
{
    module_state *s = bind_state(module);
    uint64_t count;
    t2m_status status = t2m_shape_count(view->rank, view->shape,
                                        t2m_dtype_get(dtype)->bytes, &count);
    if (status != T2M_OK) {
        return bind_raise(module, status, NULL);
    }
    TensorObject *t =
        (TensorObject *)s->tensor_type->tp_alloc(s->tensor_type, 0);
    if (!t) {
        return NULL;
    }
    t->view = *view;
    t->dtype = dtype;
    t->owner = Py_NewRef(owner);
    find_file(t, s->mapping_type);
    for (int i = 0; i < view->rank; i++) {
        t->exported_shape[i] = (Py_ssize_t)view->shape[i];
        t->exported_strides[i] = (Py_ssize_t)view->strides[i];
    }
    return (PyObject *)t;
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
    PyObject *owner = bind_block_new(count * item, data);
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

/* Whether items lie one behind the other with the last dimension ('C') or
   the first one ('F') innermost. */
static int
is_contiguous(const TensorObject *self, char order)
{
    const t2m_view *v = &self->view;
    int64_t step = (int64_t)t2m_dtype_get(self->dtype)->bytes;

    if (tensor_count(self) == 0) {
        return 1;
    }
    for (int i = 0; i < v->rank; i++) {
        int d = order == 'C' ? v->rank - 1 - i : i;
        if (v->shape[d] == 1) {
            continue;
        }
        if (v->strides[d] != step) {
            return 0;
        }
        step *= (int64_t)v->shape[d];
    }
    return 1;
}

/* Whether the memory is laid out as a request of these flags demands. */
static int
satisfies(const TensorObject *self, int flags)
{
    int dense = flags & ~PyBUF_STRIDES; /* asked for beside strides */
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) {
        return is_contiguous(self, 'C');
    }
    return (!(dense & PyBUF_C_CONTIGUOUS) || is_contiguous(self, 'C')) &&
           (!(dense & PyBUF_F_CONTIGUOUS) || is_contiguous(self, 'F')) &&
           (!(dense & PyBUF_ANY_CONTIGUOUS) || is_contiguous(self, 'C') ||
            is_contiguous(self, 'F'));
}

/* Exports the memory itself, read-only; never a copy, so a request for a
   layout that it does not have is refused. */
static int
tensor_getbuffer(TensorObject *self, Py_buffer *buffer, int flags)
{
    const t2m_dtype_info *d = t2m_dtype_get(self->dtype);
    int shaped = (flags & PyBUF_ND) == PyBUF_ND;
    int strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;

    buffer->obj = NULL;
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "tensors are read-only");
        return -1;
    }
    if (!satisfies(self, flags)) {
        PyErr_SetString(PyExc_BufferError,
                        "the tensor is not contiguous: dense() copies it");
        return -1;
    }
    buffer->buf = (void *)self->view.data;
    buffer->obj = Py_NewRef(self);
    buffer->itemsize = (Py_ssize_t)d->bytes;
    buffer->len = (Py_ssize_t)(tensor_count(self) * d->bytes);
    buffer->readonly = 1;
    buffer->ndim = shaped ? self->view.rank : 1;
    buffer->format = flags & PyBUF_FORMAT ? (char *)d->format : NULL;
    buffer->shape = shaped ? self->exported_shape : NULL;
    buffer->strides = strided ? self->exported_strides : NULL;
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

static PyObject *
get_numpy(TensorObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->numpy);
}

static PyGetSetDef tensor_getset[] = {
    {"shape", (getter)get_shape, NULL, "Sizes of the dimensions.", NULL},
    {"strides", (getter)get_strides, NULL, "Steps in bytes.", NULL},
    {"dtype", (getter)get_dtype, NULL, "Name of the torch dtype.", NULL},
    {"nbytes", (getter)get_nbytes, NULL, "Bytes when dense.", NULL},
    {"address", (getter)get_address, NULL, "Address of item (0, ...).", NULL},
    {"numpy", (getter)get_numpy, NULL, "Whether numpy's in a file.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* Reads a sequence of at most MAX_RANK sizes. */
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
        if (!bind_size(PySequence_Fast_GET_ITEM(fast, i), &out[i])) {
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

/* Splits dimension `axis` into the next of n sizes whose product it is.
   Returns how many it took, or 0 when no product is that. */
static int
split_dimension(const t2m_view *from, int axis, const uint64_t *sizes, int n,
                int64_t *strides)
{
    uint64_t product = 1;
    int took = 0;

    do {
        if (took == n || t2m_mul(product, sizes[took++], &product)) {
            return 0;
        }
    } while (product < from->shape[axis]);
    if (product != from->shape[axis]) {
        return 0;
    }
    int64_t stride = from->strides[axis];
    for (int k = took - 1; k >= 0; k--) {
        strides[k] = stride;
        /* the steps of a dimension that is not walked mean nothing */
        if (sizes[k] > 1 &&
            __builtin_mul_overflow(stride, (int64_t)sizes[k], &stride)) {
            stride = 0;
        }
    }
    return took;
}

/* split(shape): each dimension becomes the next ones of `shape` whose
   product it is; never moves bytes. */
static PyObject *
tensor_split(TensorObject *self, PyObject *sizes)
{
    t2m_view view = self->view;
    int n, out = 0, failed = 0;

    if (read_sizes(sizes, view.shape, &n) < 0) {
        return NULL;
    }
    for (int i = 0; i < self->view.rank && !failed; i++) {
        int took = split_dimension(&self->view, i, view.shape + out, n - out,
                                   view.strides + out);
        out += took;
        failed = took == 0;
    }
    for (; out < n && !failed; out++) {
        failed = view.shape[out] != 1;
        view.strides[out] = 0;
    }
    if (failed) {
        PyErr_SetString(PyExc_ValueError, "sizes do not split the dimensions");
        return NULL;
    }
    view.rank = n;
    return view_like(self, &view);
}

/* narrow(axis, start, length) */
static PyObject *
tensor_narrow(TensorObject *self, PyObject *args)
{
    int axis;
    uint64_t start, length;
    t2m_view view = self->view;

    if (!PyArg_ParseTuple(args, "iO&O&:narrow", &axis, bind_size, &start,
                          bind_size, &length)) {
        return NULL;
    }
    if (axis < 0 || axis >= view.rank || start > view.shape[axis] ||
        length > view.shape[axis] - start) {
        PyErr_SetString(PyExc_ValueError, "range outside the dimension");
        return NULL;
    }
    /* a start within memory; steps of what is not walked mean nothing */
    if (length > 0 && start > 0 && tensor_count(self) > 0) {
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
    if (bind_execute(module, &job, 1, &target, &options, Py_None) < 0) {
        Py_CLEAR(result);
    }
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
