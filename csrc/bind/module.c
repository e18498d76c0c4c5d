#include "bind.h"

module_state *
bind_state(PyObject *module)
{
    return PyModule_GetState(module);
}

PyObject *
bind_raise(PyObject *module, t2m_status status, const t2m_where *where)
{
    if (status == T2M_NO_MEMORY) {
        return PyErr_NoMemory();
    }
    PyObject *name = PyUnicode_DecodeUTF8(
        where ? where->name : "", (Py_ssize_t)strlen(where ? where->name : ""),
        "replace");
    if (!name) {
        return NULL;
    }
    PyObject *args = Py_BuildValue(
        "(ssKN)", t2m_status_name(status), t2m_status_message(status),
        (unsigned long long)(where ? where->offset : 0), name);
    if (args) {
        PyErr_SetObject(bind_state(module)->core_error, args);
        Py_DECREF(args);
    }
    return NULL;
}

static PyObject *
dtype_row(const t2m_dtype_info *d)
{
    return Py_BuildValue("(snsss)", d->torch, (Py_ssize_t)d->bytes, d->tag,
                         d->mlx, d->numpy);
}

/* The dtype table, for Python: (torch name, bytes, tag, MLX, numpy). */
static int
add_dtypes(PyObject *module)
{
    PyObject *rows = PyTuple_New(T2M_DTYPE_COUNT);
    if (!rows) {
        return -1;
    }
    for (int i = 0; i < T2M_DTYPE_COUNT; i++) {
        PyObject *row = dtype_row(t2m_dtype_get((t2m_dtype)i));
        if (!row) {
            Py_DECREF(rows);
            return -1;
        }
        PyTuple_SET_ITEM(rows, i, row);
    }
    int failed = PyModule_AddObjectRef(module, "DTYPES", rows);
    Py_DECREF(rows);
    return failed;
}

static PyTypeObject *
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static int
module_exec(PyObject *module)
{
    module_state *s = bind_state(module);

    s->core_error = PyErr_NewExceptionWithDoc(
        "torch2mlx._core.CoreError",
        "A failure of the C core: (status, message, offset, name).",
        PyExc_ValueError, NULL);
    if (!s->core_error ||
        PyModule_AddObjectRef(module, "CoreError", s->core_error) < 0 ||
        !(s->tensor_type = add_type(module, &bind_tensor_spec)) ||
        !(s->mapping_type = add_type(module, &bind_mapping_spec)) ||
        !(s->foreign_type = add_type(module, &bind_foreign_spec)) ||
        !(s->unresolved_type = add_type(module, &bind_unresolved_spec)) ||
        PyModule_AddFunctions(module, bind_borrow_functions) < 0 ||
        PyModule_AddFunctions(module, bind_numeric_functions) < 0 ||
        PyModule_AddFunctions(module, bind_safetensors_functions) < 0 ||
        PyModule_AddFunctions(module, bind_torch_functions) < 0 ||
        PyModule_AddFunctions(module, bind_write_functions) < 0 ||
        PyModule_AddFunctions(module, bind_key_functions) < 0 ||
        PyModule_AddFunctions(module, bind_module_functions) < 0 ||
        PyModule_AddFunctions(module, bind_move_functions) < 0 ||
        PyModule_AddFunctions(module, bind_source_functions) < 0 ||
        PyModule_AddFunctions(module, bind_rule_functions) < 0 ||
        PyModule_AddIntConstant(module, "MAX_RANK", T2M_MAX_RANK) < 0) {
        return -1;
    }
    return add_dtypes(module);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *s = bind_state(module);
#define KEPT(type, name) Py_VISIT(s->name);
    MODULE_STATE(KEPT)
#undef KEPT
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *s = bind_state(module);
#define KEPT(type, name) Py_CLEAR(s->name);
    MODULE_STATE(KEPT)
#undef KEPT
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    /* The package around it uses numpy, which is not for subinterpreters. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_MOD_GIL_USED
    /* Tensors and mappings keep counts that no lock guards but the GIL. */
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "torch2mlx._core",
    .m_doc = "Bytes, tables and trees of torch2mlx, in C.",
    .m_size = sizeof(module_state),
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
