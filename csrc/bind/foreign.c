#include "bind.h"

static void
foreign_dealloc(ForeignObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_CLEAR(self->name);
    Py_CLEAR(self->dtype);
    Py_CLEAR(self->shape);
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
foreign_dtype(ForeignObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(self->dtype);
}

static PyObject *
foreign_shape(ForeignObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(self->shape);
}

static PyObject *
foreign_nbytes(ForeignObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(self->nbytes);
}

static PyObject *
foreign_is_tensor(ForeignObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->is_tensor);
}

static PyObject *
foreign_offset(ForeignObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(self->offset);
}

static PyObject *
foreign_holds_data(ForeignObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->holds_data);
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
    {"dtype", (getter)foreign_dtype, NULL,
     "A tensor's dtype, the file's own name where torch has none.", NULL},
    {"shape", (getter)foreign_shape, NULL, "A tensor's sizes, where known.",
     NULL},
    {"nbytes", (getter)foreign_nbytes, NULL,
     "Bytes of a tensor in the file, where known.", NULL},
    {"offset", (getter)foreign_offset, NULL,
     "Byte of the file where it is named, where known.", NULL},
    {"holds_data", (getter)foreign_holds_data, NULL,
     "Whether tensors, or bytes that may be some, are within it.", NULL},
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

ForeignObject *
bind_foreign(PyObject *module, PyObject *name, int is_tensor)
{
    PyTypeObject *type = bind_state(module)->foreign_type;
    ForeignObject *self =
        name ? (ForeignObject *)type->tp_alloc(type, 0) : NULL;
    if (!self) {
        Py_XDECREF(name);
        return NULL;
    }
    self->name = name;
    self->dtype = Py_NewRef(Py_None);
    self->shape = Py_NewRef(Py_None);
    self->is_tensor = (char)is_tensor;
    return self;
}
