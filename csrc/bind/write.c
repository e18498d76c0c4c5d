#include "bind.h"
#include "../core/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
/* of linux/fs.h, which older headers lack */
#define SWAP_PATHS 2u
#elif defined(__APPLE__)
/* of sys/stdio.h */
#define SWAP_PATHS RENAME_SWAP
#endif

/* Reads [(Tensor, dtype name), ...] into jobs that borrow from the list. */
static t2m_job *
read_jobs(PyObject *module, PyObject *list, Py_ssize_t n)
{
    t2m_job *jobs = PyMem_Calloc((size_t)n + 1, sizeof *jobs);
    if (!jobs) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        PyObject *object, *dtype;
        TensorObject *t;
        if (!bind_is_tuple(item) ||
            !PyArg_ParseTuple(item, "OU", &object, &dtype) ||
            !(t = bind_as_tensor(module, object)) ||
            bind_dtype(dtype, &jobs[i].to) < 0) {
            PyMem_Free(jobs);
            return NULL;
        }
        jobs[i].view = t->view;
        jobs[i].from = t->dtype;
        jobs[i].source_fd = t->fd;
        jobs[i].source_offset = t->fd_offset;
    }
    return jobs;
}

/* The places of the bytes that are not 0. */
static PyObject *
places_of(const uint8_t *flags, Py_ssize_t n)
{
    PyObject *list = PyList_New(0);

    for (Py_ssize_t i = 0; list && i < n; i++) {
        if (flags[i]) {
            PyObject *place = PyLong_FromSsize_t(i);
            if (!place || PyList_Append(list, place) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(place);
        }
    }
    return list;
}

/* write(fd, start, jobs, *, threads, span, simd, flush, progress) -> places
   of jobs that hold what their new dtype cannot */
static PyObject *
write_jobs(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd",   "start", "jobs",     "threads", "span",
                            "simd", "flush", "progress", NULL};
    t2m_target target = {.fd = -1};
    t2m_exec_options options = {.simd = 1};
    Py_ssize_t span = 0;
    PyObject *list, *progress = Py_None, *result = NULL;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "iO&O!|$inppO:write", names, &target.fd, bind_size,
            &target.start, &PyList_Type, &list, &options.threads, &span,
            &options.simd, &options.flush, &progress)) {
        return NULL;
    }
    if (target.fd < 0) {
        errno = EBADF;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    /* A list of its own keeps the tensors alive whatever callers do. */
    PyObject *held = PyList_GetSlice(list, 0, PyList_GET_SIZE(list));
    if (!held) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(held);
    t2m_job *jobs = read_jobs(module, held, n);
    if (!jobs) {
        goto done;
    }
    options.span = span > 0 ? (size_t)span : 0;
    options.lost = PyMem_Calloc((size_t)n + 1, 1);
    if (!options.lost) {
        PyErr_NoMemory();
        goto done;
    }
    if (bind_execute(module, jobs, (size_t)n, &target, &options, progress) ==
        0) {
        result = places_of(options.lost, n);
    }
done:
    PyMem_Free(options.lost);
    PyMem_Free(jobs);
    Py_DECREF(held);
    return result;
}

/* Reads (name, dtype, shape) into an entry whose name the tuple owns. */
static int
read_entry(PyObject *item, t2m_st_entry *e, uint64_t *offset)
{
    PyObject *name, *dtype, *shape;
    Py_ssize_t length;
    uint64_t count;

    if (!bind_is_tuple(item) ||
        !PyArg_ParseTuple(item, "UUO!", &name, &dtype, &PyTuple_Type,
                          &shape) ||
        bind_dtype(dtype, &e->dtype) < 0) {
        return -1;
    }
    e->name = PyUnicode_AsUTF8AndSize(name, &length);
    if (!e->name) {
        return -1;
    }
    e->name_length = (size_t)length;
    if (PyTuple_GET_SIZE(shape) > T2M_MAX_RANK) {
        PyErr_SetString(PyExc_ValueError, "too many dimensions");
        return -1;
    }
    e->rank = (int)PyTuple_GET_SIZE(shape);
    for (int i = 0; i < e->rank; i++) {
        if (!bind_size(PyTuple_GET_ITEM(shape, i), &e->shape[i])) {
            return -1;
        }
    }
    size_t item_bytes = t2m_dtype_get(e->dtype)->bytes;
    if (t2m_shape_count(e->rank, e->shape, item_bytes, &count) != T2M_OK ||
        __builtin_add_overflow(*offset, count * item_bytes, &e->end)) {
        PyErr_SetString(PyExc_OverflowError, "a size does not fit");
        return -1;
    }
    e->begin = *offset;
    *offset = e->end;
    return 0;
}

static int
read_metadata(PyObject *dict, t2m_st_meta *out)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, n;

    for (; PyDict_Next(dict, &at, &key, &value); out++) {
        if (!(out->key = PyUnicode_AsUTF8AndSize(key, &n))) {
            return -1;
        }
        out->key_length = (size_t)n;
        if (!(out->value = PyUnicode_AsUTF8AndSize(value, &n))) {
            return -1;
        }
        out->value_length = (size_t)n;
    }
    return 0;
}

/* safetensors_header(entries, metadata) -> bytes */
static PyObject *
safetensors_header(PyObject *module, PyObject *args)
{
    PyObject *list, *dict, *result = NULL;
    uint8_t *bytes = NULL;
    size_t length;
    uint64_t offset = 0;

    if (!PyArg_ParseTuple(args, "O!O!:safetensors_header", &PyList_Type, &list,
                          &PyDict_Type, &dict)) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(list), m = PyDict_GET_SIZE(dict);
    t2m_st_entry *entries = PyMem_Calloc((size_t)n + 1, sizeof *entries);
    t2m_st_meta *meta = PyMem_Calloc((size_t)m + 1, sizeof *meta);
    if (!entries || !meta) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (read_entry(PyList_GET_ITEM(list, i), &entries[i], &offset) < 0) {
            goto done;
        }
    }
    if (read_metadata(dict, meta) < 0) {
        goto done;
    }
    t2m_status status =
        t2m_st_build(entries, (size_t)n, meta, (size_t)m, &bytes, &length);
    if (status != T2M_OK) {
        bind_raise(module, status, NULL);
        goto done;
    }
    result =
        PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)length);
done:
    free(bytes);
    PyMem_Free(entries);
    PyMem_Free(meta);
    return result;
}

/* exchange(a, b): swaps two paths in one step where the system can; returns
   whether it did. */
static PyObject *
exchange(PyObject *module, PyObject *args)
{
    PyObject *a, *b;
    int result = -1;

    (void)module;
    if (!PyArg_ParseTuple(args, "O&O&:exchange", PyUnicode_FSConverter, &a,
                          PyUnicode_FSConverter, &b)) {
        return NULL;
    }
#if defined(__linux__) && defined(SYS_renameat2)
    result = (int)syscall(SYS_renameat2, AT_FDCWD, PyBytes_AS_STRING(a),
                          AT_FDCWD, PyBytes_AS_STRING(b), SWAP_PATHS);
#elif defined(__APPLE__)
    result =
        renamex_np(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), SWAP_PATHS);
#endif
    Py_DECREF(a);
    Py_DECREF(b);
    return PyBool_FromLong(result == 0);
}

PyMethodDef bind_write_functions[] = {
    {"write", (PyCFunction)(void (*)(void))write_jobs,
     METH_VARARGS | METH_KEYWORDS,
     "write(fd, start, jobs, *, threads=0, span=0, simd=True, flush=False, "
     "progress=None): gather, cast and write tensors one behind the other; "
     "returns the places of those with finite items that are infinite now."},
    {"safetensors_header", safetensors_header, METH_VARARGS,
     "safetensors_header([(name, dtype, shape)], {metadata}): the bytes."},
    {"exchange", exchange, METH_VARARGS,
     "exchange(a, b): swap two paths atomically; False where unsupported."},
    {NULL, NULL, 0, NULL},
};
