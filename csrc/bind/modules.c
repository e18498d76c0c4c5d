#include "bind.h"
#include "../core/keys.h"
#include "../core/modules.h"

#include <string.h>

/* What is made of a shown tree, piece by piece. */
typedef struct {
    const t2m_shown *tree;
    const t2m_key *keys;
    PyObject **strings; /* by text id; made when needed */
    PyObject **tensors; /* by node: a tuple of names */
    uint32_t *filled;   /* by node: how many stand in it */
} painter;

/* The string of a text, borrowed. */
static PyObject *
string_of(painter *p, uint32_t id)
{
    if (!p->strings[id]) {
        const t2m_trie_text *text = &p->tree->trie.texts[id];
        p->strings[id] =
            PyUnicode_DecodeUTF8(text->text, (Py_ssize_t)text->length, NULL);
    }
    return p->strings[id];
}

static PyObject *
children_of(painter *p, uint32_t node)
{
    const t2m_trie_node *nodes = p->tree->trie.nodes;
    PyObject *names = PyTuple_New((Py_ssize_t)nodes[node].children);
    uint32_t c = nodes[node].first_child;
    for (Py_ssize_t i = 0; names && c != T2M_NO_INDEX; i++) {
        PyObject *name = string_of(p, nodes[c].text_id);
        if (!name) {
            Py_CLEAR(names);
        } else {
            PyTuple_SET_ITEM(names, i, Py_NewRef(name));
            c = nodes[c].next;
        }
    }
    return names;
}

/* Sorts the names of n tensors by their nodes; 0, or -1. */
static int
fill_tensors(painter *p, size_t n)
{
    const t2m_shown *s = p->tree;
    for (size_t i = 0; i < n; i++) {
        p->filled[s->owners[i]]++;
    }
    for (size_t i = 0; i < s->trie.count; i++) {
        p->tensors[i] = PyTuple_New((Py_ssize_t)p->filled[i]);
        if (!p->tensors[i]) {
            return -1;
        }
        p->filled[i] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t node = s->owners[i];
        PyObject *name = string_of(p, s->names[i]);
        if (!name) {
            return -1;
        }
        PyTuple_SET_ITEM(p->tensors[node], (Py_ssize_t)p->filled[node]++,
                         Py_NewRef(name));
    }
    return 0;
}

/* (path, children, tensors) of a node. */
static PyObject *
row_of(painter *p, uint32_t node)
{
    const char *text = node ? p->keys[p->tree->paths[node]].text : "";
    size_t length = node ? p->tree->lengths[node] : 0;
    PyObject *path = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, NULL);
    PyObject *children = path ? children_of(p, node) : NULL;
    PyObject *row =
        children ? PyTuple_Pack(3, path, children, p->tensors[node]) : NULL;

    Py_XDECREF(path);
    Py_XDECREF(children);
    return row;
}

static PyObject *
paint(const t2m_shown *tree, const t2m_key *keys, size_t n)
{
    size_t texts = tree->trie.text_count, nodes = tree->trie.count;
    painter p = {.tree = tree, .keys = keys};
    PyObject *rows = NULL;

    p.strings = PyMem_Calloc(texts + 1, sizeof *p.strings);
    p.tensors = PyMem_Calloc(nodes, sizeof *p.tensors);
    p.filled = PyMem_Calloc(nodes, sizeof *p.filled);
    if (!p.strings || !p.tensors || !p.filled) {
        PyErr_NoMemory();
        goto done;
    }
    if (fill_tensors(&p, n) < 0) {
        goto done;
    }
    rows = PyList_New((Py_ssize_t)nodes);
    for (size_t i = 0; rows && i < nodes; i++) {
        PyObject *row = row_of(&p, (uint32_t)i);
        if (!row) {
            Py_CLEAR(rows);
        } else {
            PyList_SET_ITEM(rows, (Py_ssize_t)i, row);
        }
    }
done:
    for (size_t i = 0; p.strings && i < texts; i++) {
        Py_XDECREF(p.strings[i]);
    }
    for (size_t i = 0; p.tensors && i < nodes; i++) {
        Py_XDECREF(p.tensors[i]);
    }
    PyMem_Free(p.strings);
    PyMem_Free(p.tensors);
    PyMem_Free(p.filled);
    return rows;
}

/* shown_modules(keys) -> [(path, children, tensors), ...] */
static PyObject *
shown_modules(PyObject *module, PyObject *args)
{
    PyObject *names, *rows = NULL;
    t2m_shown tree;
    size_t bad;

    if (!PyArg_ParseTuple(args, "O!:shown_modules", &PyList_Type, &names)) {
        return NULL;
    }
    size_t n = (size_t)PyList_GET_SIZE(names);
    t2m_key *keys = bind_keys(names);
    if (!keys) {
        return NULL;
    }
    t2m_status status = t2m_modules_shown(keys, n, bind_secret(), &tree, &bad);
    if (status != T2M_OK) {
        bind_raise_key(module, status, names, bad);
    } else {
        rows = paint(&tree, keys, n);
        t2m_shown_free(&tree);
    }
    PyMem_Free(keys);
    return rows;
}

/* The UTF-8 of a string: 0, or -1. */
static int
read_text(PyObject *text, t2m_key *out)
{
    Py_ssize_t length;
    if (!PyUnicode_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "a name must be a str");
        return -1;
    }
    out->text = PyUnicode_AsUTF8AndSize(text, &length);
    out->length = (size_t)length;
    return out->text ? 0 : -1;
}

/* The number of a module: 0, or -1. */
static int
read_module(const t2m_module_tree *tree, PyObject *number, uint64_t *out)
{
    if (!bind_size(number, out)) {
        return -1;
    }
    if (*out >= tree->count) {
        PyErr_SetString(PyExc_ValueError, "no such module");
        return -1;
    }
    return 0;
}

/* Reads [(module, child, (tensor, ...)), ...]. */
static int
read_wrappers(PyObject *module, t2m_module_tree *tree, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        uint64_t number;
        PyObject *item = PyList_GET_ITEM(list, i), *at, *child, *tensors;
        t2m_key key;
        if (!bind_is_tuple(item) ||
            !PyArg_ParseTuple(item, "OUO!", &at, &child, &PyTuple_Type,
                              &tensors) ||
            read_module(tree, at, &number) < 0 || read_text(child, &key) < 0) {
            return -1;
        }
        t2m_modules_wrap(tree, (size_t)number, key);
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(tensors); j++) {
            if (read_text(PyTuple_GET_ITEM(tensors, j), &key) < 0) {
                return -1;
            }
            t2m_status status = t2m_modules_own(tree, (size_t)number, key);
            if (status != T2M_OK) {
                bind_raise(module, status, NULL);
                return -1;
            }
        }
    }
    return 0;
}

/* Reads [(module, {child: name}), ...]. */
static int
read_renames(t2m_module_tree *tree, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        uint64_t number;
        Py_ssize_t next = 0;
        PyObject *item = PyList_GET_ITEM(list, i), *at, *names, *child, *name;
        t2m_key from, to;
        if (!bind_is_tuple(item) ||
            !PyArg_ParseTuple(item, "OO!", &at, &PyDict_Type, &names) ||
            read_module(tree, at, &number) < 0) {
            return -1;
        }
        while (PyDict_Next(names, &next, &child, &name)) {
            if (read_text(child, &from) < 0 || read_text(name, &to) < 0) {
                return -1;
            }
            t2m_modules_rename(tree, (size_t)number, from, to);
        }
    }
    return 0;
}

static PyObject *
prefix_of(const t2m_module_tree *tree, size_t module)
{
    size_t length = t2m_modules_prefix(tree, module, NULL);
    char *text = PyMem_Malloc(length + 1);
    if (!text) {
        return PyErr_NoMemory();
    }
    t2m_modules_prefix(tree, module, text);
    PyObject *prefix = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, NULL);
    PyMem_Free(text);
    return prefix;
}

/* The owners of keys while they are collected. */
typedef struct {
    const t2m_module_tree *tree;
    PyObject **keys; /* by module: {name: key}, borrowed from a row */
    PyObject *rows;
    PyObject *texts; /* {name: itself}: equal names are one string */
} collector;

static int
collect(collector *c, const t2m_key *key, PyObject *text)
{
    size_t at, module = t2m_modules_locate(c->tree, key, &at);
    PyObject *name = PyUnicode_DecodeUTF8(
        key->text + at, (Py_ssize_t)(key->length - at), NULL);
    PyObject *known = name ? PyDict_SetDefault(c->texts, name, name) : NULL;
    int failed = known == NULL;

    if (!failed && !c->keys[module]) {
        PyObject *row =
            Py_BuildValue("(nNN)", (Py_ssize_t)module,
                          prefix_of(c->tree, module), PyDict_New());
        failed = !row || PyList_Append(c->rows, row) < 0;
        c->keys[module] = failed ? NULL : PyTuple_GET_ITEM(row, 2);
        Py_XDECREF(row);
    }
    failed = failed || PyDict_SetItem(c->keys[module], known, text) < 0;
    Py_XDECREF(name);
    return failed ? -1 : 0;
}

static PyObject *
collect_all(const t2m_module_tree *tree, PyObject *names)
{
    collector c = {.tree = tree};
    t2m_key *keys = bind_keys(names);
    int failed = keys == NULL;

    c.keys = PyMem_Calloc(tree->count + 1, sizeof *c.keys);
    c.texts = PyDict_New();
    c.rows = PyList_New(0);
    failed = failed || !c.keys || !c.texts || !c.rows;
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(names); i++) {
        failed = collect(&c, &keys[i], PyList_GET_ITEM(names, i)) < 0;
    }
    if (failed) {
        Py_CLEAR(c.rows);
    }
    if (failed && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    Py_XDECREF(c.texts);
    PyMem_Free(c.keys);
    PyMem_Free(keys);
    return c.rows;
}

/* owners(paths, wrappers, renames, keys) -> [(module, prefix, {name: key})] */
static PyObject *
owners(PyObject *module, PyObject *args)
{
    PyObject *paths, *wrappers, *renames, *names, *rows = NULL;
    t2m_module_tree tree;
    size_t bad;

    if (!PyArg_ParseTuple(args, "O!O!O!O!:owners", &PyList_Type, &paths,
                          &PyList_Type, &wrappers, &PyList_Type, &renames,
                          &PyList_Type, &names)) {
        return NULL;
    }
    t2m_key *keys = bind_keys(paths);
    if (!keys) {
        return NULL;
    }
    if (PyList_GET_SIZE(paths) == 0 || keys[0].length) {
        PyErr_SetString(PyExc_ValueError, "the first path must be the root's");
        PyMem_Free(keys);
        return NULL;
    }
    t2m_status status = t2m_modules_new(keys, (size_t)PyList_GET_SIZE(paths),
                                        bind_secret(), &tree, &bad);
    if (status != T2M_OK) {
        bind_raise_key(module, status, paths, bad);
    } else {
        if (read_wrappers(module, &tree, wrappers) == 0 &&
            read_renames(&tree, renames) == 0) {
            rows = collect_all(&tree, names);
        }
        t2m_modules_free(&tree);
    }
    PyMem_Free(keys);
    return rows;
}

/* collision(keys) -> (i, j) or None */
static PyObject *
collision(PyObject *module, PyObject *args)
{
    PyObject *names;
    size_t a = 0, b = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!:collision", &PyList_Type, &names)) {
        return NULL;
    }
    t2m_key *keys = bind_keys(names);
    if (!keys) {
        return NULL;
    }
    int found = t2m_keys_collide(keys, (size_t)PyList_GET_SIZE(names), &a, &b);
    PyMem_Free(keys);
    if (found < 0) {
        return PyErr_NoMemory();
    }
    if (!found) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(nn)", (Py_ssize_t)a, (Py_ssize_t)b);
}

PyMethodDef bind_module_functions[] = {
    {"shown_modules", shown_modules, METH_VARARGS,
     "shown_modules(keys): the modules that the keys of a state dict show, as "
     "(path, children, tensors)."},
    {"owners", owners, METH_VARARGS,
     "owners(paths, wrappers, renames, keys): (module, MLX prefix, {name: "
     "key}) of each module that has tensors, in the order of the keys."},
    {"collision", collision, METH_VARARGS,
     "collision(keys): the numbers of two keys of which the first is the "
     "second or a prefix of it at a dot, or None."},
    {NULL, NULL, 0, NULL},
};
