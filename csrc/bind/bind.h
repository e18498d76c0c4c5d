/* What the files of the binding share.  Each function with a PyObject result
   returns a new reference, or NULL with an exception set. */
#ifndef T2M_BIND_H
#define T2M_BIND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../core/dtype.h"
#include "../core/exec.h"
#include "../core/permute.h"
#include "../core/status.h"
#include "../core/trie.h"

/* What the module keeps: declared, visited and cleared from this one list.
   The arguments of core_error are (status name, message, offset, name). */
#define MODULE_STATE(KEPT)                                                    \
    KEPT(PyTypeObject, tensor_type)                                           \
    KEPT(PyTypeObject, mapping_type)                                          \
    KEPT(PyTypeObject, foreign_type)                                          \
    KEPT(PyTypeObject, unresolved_type)                                       \
    KEPT(PyObject, core_error)

typedef struct {
#define KEPT(type, name) type *name;
    MODULE_STATE(KEPT)
#undef KEPT
} module_state;

/* A borrowed or owned block of memory seen through a strided view. */
typedef struct {
    PyObject_HEAD
    t2m_view view;
    t2m_dtype dtype;
    PyObject *owner; /* keeps view.data alive */
    int fd;          /* of the file the data is mapped from, or -1 */
    uint64_t fd_offset;
    char numpy; /* whether a file held it as an array of numpy's */
    Py_ssize_t exported_shape[T2M_MAX_RANK]; /* for the buffer protocol */
    Py_ssize_t exported_strides[T2M_MAX_RANK];
} TensorObject;

/* A file mapped into memory, read-only. */
typedef struct {
    PyObject_HEAD
    uint8_t *data;
    uint64_t length;
    int fd;
} MappingObject;

/* A value that a file holds and that is not data here: what it is, and for
   tensors what is known of them. */
typedef struct {
    PyObject_HEAD
    PyObject *name;
    PyObject *dtype; /* text, or None */
    PyObject *shape; /* tuple, or None */
    uint64_t nbytes;
    uint64_t offset; /* in its file, or 0 */
    char is_tensor;
    char holds_data; /* 1: tensors, or bytes that may be some, are within */
} ForeignObject;

module_state *bind_state(PyObject *module);

/* Raises the exception of a status; always returns NULL. */
PyObject *bind_raise(PyObject *module, t2m_status status,
                     const t2m_where *where);

/* What the data of empty tensors points at. */
extern const uint8_t bind_nothing[16];

/* Borrows the memory of an object, in the layout that `flags` demand: as long
   as the result lives the object cannot free, move or resize it.  *out is
   part of the result. */
PyObject *bind_hold_buffer(PyObject *object, int flags, const Py_buffer **out);

/* The object that such a result borrows from, borrowed itself; NULL, without
   an exception, for any other owner. */
PyObject *bind_held_object(PyObject *owner);

/* A tensor over the memory of a DLPack capsule, which is marked as used. */
PyObject *bind_take_capsule(PyObject *module, PyObject *capsule);

/* A named tuple of n fields, whose references it takes over, also when it
   fails; any may be NULL, with an exception set. */
PyObject *bind_named(PyTypeObject *type, Py_ssize_t n, PyObject **fields);

/* Whether a class is one of named tuples; else TypeError is set. */
int bind_is_named(PyTypeObject *type);

/* Allocates bytes; the result owns them. */
PyObject *bind_block_new(size_t bytes, uint8_t **data);

/* Points keys at the UTF-8 of the strings in a list, which has to live as
   long; PyMem_Free ends them.  NULL with an exception for anything else. */
t2m_key *bind_keys(PyObject *list);

/* A number that differs from process to process, for hashes of names. */
uint64_t bind_secret(void);

/* As bind_raise, naming the key at `bad` of a list. */
PyObject *bind_raise_key(PyObject *module, t2m_status status, PyObject *names,
                         size_t bad);

/* Converter for "O&" of PyArg_Parse*: an integer of 0 to 2^64 - 1. */
int bind_size(PyObject *object, void *out);

/* A tensor over memory that `owner` keeps alive.  OVERFLOW where its dense
   size does not fit into 63 bits. */
PyObject *bind_tensor(PyObject *module, const t2m_view *view, t2m_dtype dtype,
                      PyObject *owner);

/* A dense tensor over new memory; *data gets its first byte. */
PyObject *bind_tensor_new(PyObject *module, int rank, const uint64_t *shape,
                          t2m_dtype dtype, uint8_t **data);

/* A foreign value or tensor; of a tensor nothing is known yet.  Takes over
   `name`, a text, or NULL with an exception set. */
ForeignObject *bind_foreign(PyObject *module, PyObject *name, int is_tensor);

/* Checks the type; returns it, or NULL with TypeError set. */
TensorObject *bind_as_tensor(PyObject *module, PyObject *object);

/* Whether it is a tuple, which PyArg_ParseTuple takes for granted; else
   TypeError is set. */
int bind_is_tuple(PyObject *object);

/* Reads a dtype name; 0, or -1 with ValueError set. */
int bind_dtype(PyObject *name, t2m_dtype *out);

/* Runs jobs with the GIL released; 0, or -1 with an exception set. */
int bind_execute(PyObject *module, const t2m_job *jobs, size_t count,
                 const t2m_target *target, t2m_exec_options *options,
                 PyObject *progress);

extern PyType_Spec bind_tensor_spec, bind_mapping_spec, bind_foreign_spec,
    bind_unresolved_spec;
extern PyMethodDef bind_borrow_functions[], bind_numeric_functions[],
    bind_safetensors_functions[], bind_torch_functions[],
    bind_write_functions[], bind_key_functions[], bind_rule_functions[],
    bind_module_functions[], bind_move_functions[], bind_source_functions[];

#endif
