#include "bind.h"
#include "../core/rules.h"

static const char *const severities[] = {"info", "warning", "error"};

/* The rules for Python: (id, severity, message, suggestion), .... */
static PyObject *
rules(PyObject *module, PyObject *unused)
{
    size_t n;
    const t2m_rule *table = t2m_rules(&n);
    PyObject *rows = PyTuple_New((Py_ssize_t)n);

    (void)module;
    (void)unused;
    for (size_t i = 0; rows && i < n; i++) {
        PyObject *row =
            Py_BuildValue("(ssss)", table[i].id, severities[table[i].severity],
                          table[i].message, table[i].suggestion);
        if (!row) {
            Py_CLEAR(rows);
        } else {
            PyTuple_SET_ITEM(rows, (Py_ssize_t)i, row);
        }
    }
    return rows;
}

static PyObject *
fact_kinds(PyObject *module, PyObject *unused)
{
    PyObject *names = PyTuple_New(T2M_FACT_COUNT);

    (void)module;
    (void)unused;
    for (int i = 0; names && i < T2M_FACT_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(t2m_fact_names()[i]);
        if (!name) {
            Py_CLEAR(names);
        } else {
            PyTuple_SET_ITEM(names, i, name);
        }
    }
    return names;
}

static PyObject *
findings_list(const t2m_analysis *a)
{
    PyObject *list = PyList_New((Py_ssize_t)a->count);
    for (size_t i = 0; list && i < a->count; i++) {
        const t2m_finding *f = &a->findings[i];
        PyObject *fact = f->fact == UINT32_MAX
                             ? Py_NewRef(Py_None)
                             : PyLong_FromUnsignedLong(f->fact);
        PyObject *row =
            fact ? Py_BuildValue("(IINI)", f->rule, f->module, fact, f->count)
                 : NULL;
        if (!row) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
        }
    }
    return list;
}

static PyObject *
sizes(const uint64_t *by_status)
{
    PyObject *row = PyTuple_New(T2M_MODULE_STATUS_COUNT);
    for (int i = 0; row && i < T2M_MODULE_STATUS_COUNT; i++) {
        PyObject *n = PyLong_FromUnsignedLongLong(by_status[i]);
        if (!n) {
            Py_CLEAR(row);
        } else {
            PyTuple_SET_ITEM(row, i, n);
        }
    }
    return row;
}

/* analyze(modules, facts, class_count): two buffers of whole records ->
   (findings, layers, mapped, parameters by status, bytes by status) */
static PyObject *
analyze(PyObject *module, PyObject *args)
{
    Py_buffer modules, facts;
    uint64_t classes;
    t2m_analysis a;
    size_t bad;
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(args, "y*y*O&:analyze", &modules, &facts, bind_size,
                          &classes)) {
        return NULL;
    }
    if (classes > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "too many classes");
        goto done;
    }
    if (modules.len % (Py_ssize_t)sizeof(t2m_module_record) ||
        facts.len % (Py_ssize_t)sizeof(t2m_fact) ||
        (uintptr_t)modules.buf % _Alignof(t2m_module_record) ||
        (uintptr_t)facts.buf % _Alignof(t2m_fact)) {
        PyErr_SetString(PyExc_ValueError,
                        "buffers must hold whole, aligned records");
        goto done;
    }
    t2m_status status;
    Py_BEGIN_ALLOW_THREADS
    status = t2m_analyze(modules.buf,
                         (size_t)modules.len / sizeof(t2m_module_record),
                         facts.buf, (size_t)facts.len / sizeof(t2m_fact),
                         (uint32_t)classes, &a, &bad);
    Py_END_ALLOW_THREADS
    if (status != T2M_OK) {
        t2m_where where = {bad, ""};
        bind_raise(module, status, &where);
        goto done;
    }
    PyObject *findings = findings_list(&a);
    PyObject *parameters = sizes(a.parameters), *bytes = sizes(a.bytes);
    if (findings && parameters && bytes) {
        result =
            Py_BuildValue("(OKKOO)", findings, (unsigned long long)a.layers,
                          (unsigned long long)a.mapped, parameters, bytes);
    }
    Py_XDECREF(findings);
    Py_XDECREF(parameters);
    Py_XDECREF(bytes);
    t2m_analysis_free(&a);
done:
    PyBuffer_Release(&modules);
    PyBuffer_Release(&facts);
    return result;
}

PyMethodDef bind_rule_functions[] = {
    {"rules", rules, METH_NOARGS,
     "rules(): (id, severity, message, suggestion) of every rule."},
    {"fact_kinds", fact_kinds, METH_NOARGS,
     "fact_kinds(): names of what can be found in source, by number."},
    {"analyze", analyze, METH_VARARGS,
     "analyze(modules, facts, class_count): apply the rules."},
    {NULL, NULL, 0, NULL},
};
