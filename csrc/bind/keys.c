#include "bind.h"
#include "../core/array.h"
#include "../core/keys.h"

/* A component that is not ASCII, as int() reads it. */
static int
read_number(const char *text, size_t length, int64_t *out)
{
    PyObject *name = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, NULL);
    PyObject *number = name ? PyLong_FromUnicodeObject(name, 10) : NULL;
    int overflow = 0;
    int known = number != NULL;

    if (number) {
        *out = PyLong_AsLongLongAndOverflow(number, &overflow);
        if (overflow) {
            *out = overflow > 0 ? INT64_MAX : INT64_MIN + 1;
        }
    }
    PyErr_Clear();
    Py_XDECREF(name);
    Py_XDECREF(number);
    return known;
}

typedef struct {
    const t2m_key_tree *tree;
    PyObject **values; /* borrowed, by key index */
    PyObject **texts;  /* component strings, by text id; made when needed */
} builder;

static PyObject *build(builder *b, uint32_t index);

static PyObject *
build_list(builder *b, uint32_t index)
{
    const t2m_trie_node *nodes = b->tree->trie.nodes;
    uint32_t slots = b->tree->slots[index];
    PyObject *list = PyList_New((Py_ssize_t)slots);
    uint32_t c = nodes[index].first_child;
    for (uint32_t at = 0; list && at < slots; at++) {
        int taken = (uint32_t)b->tree->numbers[c] == at;
        /* Holes below an index hold empty dicts. */
        PyObject *item = taken ? build(b, c) : PyDict_New();
        c = taken ? nodes[c].next : c;
        if (!item) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, (Py_ssize_t)at, item);
        }
    }
    return list;
}

static PyObject *
build_dict(builder *b, uint32_t index)
{
    const t2m_trie_node *nodes = b->tree->trie.nodes;
    const t2m_trie_text *names = b->tree->trie.texts;
    PyObject *dict = PyDict_New();
    uint32_t c = nodes[index].first_child;
    for (; dict && c != T2M_NO_INDEX; c = nodes[c].next) {
        PyObject **text = &b->texts[nodes[c].text_id];
        if (!*text) {
            const t2m_trie_text *name = &names[nodes[c].text_id];
            *text = PyUnicode_DecodeUTF8(name->text, (Py_ssize_t)name->length,
                                         NULL);
        }
        PyObject *item = *text ? build(b, c) : NULL;
        if (!item || PyDict_SetItem(dict, *text, item) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(item);
    }
    return dict;
}

/* Recursion is bounded by T2M_KEYS_MAX_DEPTH. */
static PyObject *
build(builder *b, uint32_t index)
{
    const t2m_trie_node *node = &b->tree->trie.nodes[index];
    if (node->value != T2M_NO_INDEX) {
        return Py_NewRef(b->values[node->value]);
    }
    if (b->tree->slots && (b->tree->slots[index] || !node->children)) {
        return build_list(b, index);
    }
    return build_dict(b, index);
}

static PyObject *
build_tree(const t2m_key_tree *tree, PyObject **values)
{
    builder b = {tree, values, NULL};
    PyObject *result = NULL;

    b.texts = PyMem_Calloc(tree->trie.text_count + 1, sizeof *b.texts);
    if (!b.texts) {
        return PyErr_NoMemory();
    }
    /* The collector would walk the growing tree again and again, and nothing
       made here can be garbage yet. */
    int collecting = PyGC_Disable();
    result = build(&b, 0);
    if (collecting) {
        PyGC_Enable();
    }
    for (size_t i = 0; i < tree->trie.text_count; i++) {
        Py_XDECREF(b.texts[i]);
    }
    PyMem_Free(b.texts);
    return result;
}

t2m_key *
bind_keys(PyObject *list)
{
    Py_ssize_t n = PyList_GET_SIZE(list);
    t2m_key *keys = PyMem_Calloc((size_t)n + 1, sizeof *keys);
    if (!keys) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t length;
        keys[i].text =
            PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(list, i), &length);
        if (!keys[i].text) {
            PyMem_Free(keys);
            return NULL;
        }
        keys[i].length = (size_t)length;
    }
    return keys;
}

uint64_t
bind_secret(void)
{
    PyObject *text = PyUnicode_FromString("torch2mlx");
    Py_hash_t hash = text ? PyObject_Hash(text) : 0;
    Py_XDECREF(text);
    PyErr_Clear();
    return (uint64_t)hash;
}

PyObject *
bind_raise_key(PyObject *module, t2m_status status, PyObject *names,
               size_t bad)
{
    t2m_where where = {bad, ""};
    if ((Py_ssize_t)bad < PyList_GET_SIZE(names)) {
        Py_ssize_t n;
        const char *text = PyUnicode_AsUTF8AndSize(
            PyList_GET_ITEM(names, (Py_ssize_t)bad), &n);
        if (text) {
            t2m_where_name(&where, text, (size_t)n);
        }
    }
    return bind_raise(module, status, &where);
}

/* Keys and values of a dict, which keeps them alive; no code of others runs
   before the tree is built. */
static int
read_items(PyObject *tensors, t2m_key *keys, PyObject **values)
{
    PyObject *key;
    Py_ssize_t at = 0, length;
    for (size_t i = 0; PyDict_Next(tensors, &at, &key, &values[i]); i++) {
        if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
            keys[i].text = (const char *)PyUnicode_1BYTE_DATA(key);
            length = PyUnicode_GET_LENGTH(key);
        } else if (!(keys[i].text = PyUnicode_AsUTF8AndSize(key, &length))) {
            return -1;
        }
        keys[i].length = (size_t)length;
    }
    return 0;
}

/* nest(tensors, lists=True) -> tree */
static PyObject *
nest(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *arguments[] = {"tensors", "lists", NULL};
    PyObject *tensors, *names, *result = NULL;
    t2m_key_tree tree;
    int lists = 1;
    size_t bad;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|p:nest", arguments,
                                     &PyDict_Type, &tensors, &lists)) {
        return NULL;
    }
    if (!PyDict_CheckExact(tensors)) {
        /* one of a subclass may have another order */
        PyErr_SetString(PyExc_TypeError, "tensors must be a plain dict");
        return NULL;
    }
    size_t n = (size_t)PyDict_Size(tensors);
    t2m_key *keys = PyMem_Calloc(n + 1, sizeof *keys);
    PyObject **values = PyMem_Calloc(n + 1, sizeof *values);
    if (!keys || !values) {
        PyErr_NoMemory();
        goto done;
    }
    if (read_items(tensors, keys, values) < 0) {
        goto done;
    }
    t2m_status status =
        t2m_keys_nest(keys, n, lists, read_number, bind_secret(), &tree, &bad);
    if (status == T2M_OK) {
        result = build_tree(&tree, values);
        t2m_keys_free(&tree);
    } else if ((names = PyDict_Keys(tensors))) {
        bind_raise_key(module, status, names, bad);
        Py_DECREF(names);
    }
done:
    PyMem_Free(values);
    PyMem_Free(keys);
    return result;
}

/* A leaf that waits for the dict. */
typedef struct {
    PyObject *key, *value;
} found;

/* The key being built while a tree is flattened, and what was found. */
typedef struct {
    char *text;
    size_t length, capacity;
    size_t wide; /* parts of it that are not ASCII */
    PyObject *is_leaf;
    PyObject *pairs; /* list; or NULL, and the leaves wait for the dict */
    /* The dict is made when their number is known, so that it never grows;
       its lookups miss the cache, and one behind the other the processor has
       several of them under way. */
    found *leaves;
    size_t count, room;
} flattener;

static int
append(flattener *f, const char *text, size_t length)
{
    if (f->capacity - f->length < length + 1) {
        size_t wanted = (f->length + length + 64) * 2;
        char *bigger = PyMem_Realloc(f->text, wanted);
        if (!bigger) {
            PyErr_NoMemory();
            return -1;
        }
        f->text = bigger;
        f->capacity = wanted;
    }
    f->text[f->length++] = '.';
    memcpy(f->text + f->length, text, length);
    f->length += length;
    return 0;
}

/* The key of a leaf: all but the first character, which is the dot (or the
   first character of the caller's prefix, whatever it is). */
static PyObject *
key_of(const flattener *f)
{
    size_t skip = f->length > 0;
    if (f->wide == 0) {
        PyObject *key = PyUnicode_New((Py_ssize_t)(f->length - skip), 127);
        if (key && f->length > skip) {
            memcpy(PyUnicode_1BYTE_DATA(key), f->text + skip,
                   f->length - skip);
        }
        return key;
    }
    while (skip < f->length && ((uint8_t)f->text[skip] & 0xc0) == 0x80) {
        skip++;
    }
    return PyUnicode_DecodeUTF8(f->text + skip, (Py_ssize_t)(f->length - skip),
                                NULL);
}

/* The dict of the waiting leaves, or NULL with an exception set. */
static PyObject *
dict_of(const flattener *f)
{
#if PY_VERSION_HEX < 0x030e0000
    PyObject *dict = _PyDict_NewPresized((Py_ssize_t)f->count);
#else
    PyObject *dict = PyDict_New();
#endif
    for (size_t i = 0; dict && i < f->count; i++) {
        if (PyDict_SetItem(dict, f->leaves[i].key, f->leaves[i].value) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

static void
drop_leaves(flattener *f)
{
    for (size_t i = 0; i < f->count; i++) {
        Py_DECREF(f->leaves[i].key);
        Py_DECREF(f->leaves[i].value);
    }
    free(f->leaves);
}

static int
emit(flattener *f, PyObject *value)
{
    PyObject *key = key_of(f);
    if (!key) {
        return -1;
    }
    if (!f->pairs) {
        /* the hash is kept by the key for dict_of() */
        if (PyObject_Hash(key) == -1 ||
            t2m_array_grow((void **)&f->leaves, &f->room, f->count,
                           sizeof *f->leaves) != T2M_OK) {
            Py_DECREF(key);
            return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
        }
        f->leaves[f->count++] = (found){key, Py_NewRef(value)};
        return 0;
    }
    PyObject *pair = PyTuple_Pack(2, key, value);
    int failed = !pair || PyList_Append(f->pairs, pair) < 0;
    Py_XDECREF(pair);
    Py_DECREF(key);
    return failed ? -1 : 0;
}

static int walk(flattener *f, PyObject *tree);

static int
walk_item(flattener *f, const char *name, size_t length, PyObject *value)
{
    size_t before = f->length;
    if (append(f, name, length) < 0 || walk(f, value) < 0) {
        return -1;
    }
    f->length = before;
    return 0;
}

/* Asks for the memory of what is walked soon: an item of a list, which has
   been asked for already, and the entries of one that comes sooner. */
static void
look_ahead(PyObject *const *items, Py_ssize_t left)
{
    if (left > 4) {
        __builtin_prefetch(items[4]);
    }
    if (left > 2 && PyDict_CheckExact(items[2])) {
        const char *entries =
            (const char *)((PyDictObject *)items[2])->ma_keys;
        __builtin_prefetch(entries);
        __builtin_prefetch(entries + 64);
    }
}

static int
walk_sequence(flattener *f, PyObject *tree)
{
    int is_list = PyList_Check(tree);
    for (Py_ssize_t i = 0;
         i < (is_list ? PyList_GET_SIZE(tree) : PyTuple_GET_SIZE(tree)); i++) {
        char digits[24];
        char *first = digits + sizeof digits;
        Py_ssize_t rest = i;
        do {
            *--first = (char)('0' + rest % 10);
        } while ((rest /= 10) > 0);
        if (is_list) {
            look_ahead(&((PyListObject *)tree)->ob_item[i],
                       PyList_GET_SIZE(tree) - i);
        }
        PyObject *item = Py_NewRef(is_list ? PyList_GET_ITEM(tree, i)
                                           : PyTuple_GET_ITEM(tree, i));
        size_t n = (size_t)(digits + sizeof digits - first);
        int failed = walk_item(f, first, n, item);
        Py_DECREF(item);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

static int
walk_pair(flattener *f, PyObject *key, PyObject *value)
{
    if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
        return walk_item(f, (const char *)PyUnicode_1BYTE_DATA(key),
                         (size_t)PyUnicode_GET_LENGTH(key), value);
    }
    PyObject *name =
        PyUnicode_Check(key) ? Py_NewRef(key) : PyObject_Format(key, NULL);
    Py_ssize_t n = 0;
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, &n) : NULL;
    f->wide++;
    int failed = !text || walk_item(f, text, (size_t)n, value) < 0;
    f->wide--;
    Py_XDECREF(name);
    return failed ? -1 : 0;
}

/* A dict that a callback or a key's __format__ might change meanwhile; its
   first `done` items were walked already. */
static int
walk_items(flattener *f, PyObject *tree, Py_ssize_t done)
{
    PyObject *items = PyDict_Items(tree);
    int failed = items == NULL;
    for (; !failed && done < PyList_GET_SIZE(items); done++) {
        PyObject *pair = PyList_GET_ITEM(items, done);
        failed = walk_pair(f, PyTuple_GET_ITEM(pair, 0),
                           PyTuple_GET_ITEM(pair, 1)) < 0;
    }
    Py_XDECREF(items);
    return failed ? -1 : 0;
}

/* A dict of plain keys.  Code of others may still run further down and change
   it: the references keep what is walked alive, and PyDict_Next checks its
   bounds at every step. */
static int
walk_dict(flattener *f, PyObject *tree)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    for (Py_ssize_t i = 0; PyDict_Next(tree, &at, &key, &value); i++) {
        if (!PyUnicode_CheckExact(key) && !PyLong_CheckExact(key)) {
            return walk_items(f, tree, i);
        }
        Py_INCREF(key);
        Py_INCREF(value);
        int failed = walk_pair(f, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

/* Calls is_leaf where there is one: 1, 0, or -1. */
static int
ask_leaf(const flattener *f, PyObject *tree)
{
    if (f->is_leaf == Py_None) {
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(f->is_leaf, tree);
    int leaf = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return leaf;
}

static int
walk(flattener *f, PyObject *tree)
{
    int leaf = ask_leaf(f, tree);
    if (leaf != 0) {
        return leaf < 0 ? -1 : emit(f, tree);
    }
    if (!PyList_Check(tree) && !PyTuple_Check(tree) && !PyDict_Check(tree)) {
        return emit(f, tree);
    }
    if (Py_EnterRecursiveCall(" while flattening a tree")) {
        return -1;
    }
    int result = !PyDict_Check(tree)     ? walk_sequence(f, tree)
                 : f->is_leaf == Py_None ? walk_dict(f, tree)
                                         : walk_items(f, tree, 0);
    Py_LeaveRecursiveCall();
    return result;
}

/* flatten(tree, prefix="", is_leaf=None, pairs=True) -> [(key, leaf), ...],
   or {key: leaf} */
static PyObject *
flatten(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tree", "prefix", "is_leaf", "pairs", NULL};
    PyObject *tree, *result = NULL;
    int pairs = 1, collecting;
    const char *prefix = "";
    Py_ssize_t length = 0;
    flattener f = {.is_leaf = Py_None};

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|s#Op:flatten", names,
                                     &tree, &prefix, &length, &f.is_leaf,
                                     &pairs)) {
        return NULL;
    }
    f.pairs = pairs ? PyList_New(0) : NULL;
    if ((pairs && !f.pairs) ||
        (length > 0 && append(&f, prefix, (size_t)length) < 0)) {
        goto done;
    }
    if (length > 0) {
        /* append() put a dot in front; the prefix brings its own. */
        memmove(f.text, f.text + 1, --f.length);
        f.wide = 1;
    }
    collecting = PyGC_Disable(); /* as in build_tree */
    if (walk(&f, tree) == 0) {
        result = pairs ? Py_NewRef(f.pairs) : dict_of(&f);
    }
    if (collecting) {
        PyGC_Enable();
    }
done:
    drop_leaves(&f);
    Py_XDECREF(f.pairs);
    PyMem_Free(f.text);
    return result;
}

PyMethodDef bind_key_functions[] = {
    {"nest", (PyCFunction)(void (*)(void))nest, METH_VARARGS | METH_KEYWORDS,
     "nest(tensors, lists=True): a dict of dotted keys to a tree."},
    {"flatten", (PyCFunction)(void (*)(void))flatten,
     METH_VARARGS | METH_KEYWORDS,
     "flatten(tree, prefix='', is_leaf=None, pairs=True): a tree to (key, "
     "leaf) pairs, or to a dict."},
    {NULL, NULL, 0, NULL},
};
