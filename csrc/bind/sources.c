#include "bind.h"

/* What the entries of a state dict are looked at with; all borrowed from the
   caller but the names of attributes. */
typedef struct {
    PyObject *module;
    PyTypeObject *borrowed; /* named tuple: key, tensor, shape, dtype, check */
    PyObject *check;        /* of tensors of a file, or None */
    PyObject *kinds;        /* exact types of tensors that are looked at */
    PyObject *dtypes;       /* set of their dtypes that have a form here */
    PyObject *strided;      /* their layout */
    PyObject *lend;         /* gives a DLPack capsule of one */
    PyObject *is_cpu, *dtype, *layout, *is_nested, *is_conj, *is_neg, *shape;
} lender;

PyObject *
bind_named(PyTypeObject *type, Py_ssize_t n, PyObject **fields)
{
    PyObject *made = NULL;
    int failed = 0;

    for (Py_ssize_t i = 0; i < n; i++) {
        failed |= fields[i] == NULL;
    }
    if (!failed) {
        made = type->tp_alloc(type, n);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (made) {
            PyTuple_SET_ITEM(made, i, fields[i]);
        } else {
            Py_XDECREF(fields[i]);
        }
    }
    return made;
}

int
bind_is_named(PyTypeObject *type)
{
    if (!PyType_IsSubtype(type, &PyTuple_Type) ||
        type->tp_basicsize != PyTuple_Type.tp_basicsize ||
        type->tp_itemsize != PyTuple_Type.tp_itemsize) {
        PyErr_SetString(PyExc_TypeError, "expected a class of named tuples");
        return 0;
    }
    return 1;
}

/* Whether an attribute, called where `call`, is `expected`: 1, 0, or -1. */
static int
says(PyObject *object, PyObject *name, int call, PyObject *expected)
{
    PyObject *args[] = {object};
    PyObject *found = call ? PyObject_VectorcallMethod(name, args, 1, NULL)
                           : PyObject_GetAttr(object, name);
    int same = found ? found == expected : -1;
    Py_XDECREF(found);
    return same;
}

/* Whether a tensor's memory holds its values as they are, and nothing else
   has to be asked: 1, 0, or -1. */
static int
is_plain(const lender *l, PyObject *value)
{
    int known = 0, yes;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(l->kinds); i++) {
        known |= (PyObject *)Py_TYPE(value) == PyTuple_GET_ITEM(l->kinds, i);
    }
    if (!known) {
        return 0;
    }
    PyObject *dtype = PyObject_GetAttr(value, l->dtype);
    yes = dtype ? PySet_Contains(l->dtypes, dtype) : -1;
    Py_XDECREF(dtype);
    yes = yes > 0 ? says(value, l->is_cpu, 0, Py_True) : yes;
    yes = yes > 0 ? says(value, l->layout, 0, l->strided) : yes;
    yes = yes > 0 ? says(value, l->is_nested, 0, Py_False) : yes;
    yes = yes > 0 ? says(value, l->is_conj, 1, Py_False) : yes;
    return yes > 0 ? says(value, l->is_neg, 1, Py_False) : yes;
}

/* The memory of a plain tensor; NULL without an exception where DLPack cannot
   say it. */
static PyObject *
memory_of(const lender *l, PyObject *value)
{
    PyObject *capsule = PyObject_CallOneArg(l->lend, value);
    PyObject *tensor = NULL;

    if (capsule && PyCapsule_CheckExact(capsule)) {
        tensor = bind_take_capsule(l->module, capsule);
    }
    Py_XDECREF(capsule);
    if (!tensor && (PyErr_ExceptionMatches(PyExc_BufferError) ||
                    PyErr_ExceptionMatches(PyExc_TypeError) ||
                    PyErr_ExceptionMatches(PyExc_RuntimeError) ||
                    PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
    }
    return tensor;
}

/* A borrowed tensor; the entry itself for anything that is to be looked at
   by others. */
static PyObject *
source_of(const lender *l, PyObject *key, PyObject *value)
{
    PyObject *check = Py_None, *tensor;

    if (Py_IS_TYPE(value, bind_state(l->module)->tensor_type)) {
        tensor = Py_NewRef(value);
        check = l->check;
    } else {
        int plain = is_plain(l, value);
        if (plain <= 0) {
            return plain < 0 ? NULL : Py_NewRef(value);
        }
        tensor = memory_of(l, value);
        if (!tensor) {
            return PyErr_Occurred() ? NULL : Py_NewRef(value);
        }
    }
    PyObject *fields[] = {
        Py_NewRef(key),
        tensor,
        PyObject_GetAttr(tensor, l->shape),
        PyObject_GetAttr(tensor, l->dtype),
        Py_NewRef(check),
    };
    return bind_named(l->borrowed, 5, fields);
}

static int
set_names(lender *l)
{
    l->is_cpu = PyUnicode_InternFromString("is_cpu");
    l->dtype = PyUnicode_InternFromString("dtype");
    l->layout = PyUnicode_InternFromString("layout");
    l->is_nested = PyUnicode_InternFromString("is_nested");
    l->is_conj = PyUnicode_InternFromString("is_conj");
    l->is_neg = PyUnicode_InternFromString("is_neg");
    l->shape = PyUnicode_InternFromString("shape");
    return l->is_cpu && l->dtype && l->layout && l->is_nested && l->is_conj &&
                   l->is_neg && l->shape
               ? 0
               : -1;
}

static void
drop_names(lender *l)
{
    Py_XDECREF(l->is_cpu);
    Py_XDECREF(l->dtype);
    Py_XDECREF(l->layout);
    Py_XDECREF(l->is_nested);
    Py_XDECREF(l->is_conj);
    Py_XDECREF(l->is_neg);
    Py_XDECREF(l->shape);
}

/* borrow_plain(entries, borrowed, check, kinds, dtypes, strided, export) */
static PyObject *
borrow_plain(PyObject *module, PyObject *args)
{
    lender l = {.module = module};
    PyObject *entries, *result, *key, *value;
    Py_ssize_t next = 0;

    if (!PyArg_ParseTuple(args, "O!O!OO!O!OO:borrow_plain", &PyDict_Type,
                          &entries, &PyType_Type, &l.borrowed, &l.check,
                          &PyTuple_Type, &l.kinds, &PyFrozenSet_Type,
                          &l.dtypes, &l.strided, &l.lend) ||
        !bind_is_named(l.borrowed)) {
        return NULL;
    }
    /* a copy: what is called may change the caller's */
    result = PyDict_Copy(entries);
    if (result && set_names(&l) < 0) {
        Py_CLEAR(result);
    }
    while (result && PyDict_Next(entries, &next, &key, &value)) {
        PyObject *source;
        Py_INCREF(key);
        Py_INCREF(value);
        source = source_of(&l, key, value);
        if (!source || PyDict_SetItem(result, key, source) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(source);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    drop_names(&l);
    return result;
}

PyMethodDef bind_source_functions[] = {
    {"borrow_plain", borrow_plain, METH_VARARGS,
     "borrow_plain(entries, borrowed, check, kinds, dtypes, strided, export): "
     "the entries of a state dict, with what only has to be borrowed as "
     "`borrowed`, and all else as it is."},
    {NULL, NULL, 0, NULL},
};
