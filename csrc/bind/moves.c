#include "bind.h"

/* A plan of moves while it is made; what the caller passed is borrowed. */
typedef struct {
    PyObject *rules;   /* by module; None: planned by `other` alone */
    PyObject *tensors; /* {key: source} */
    PyObject *actions; /* {key: action}: keys of which more is known */
    PyTypeObject *deferred;
    PyTypeObject *piece, *trace, *view; /* named tuples, fields as below */
    PyObject *classify;                 /* (row, sources) -> moves or None */
    PyObject *other;    /* (row, sources): plans what is more than moved */
    PyObject *identity; /* (source, rule) -> tuple; None where none is tied */
    PyObject *pieces;   /* list */
    PyObject *traces;   /* {key: trace} */
    PyObject *known;    /* {(rule, name, shape, ...): moves or None} */
    PyObject *copy, *to, *laid, *empty, *nothing; /* constants of rows */
    PyObject *key, *shape, *dtype, *load;         /* names of attributes */
} planner;

/* (rule, name, shape, name, shape, ...) of the tensors of one module. */
static PyObject *
kind_of(const planner *p, PyObject *rule, PyObject *sources)
{
    PyObject *kind = PyTuple_New(1 + 2 * PyDict_GET_SIZE(sources));
    PyObject *name, *source;
    Py_ssize_t next = 0, at = 1;

    if (!kind) {
        return NULL;
    }
    PyTuple_SET_ITEM(kind, 0, PyLong_FromVoidPtr(rule));
    while (PyDict_Next(sources, &next, &name, &source)) {
        PyTuple_SET_ITEM(kind, at, Py_NewRef(name));
        PyTuple_SET_ITEM(kind, at + 1, PyObject_GetAttr(source, p->shape));
        if (!PyTuple_GET_ITEM(kind, at + 1)) {
            Py_DECREF(kind);
            return NULL;
        }
        at += 2;
    }
    if (!PyTuple_GET_ITEM(kind, 0)) {
        Py_CLEAR(kind);
    }
    return kind;
}

/* The moves of a module, borrowed; None where more has to be done. */
static PyObject *
moves_of(const planner *p, PyObject *rule, PyObject *row, PyObject *sources)
{
    PyObject *kind = kind_of(p, rule, sources);
    PyObject *moves = NULL;

    if (!kind) {
        return NULL;
    }
    moves = PyDict_GetItemWithError(p->known, kind);
    if (!moves && !PyErr_Occurred()) {
        PyObject *args[] = {row, sources};
        PyObject *found = PyObject_Vectorcall(p->classify, args, 2, NULL);
        if (found && PyDict_SetItem(p->known, kind, found) == 0) {
            moves = found;
        }
        Py_XDECREF(found); /* the dict has it */
    }
    Py_DECREF(kind);
    return moves;
}

/* Equal for tensors that are the same bytes; () for others. */
static PyObject *
identity_of(const planner *p, PyObject *source, PyObject *rule)
{
    PyObject *args[] = {source, rule};
    if (p->identity == Py_None) {
        return Py_NewRef(p->nothing);
    }
    return PyObject_Vectorcall(p->identity, args, 2, NULL);
}

/* What is written of a source: `fitted` is None for a copy, or (text, sizes,
   shape, rearrange). */
static PyObject *
piece_of(const planner *p, PyObject *source, PyObject *full, PyObject *fitted)
{
    int plain = fitted == Py_None;
    PyObject *text = plain ? p->copy : PyTuple_GET_ITEM(fitted, 0);
    PyObject *deferred = Py_IS_TYPE(source, p->deferred) ? Py_True : Py_False;
    PyObject *shape, *load;

    if (plain) {
        shape = PyObject_GetAttr(source, p->shape);
        load = PyObject_GetAttr(source, p->load);
    } else {
        PyObject *parts[] = {Py_NewRef(source),
                             Py_NewRef(PyTuple_GET_ITEM(fitted, 3))};
        shape = Py_NewRef(PyTuple_GET_ITEM(fitted, 2));
        load = bind_named(p->view, 2, parts);
    }
    PyObject *key = PyObject_GetAttr(source, p->key);
    PyObject *keys = key ? PyTuple_Pack(1, key) : NULL;
    PyObject *fields[] = {
        Py_NewRef(full),
        shape,
        PyObject_GetAttr(source, p->dtype),
        keys,
        Py_NewRef(text),
        load,
        Py_NewRef(deferred),
        identity_of(p, source, text),
        Py_NewRef(Py_False),
    };
    Py_XDECREF(key);
    return bind_named(p->piece, 9, fields);
}

/* ("t", target) or ("l", target, layout, sizes). */
static PyObject *
recipe_of(const planner *p, PyObject *full, PyObject *fitted)
{
    if (fitted == Py_None) {
        return PyTuple_Pack(2, p->to, full);
    }
    return PyTuple_Pack(4, p->laid, full, PyTuple_GET_ITEM(fitted, 0),
                        PyTuple_GET_ITEM(fitted, 1));
}

/* Plans one tensor; 0, or -1. */
static int
move(const planner *p, PyObject *source, PyObject *full, PyObject *fitted)
{
    PyObject *piece = piece_of(p, source, full, fitted);
    PyObject *key = piece ? PyObject_GetAttr(source, p->key) : NULL;
    if (!key) {
        Py_XDECREF(piece);
        return -1;
    }
    PyObject *fields[] = {
        Py_NewRef(key),
        PyObject_GetAttr(source, p->dtype),
        PyObject_GetAttr(source, p->shape),
        recipe_of(p, full, fitted),
        Py_NewRef(p->empty),
    };
    PyObject *trace = bind_named(p->trace, 5, fields);
    int failed = !trace || PyList_Append(p->pieces, piece) < 0 ||
                 PyDict_SetItem(p->traces, key, trace) < 0;
    Py_XDECREF(trace);
    Py_DECREF(key);
    Py_DECREF(piece);
    return failed ? -1 : 0;
}

/* Carries out ((name, target, fitted), ...); 0, or -1. */
static int
move_all(const planner *p, PyObject *moves, PyObject *prefix,
         PyObject *sources)
{
    if (!bind_is_tuple(moves)) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(moves); i++) {
        PyObject *item = PyTuple_GET_ITEM(moves, i), *name, *target, *fitted;
        if (!bind_is_tuple(item) ||
            !PyArg_ParseTuple(item, "UUO", &name, &target, &fitted)) {
            return -1;
        }
        if (fitted != Py_None &&
            (!bind_is_tuple(fitted) || PyTuple_GET_SIZE(fitted) != 4)) {
            PyErr_SetString(PyExc_ValueError, "a layout has four parts");
            return -1;
        }
        PyObject *source = PyDict_GetItemWithError(sources, name);
        if (!source) {
            if (!PyErr_Occurred()) {
                PyErr_Format(PyExc_ValueError, "no tensor %R", name);
            }
            return -1;
        }
        PyObject *full = PyUnicode_Concat(prefix, target);
        int failed = !full || move(p, source, full, fitted) < 0;
        Py_XDECREF(full);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

/* {name: source} of a module's {name: key}; *known_more: whether there is an
   action for one of the keys. */
static PyObject *
sources_of(const planner *p, PyObject *keys, int *known_more)
{
    PyObject *sources = PyDict_New(), *name, *key;
    Py_ssize_t next = 0;

    *known_more = 0;
    while (sources && PyDict_Next(keys, &next, &name, &key)) {
        PyObject *source = PyDict_GetItemWithError(p->tensors, key);
        int more = source && PyDict_GET_SIZE(p->actions)
                       ? PyDict_Contains(p->actions, key)
                       : 0;
        if (!source && !PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "no tensor %R", key);
        }
        if (!source || more < 0 || PyDict_SetItem(sources, name, source) < 0) {
            Py_CLEAR(sources);
        }
        *known_more |= more > 0;
    }
    return sources;
}

/* Plans the tensors of the module in one row; 0, or -1. */
static int
plan_module(const planner *p, PyObject *row)
{
    PyObject *prefix, *keys, *moves = Py_None, *done = NULL;
    Py_ssize_t module;
    int more;

    if (!bind_is_tuple(row) || !PyArg_ParseTuple(row, "nUO!", &module, &prefix,
                                                 &PyDict_Type, &keys)) {
        return -1;
    }
    if (module < 0 || module >= PyList_GET_SIZE(p->rules)) {
        PyErr_SetString(PyExc_ValueError, "no such module");
        return -1;
    }
    PyObject *sources = sources_of(p, keys, &more);
    PyObject *rule = PyList_GET_ITEM(p->rules, module);
    if (sources && rule != Py_None && !more) {
        moves = moves_of(p, rule, row, sources);
    }
    if (sources && moves == Py_None) {
        PyObject *args[] = {row, sources};
        done = PyObject_Vectorcall(p->other, args, 2, NULL);
    } else if (sources && moves && move_all(p, moves, prefix, sources) == 0) {
        done = Py_NewRef(Py_None);
    }
    Py_XDECREF(sources);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* The strings that rows are made of; 0, or -1. */
static int
set_constants(planner *p)
{
    p->known = PyDict_New();
    p->copy = PyUnicode_InternFromString("copy");
    p->to = PyUnicode_InternFromString("t");
    p->laid = PyUnicode_InternFromString("l");
    p->empty = PyUnicode_InternFromString("");
    p->nothing = PyTuple_New(0);
    p->key = PyUnicode_InternFromString("key");
    p->shape = PyUnicode_InternFromString("shape");
    p->dtype = PyUnicode_InternFromString("dtype");
    p->load = PyUnicode_InternFromString("load");
    return p->known && p->copy && p->to && p->laid && p->empty && p->nothing &&
                   p->key && p->shape && p->dtype && p->load
               ? 0
               : -1;
}

static void
drop_constants(planner *p)
{
    Py_XDECREF(p->known);
    Py_XDECREF(p->copy);
    Py_XDECREF(p->to);
    Py_XDECREF(p->laid);
    Py_XDECREF(p->empty);
    Py_XDECREF(p->nothing);
    Py_XDECREF(p->key);
    Py_XDECREF(p->shape);
    Py_XDECREF(p->dtype);
    Py_XDECREF(p->load);
}

/* plan_moves(rows, rules, tensors, actions, types, calls, pieces, traces) */
static PyObject *
plan_moves(PyObject *module, PyObject *args)
{
    planner p = {.known = NULL};
    PyObject *rows;
    int failed;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!O!O!(O!O!O!O!)(OOO)O!O!:plan_moves",
                          &PyList_Type, &rows, &PyList_Type, &p.rules,
                          &PyDict_Type, &p.tensors, &PyDict_Type, &p.actions,
                          &PyType_Type, &p.deferred, &PyType_Type, &p.piece,
                          &PyType_Type, &p.trace, &PyType_Type, &p.view,
                          &p.classify, &p.other, &p.identity, &PyList_Type,
                          &p.pieces, &PyDict_Type, &p.traces) ||
        !bind_is_named(p.piece) || !bind_is_named(p.trace) ||
        !bind_is_named(p.view)) {
        return NULL;
    }
    failed = set_constants(&p) < 0;
    /* what is called may change the list: asked for its size each time */
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(rows); i++) {
        PyObject *row = Py_NewRef(PyList_GET_ITEM(rows, i));
        failed = plan_module(&p, row) < 0;
        Py_DECREF(row);
    }
    drop_constants(&p);
    return failed ? NULL : Py_NewRef(Py_None);
}

PyMethodDef bind_move_functions[] = {
    {"plan_moves", plan_moves, METH_VARARGS,
     "plan_moves(rows, rules, tensors, actions, (deferred, piece, trace, "
     "view), (classify, other, identity), pieces, traces): plans the tensors "
     "of modules that are only moved, and calls `other` for the rest."},
    {NULL, NULL, 0, NULL},
};
