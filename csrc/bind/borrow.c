#include "bind.h"
#include "dlpack.h"

#define HELD "torch2mlx.buffer"

static void
held_free(PyObject *capsule)
{
    Py_buffer *buffer = PyCapsule_GetPointer(capsule, HELD);
    PyBuffer_Release(buffer);
    PyMem_Free(buffer);
}

PyObject *
bind_hold_buffer(PyObject *object, int flags, const Py_buffer **out)
{
    Py_buffer *buffer = PyMem_Malloc(sizeof *buffer);
    *out = buffer;
    if (!buffer) {
        return PyErr_NoMemory();
    }
    if (PyObject_GetBuffer(object, buffer, flags) < 0) {
        PyMem_Free(buffer);
        return NULL;
    }
    PyObject *owner = PyCapsule_New(buffer, HELD, held_free);
    if (!owner) {
        PyBuffer_Release(buffer);
        PyMem_Free(buffer);
        return NULL;
    }
    return owner;
}

PyObject *
bind_held_object(PyObject *owner)
{
    if (!PyCapsule_IsValid(owner, HELD)) {
        return NULL;
    }
    return ((const Py_buffer *)PyCapsule_GetPointer(owner, HELD))->obj;
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
    PyObject *object, *name;
    const Py_buffer *buffer;
    t2m_dtype dtype;

    if (!PyArg_ParseTuple(args, "OU:from_buffer", &object, &name) ||
        bind_dtype(name, &dtype) < 0) {
        return NULL;
    }
    PyObject *owner = bind_hold_buffer(object, PyBUF_STRIDED_RO, &buffer);
    if (!owner) {
        return NULL;
    }
    PyObject *result = tensor_of_buffer(module, buffer, dtype, owner);
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
    uint64_t count;
    for (int i = 0; i < t->ndim; i++) {
        view.shape[i] = (uint64_t)t->shape[i]; /* below zero: too large */
    }
    t2m_status status = t2m_shape_count(t->ndim, view.shape, item, &count);
    if (status != T2M_OK) {
        return bind_raise(module, status, NULL);
    }
    if (count > 0 && !t->data) {
        PyErr_SetString(PyExc_ValueError, "the tensor has no memory");
        return NULL;
    }
    view.data =
        count > 0 ? (const uint8_t *)t->data + t->byte_offset : bind_nothing;
    t2m_dense_strides(t->ndim, view.shape, item, view.strides);
    for (int i = 0; t->strides && count > 0 && i < t->ndim; i++) {
        if (view.shape[i] > 1 &&
            __builtin_mul_overflow(t->strides[i], (int64_t)item,
                                   &view.strides[i])) {
            return bind_raise(module, T2M_OVERFLOW, NULL);
        }
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

PyObject *
bind_take_capsule(PyObject *module, PyObject *capsule)
{
    PyObject *owner, *result;
    const DLTensor *t;
    const char *used;

    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        DLManagedTensorVersioned *m =
            PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (m->version.major != 1) {
            PyErr_SetString(PyExc_BufferError, "unknown DLPack version");
            return NULL;
        }
        t = &m->dl_tensor;
        owner = PyCapsule_New(m, "torch2mlx.dlpack_versioned", versioned_free);
        used = "used_dltensor_versioned";
    } else {
        DLManagedTensor *m = PyCapsule_GetPointer(capsule, "dltensor");
        if (!m) {
            return NULL;
        }
        t = &m->dl_tensor;
        owner = PyCapsule_New(m, "torch2mlx.dlpack", managed_free);
        used = "used_dltensor";
    }
    if (!owner) {
        return NULL;
    }
    PyCapsule_SetName(capsule, used);
    result = tensor_of_dlpack(module, t, owner);
    Py_DECREF(owner);
    return result;
}

/* from_dlpack(object): object has __dlpack__, or is a capsule. */
static PyObject *
from_dlpack(PyObject *module, PyObject *object)
{
    if (!PyCapsule_CheckExact(object) &&
        !PyObject_HasAttrString(object, "__dlpack__")) {
        PyErr_Format(PyExc_TypeError, "%.100s lends no DLPack tensor",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    PyObject *capsule = PyCapsule_CheckExact(object)
                            ? Py_NewRef(object)
                            : PyObject_CallMethod(object, "__dlpack__", NULL);
    if (!capsule) {
        return NULL;
    }
    PyObject *result = bind_take_capsule(module, capsule);
    Py_DECREF(capsule);
    return result;
}

PyMethodDef bind_borrow_functions[] = {
    {"from_buffer", from_buffer, METH_VARARGS,
     "from_buffer(object, dtype): borrow the memory of a buffer."},
    {"from_dlpack", from_dlpack, METH_O,
     "from_dlpack(object): borrow the memory of a DLPack exporter."},
    {NULL, NULL, 0, NULL},
};
