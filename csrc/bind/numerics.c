#include "bind.h"
#include "../core/compare.h"
#include "../core/largest.h"

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

/* largest(tensor): the largest finite magnitude of its items. */
static PyObject *
largest(PyObject *module, PyObject *object)
{
    TensorObject *tensor = bind_as_tensor(module, object);
    t2m_status status;
    double found;

    if (!tensor) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = t2m_largest(&tensor->view, tensor->dtype, &found);
    Py_END_ALLOW_THREADS
    if (status != T2M_OK) {
        return bind_raise(module, status, NULL);
    }
    return PyFloat_FromDouble(found);
}

PyMethodDef bind_numeric_functions[] = {
    {"compare", compare, METH_VARARGS,
     "compare(a, b): how far two tensors of one shape are apart."},
    {"largest", largest, METH_O,
     "largest(tensor): the largest finite magnitude in a float64 tensor."},
    {NULL, NULL, 0, NULL},
};
