#include "bind.h"
#include "../core/safetensors.h"

#include <stdio.h>

/* All sizes of an entry, however many. */
static PyObject *
entry_shape(const t2m_st_entry *e)
{
    uint64_t *sizes = PyMem_Calloc(e->size_count + 1, sizeof *sizes);
    PyObject *shape =
        sizes ? PyTuple_New((Py_ssize_t)e->size_count) : PyErr_NoMemory();
    if (shape) {
        t2m_st_sizes(e, sizes);
    }
    for (uint64_t i = 0; shape && i < e->size_count; i++) {
        PyObject *size = PyLong_FromUnsignedLongLong(sizes[i]);
        if (size) {
            PyTuple_SET_ITEM(shape, (Py_ssize_t)i, size);
        } else {
            Py_CLEAR(shape);
        }
    }
    PyMem_Free(sizes);
    return shape;
}

/* A sound entry of a file that cannot be a tensor here. */
static PyObject *
entry_foreign(PyObject *module, const t2m_st_entry *e)
{
    char what[64];
    if (e->problem == T2M_ST_DTYPE) {
        snprintf(what, sizeof what, "dtype %.*s", (int)e->tag_length, e->tag);
    } else if (e->problem == T2M_ST_RANK) {
        snprintf(what, sizeof what, "a tensor of %llu dimensions",
                 (unsigned long long)e->size_count);
    } else {
        snprintf(what, sizeof what, "an empty tensor of this size");
    }
    ForeignObject *self = bind_foreign(module, PyUnicode_FromString(what), 1);
    if (!self) {
        return NULL;
    }
    self->nbytes = e->end - e->begin;
    Py_SETREF(self->shape, entry_shape(e));
    Py_SETREF(
        self->dtype,
        e->problem == T2M_ST_DTYPE
            ? PyUnicode_DecodeUTF8(e->tag, (Py_ssize_t)e->tag_length, NULL)
            : PyUnicode_FromString(t2m_dtype_get(e->dtype)->torch));
    if (!self->shape || !self->dtype) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
entry_tensor(PyObject *module, const t2m_st_entry *e, const uint8_t *data,
             PyObject *owner)
{
    t2m_view view = {.data = data + e->begin, .rank = e->rank};
    memcpy(view.shape, e->shape, sizeof view.shape);
    t2m_dense_strides(e->rank, e->shape, t2m_dtype_get(e->dtype)->bytes,
                      view.strides);
    return bind_tensor(module, &view, e->dtype, owner);
}

/* The entry as (name, Tensor or Foreign). */
static PyObject *
entry_pair(PyObject *module, const t2m_st_entry *e, const uint8_t *data,
           PyObject *owner)
{
    PyObject *tensor = e->problem == T2M_ST_SOUND
                           ? entry_tensor(module, e, data, owner)
                           : entry_foreign(module, e);
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

/* read_safetensors(buffer) -> ([(name, Tensor or Foreign)], {metadata}) */
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

PyMethodDef bind_safetensors_functions[] = {
    {"read_safetensors", read_safetensors, METH_O,
     "read_safetensors(buffer): ([(name, Tensor or Foreign)], {metadata})."},
    {NULL, NULL, 0, NULL},
};
