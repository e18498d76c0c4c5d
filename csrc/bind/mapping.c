#include "bind.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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
    const int how = O_RDONLY | O_CLOEXEC;
    /* as Python's own open: hooks that watch files see these too */
    if (PySys_Audit("open", "OOi", path, Py_None, how) < 0) {
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    fd = open(name, how);
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
