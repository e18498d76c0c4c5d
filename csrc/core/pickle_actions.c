#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pickle_machine.h"
#include "json.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

static t2m_status
push_text(t2m_machine *m, t2m_node_kind kind, const uint8_t *text,
          size_t length)
{
    t2m_node *node;
    if (length > UINT32_MAX) {
        return T2M_LIMIT;
    }
    t2m_status status = t2m_push_new(m, kind, &node);
    if (status == T2M_OK) {
        node->as.text = text;
        node->count = (uint32_t)length;
    }
    return status;
}

static t2m_status
push_int(t2m_machine *m, int64_t value)
{
    t2m_node *node;
    t2m_status status = t2m_push_new(m, T2M_NODE_INT, &node);
    if (status == T2M_OK) {
        node->as.i = value;
    }
    return status;
}

/* Pushes None (0), False (1) or True (2), each of which is one node. */
static t2m_status
push_constant(t2m_machine *m, int which)
{
    if (m->constants[which]) {
        return t2m_push(m, m->constants[which] - 1);
    }
    t2m_node *node;
    t2m_status status =
        t2m_push_new(m, which ? T2M_NODE_BOOL : T2M_NODE_NONE, &node);
    if (status == T2M_OK) {
        node->as.i = which == 2;
        m->constants[which] = m->stack[m->depth - 1] + 1;
    }
    return status;
}

/* Moves everything above the last mark into a new sequence. */
static t2m_status
collect(t2m_machine *m, t2m_node_kind kind)
{
    uint32_t index;
    if (m->mark_count == 0) {
        return T2M_PK_MARK;
    }
    size_t start = m->marks[m->mark_count - 1];
    t2m_status status = t2m_node_new(m->out, kind, &index);
    if (status == T2M_OK) {
        status = t2m_node_extend(m->out, index, t2m_stack_at(m, start),
                                 m->depth - start);
    }
    if (status == T2M_OK) {
        m->mark_count--;
        m->depth = start;
        status = t2m_push(m, index);
    }
    return status;
}

/* Whether items can be added to a node: to one of this kind, and to what
   stands for an object of any class. */
static int
takes(const t2m_machine *m, uint32_t target, t2m_node_kind kind)
{
    const t2m_node *node = t2m_node_at(m, target);
    return node->kind == kind || node->kind == T2M_NODE_INERT;
}

/* Moves everything above the last mark into the sequence below it. */
static t2m_status
collect_into(t2m_machine *m, t2m_node_kind kind)
{
    if (m->mark_count == 0) {
        return T2M_PK_MARK;
    }
    size_t start = m->marks[m->mark_count - 1];
    size_t below = m->mark_count > 1 ? m->marks[m->mark_count - 2] : 0;
    if (start <= below) {
        return T2M_PK_STACK;
    }
    uint32_t target = m->stack[start - 1];
    if (!takes(m, target, kind) ||
        (kind == T2M_NODE_DICT && (m->depth - start) % 2)) {
        return T2M_PK_TYPE;
    }
    t2m_status status = t2m_node_extend(m->out, target, t2m_stack_at(m, start),
                                        m->depth - start);
    m->mark_count--;
    m->depth = start;
    return status;
}

/* Makes a tuple of the n topmost nodes. */
static t2m_status
top_tuple(t2m_machine *m, size_t n)
{
    uint32_t index;
    if (m->depth - t2m_stack_floor(m) < n) {
        return T2M_PK_STACK;
    }
    t2m_status status = t2m_node_new(m->out, T2M_NODE_TUPLE, &index);
    if (status == T2M_OK) {
        status =
            t2m_node_extend(m->out, index, t2m_stack_at(m, m->depth - n), n);
    }
    if (status == T2M_OK) {
        m->depth -= n;
        status = t2m_push(m, index);
    }
    return status;
}

#define ACTION(name)                                                          \
    static t2m_status do_##name(t2m_machine *m, const t2m_argument *arg)

ACTION(mark)
{
    (void)arg;
    t2m_status status =
        t2m_pickle_grow(m->out, (void **)&m->marks, &m->mark_capacity,
                        m->mark_count, sizeof *m->marks);
    if (status == T2M_OK) {
        m->marks[m->mark_count++] = m->depth;
    }
    return status;
}

ACTION(stop)
{
    (void)arg;
    m->stopped = 1;
    return t2m_pop(m, &m->out->root);
}

ACTION(pop)
{
    (void)arg;
    uint32_t node;
    return t2m_pop(m, &node);
}

ACTION(pop_mark)
{
    (void)arg;
    if (m->mark_count == 0) {
        return T2M_PK_MARK;
    }
    m->depth = m->marks[--m->mark_count];
    return T2M_OK;
}

ACTION(dup)
{
    (void)arg;
    if (m->depth <= t2m_stack_floor(m)) {
        return T2M_PK_STACK;
    }
    return t2m_push(m, m->stack[m->depth - 1]);
}

ACTION(none)
{
    (void)arg;
    return push_constant(m, 0);
}

ACTION(true)
{
    (void)arg;
    return push_constant(m, 2);
}

ACTION(false)
{
    (void)arg;
    return push_constant(m, 1);
}

ACTION(int32)
{
    return push_int(m, (int32_t)(uint32_t)arg->number);
}

ACTION(uint)
{
    return push_int(m, (int64_t)arg->number);
}

ACTION(long)
{
    uint64_t value = 0;
    if (arg->length > 8) {
        return push_text(m, T2M_NODE_BIGINT, arg->text, arg->length);
    }
    for (size_t i = 0; i < arg->length; i++) {
        value |= (uint64_t)arg->text[i] << (8 * i);
    }
    if (arg->length > 0 && arg->length < 8 &&
        arg->text[arg->length - 1] & 0x80) {
        value |= ~0ull << (8 * arg->length);
    }
    return push_int(m, (int64_t)value);
}

/* Reads a decimal integer; 0 when it is not one or does not fit. */
static int
read_decimal(const t2m_argument *arg, int64_t *out)
{
    size_t i = 0;
    int64_t value = 0;
    int negative = arg->length > 0 && arg->text[0] == '-';
    size_t n = arg->length;

    i += (size_t)negative;
    if (n > 0 && arg->text[n - 1] == 'L') {
        n--;
    }
    if (i >= n) {
        return 0;
    }
    for (; i < n; i++) {
        int d = arg->text[i] - '0';
        if (d < 0 || d > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, d, &value)) {
            return 0;
        }
    }
    *out = negative ? -value : value;
    return 1;
}

ACTION(decimal)
{
    int64_t value;
    if (arg->length == 2 && arg->text[0] == '0' &&
        (arg->text[1] == '0' || arg->text[1] == '1')) {
        return push_constant(m, arg->text[1] == '1' ? 2 : 1);
    }
    return read_decimal(arg, &value) ? push_int(m, value) : T2M_PK_VALUE;
}

static t2m_status
push_float(t2m_machine *m, double value)
{
    t2m_node *node;
    t2m_status status = t2m_push_new(m, T2M_NODE_FLOAT, &node);
    if (status == T2M_OK) {
        node->as.f = value;
    }
    return status;
}

ACTION(float)
{
    double value;
    memcpy(&value, &arg->number, sizeof value);
    return push_float(m, value);
}

/* strtod with a point, whatever the decimal sign of the process's locale. */
static double
number_of(const char *text, char **end)
{
    locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!plain) {
        return strtod(text, end);
    }
    double value = strtod_l(text, end, plain);
    freelocale(plain);
    return value;
}

ACTION(float_text)
{
    char text[64];
    char *end;
    if (arg->length == 0 || arg->length >= sizeof text) {
        return T2M_PK_VALUE;
    }
    memcpy(text, arg->text, arg->length);
    text[arg->length] = '\0';
    double value = number_of(text, &end);
    return end == text + arg->length ? push_float(m, value) : T2M_PK_VALUE;
}

ACTION(text)
{
    size_t bad;
    if (!t2m_utf8_valid(arg->text, arg->length, &bad)) {
        /* Strings of Python 2 may be Latin-1: keep them as bytes. */
        return push_text(m, T2M_NODE_BYTES, arg->text, arg->length);
    }
    return push_text(m, T2M_NODE_TEXT, arg->text, arg->length);
}

ACTION(plain_text)
{
    if (memchr(arg->text, '\\', arg->length)) {
        return T2M_PK_VALUE;
    }
    return do_text(m, arg);
}

ACTION(bytes)
{
    return push_text(m, T2M_NODE_BYTES, arg->text, arg->length);
}

#define EMPTY(name, kind)                                                     \
    ACTION(name)                                                              \
    {                                                                         \
        (void)arg;                                                            \
        t2m_node *node;                                                       \
        return t2m_push_new(m, kind, &node);                                  \
    }

EMPTY(empty_list, T2M_NODE_LIST)
EMPTY(empty_tuple, T2M_NODE_TUPLE)
EMPTY(empty_dict, T2M_NODE_DICT)
EMPTY(empty_set, T2M_NODE_SET)

#define COLLECT(name, call)                                                   \
    ACTION(name)                                                              \
    {                                                                         \
        (void)arg;                                                            \
        return call;                                                          \
    }

COLLECT(list, collect(m, T2M_NODE_LIST))
COLLECT(tuple, collect(m, T2M_NODE_TUPLE))
COLLECT(frozenset, collect(m, T2M_NODE_SET))
COLLECT(tuple1, top_tuple(m, 1))
COLLECT(tuple2, top_tuple(m, 2))
COLLECT(tuple3, top_tuple(m, 3))
COLLECT(appends, collect_into(m, T2M_NODE_LIST))
COLLECT(setitems, collect_into(m, T2M_NODE_DICT))
COLLECT(additems, collect_into(m, T2M_NODE_SET))

ACTION(dict)
{
    (void)arg;
    if (m->mark_count && (m->depth - t2m_stack_floor(m)) % 2) {
        return T2M_PK_TYPE;
    }
    return collect(m, T2M_NODE_DICT);
}

/* Adds the n topmost nodes to the container below them. */
static t2m_status
add_top(t2m_machine *m, size_t n, t2m_node_kind kind)
{
    if (m->depth - t2m_stack_floor(m) < n + 1) {
        return T2M_PK_STACK;
    }
    m->depth -= n;
    uint32_t target = m->stack[m->depth - 1];
    if (!takes(m, target, kind)) {
        return T2M_PK_TYPE;
    }
    return t2m_node_extend(m->out, target, t2m_stack_at(m, m->depth), n);
}

COLLECT(append, add_top(m, 1, T2M_NODE_LIST))
COLLECT(setitem, add_top(m, 2, T2M_NODE_DICT))

ACTION(get)
{
    return t2m_memo_get(m, arg->number);
}

ACTION(put)
{
    return t2m_memo_put(m, arg->number);
}

ACTION(get_text)
{
    int64_t slot;
    return read_decimal(arg, &slot) && slot >= 0
               ? t2m_memo_get(m, (uint64_t)slot)
               : T2M_PK_MEMO;
}

ACTION(put_text)
{
    int64_t slot;
    return read_decimal(arg, &slot) && slot >= 0
               ? t2m_memo_put(m, (uint64_t)slot)
               : T2M_PK_MEMO;
}

ACTION(memoize)
{
    (void)arg;
    return t2m_memo_put(m, m->memo_next++);
}

/* Pushes a global: one that has a meaning, or an inert node. */
static t2m_status
push_global(t2m_machine *m, const uint8_t *module, size_t module_length,
            const uint8_t *name, size_t name_length)
{
    t2m_node *node;
    uint32_t index, made;
    int known = m->hooks->find(module, module_length, name, name_length);
    if (known >= 0) {
        t2m_status status = t2m_push_new(m, T2M_NODE_GLOBAL, &node);
        if (status == T2M_OK) {
            node->as.index = (uint32_t)known;
        }
        return status;
    }
    if (module_length > UINT32_MAX || name_length > UINT32_MAX) {
        return T2M_LIMIT;
    }
    t2m_inert_name full = {module, name, (uint32_t)module_length,
                           (uint32_t)name_length, m->opcode_at};
    t2m_status status = t2m_name_new(m->out, &full, &index);
    if (status == T2M_OK) {
        status = t2m_inert_new(m->out, index, NULL, 0, &made);
    }
    return status == T2M_OK ? t2m_push(m, made) : status;
}

/* Pushes an inert node of a fixed name for what the pickle takes from
   outside its file, which may be anything. */
static t2m_status
push_outside(t2m_machine *m, const char *name, const uint32_t *given, size_t n)
{
    uint32_t index, made;
    t2m_inert_name full = {NULL, (const uint8_t *)name, 0,
                           (uint32_t)strlen(name), m->opcode_at};
    t2m_status status = t2m_name_new(m->out, &full, &index);
    if (status == T2M_OK) {
        status = t2m_inert_new(m->out, index, given, n, &made);
    }
    if (status == T2M_OK) {
        t2m_node_at(m, made)->holds = 1;
        status = t2m_push(m, made);
    }
    return status;
}

ACTION(global)
{
    const uint8_t *name;
    size_t length;
    t2m_status status = t2m_take_line(m, &name, &length);
    if (status != T2M_OK) {
        return status;
    }
    return push_global(m, arg->text, arg->length, name, length);
}

ACTION(stack_global)
{
    (void)arg;
    uint32_t name, module;
    t2m_status status;
    if ((status = t2m_pop(m, &name)) != T2M_OK ||
        (status = t2m_pop(m, &module)) != T2M_OK) {
        return status;
    }
    const t2m_node *a = t2m_node_at(m, module), *b = t2m_node_at(m, name);
    if (a->kind != T2M_NODE_TEXT || b->kind != T2M_NODE_TEXT) {
        return T2M_PK_TYPE;
    }
    return push_global(m, a->as.text, a->count, b->as.text, b->count);
}

/* Finds the name of what calling `callee` makes.  copyreg's functions are
   given the class as their first argument. */
static t2m_status
name_result(t2m_machine *m, uint32_t callee, uint32_t args, uint32_t *name)
{
    const t2m_node *node = t2m_node_at(m, callee);
    if (node->kind == T2M_NODE_GLOBAL) {
        const t2m_global *g = t2m_global_get(node->as.index);
        t2m_inert_name full = {(const uint8_t *)g->module,
                               (const uint8_t *)g->name,
                               (uint32_t)strlen(g->module),
                               (uint32_t)strlen(g->name), m->opcode_at};
        return t2m_name_new(m->out, &full, name);
    }
    const t2m_inert_name *own = &m->out->names[node->other];
    const t2m_node *first = t2m_argument_at(m, args, 0);
    int copies = own->module_length > 3 && memcmp(own->module, "copy", 4) == 0;
    *name = copies && first && first->kind == T2M_NODE_INERT ? first->other
                                                             : node->other;
    return T2M_OK;
}

/* Pushes what calling `callee` with `args` makes: what the hooks say, or an
   inert node that was given both.  Nothing is called. */
static t2m_status
call(t2m_machine *m, uint32_t callee, uint32_t args, uint32_t more)
{
    uint32_t given[3] = {callee, args, more}, name, result = T2M_NO_NODE;
    int kind = t2m_node_at(m, callee)->kind;
    t2m_status status = T2M_OK;

    if (t2m_node_at(m, args)->kind != T2M_NODE_TUPLE ||
        (kind != T2M_NODE_GLOBAL && kind != T2M_NODE_INERT)) {
        return T2M_PK_CALL;
    }
    if (kind == T2M_NODE_GLOBAL && more == args) {
        status = m->hooks->call(m, callee, args, &result);
    }
    if (status == T2M_OK && result == T2M_NO_NODE) {
        status = name_result(m, callee, args, &name);
        if (status == T2M_OK) {
            status = t2m_inert_new(m->out, name, given, 3, &result);
        }
    }
    return status == T2M_OK ? t2m_push(m, result) : status;
}

ACTION(reduce)
{
    (void)arg;
    uint32_t args, callee;
    t2m_status status;
    if ((status = t2m_pop(m, &args)) != T2M_OK ||
        (status = t2m_pop(m, &callee)) != T2M_OK) {
        return status;
    }
    return call(m, callee, args, args);
}

/* NEWOBJ_EX: class, arguments, named arguments. */
ACTION(newobj_ex)
{
    (void)arg;
    uint32_t named, args, callee;
    t2m_status status;
    if ((status = t2m_pop(m, &named)) != T2M_OK ||
        (status = t2m_pop(m, &args)) != T2M_OK ||
        (status = t2m_pop(m, &callee)) != T2M_OK) {
        return status;
    }
    return call(m, callee, args, named);
}

/* Takes what stands above the last mark as a tuple. */
static t2m_status
pop_tuple(t2m_machine *m, uint32_t *tuple)
{
    t2m_status status = collect(m, T2M_NODE_TUPLE);
    return status == T2M_OK ? t2m_pop(m, tuple) : status;
}

/* OBJ: above the mark a class, then arguments. */
ACTION(obj)
{
    (void)arg;
    uint32_t args;
    t2m_status status = pop_tuple(m, &args);
    if (status != T2M_OK) {
        return status;
    }
    const t2m_node *tuple = t2m_node_at(m, args);
    return tuple->count ? call(m, tuple->as.items[0], args, tuple->as.items[0])
                        : T2M_PK_STACK;
}

/* INST: module and name in lines, above the mark the arguments. */
ACTION(inst)
{
    const uint8_t *name;
    size_t length;
    uint32_t args, callee;
    t2m_status status;
    if ((status = t2m_take_line(m, &name, &length)) != T2M_OK ||
        (status = pop_tuple(m, &args)) != T2M_OK ||
        (status = push_global(m, arg->text, arg->length, name, length)) !=
            T2M_OK ||
        (status = t2m_pop(m, &callee)) != T2M_OK) {
        return status;
    }
    return call(m, callee, args, args);
}

/* State of an object.  That of an OrderedDict (_metadata) is no weights, so
   it is dropped. */
ACTION(build)
{
    (void)arg;
    uint32_t state, object;
    t2m_status status = t2m_pop(m, &state);
    if (status != T2M_OK) {
        return status;
    }
    if (m->depth <= t2m_stack_floor(m)) {
        return T2M_PK_STACK;
    }
    object = m->stack[m->depth - 1];
    switch (t2m_node_at(m, object)->kind) {
    case T2M_NODE_DICT:
        return T2M_OK;
    case T2M_NODE_INERT:
        return t2m_node_extend(m->out, object, &state, 1);
    case T2M_NODE_TENSOR:
    case T2M_NODE_DTYPE:
        return m->hooks->build(m, object, state);
    default:
        return T2M_PK_CALL;
    }
}

ACTION(persid)
{
    (void)arg;
    uint32_t id, result = T2M_NO_NODE;
    t2m_status status = t2m_pop(m, &id);
    if (status == T2M_OK) {
        status = m->hooks->persistent(m, id, &result);
    }
    if (status != T2M_OK) {
        return status;
    }
    return result == T2M_NO_NODE ? push_outside(m, "a persistent id", &id, 1)
                                 : t2m_push(m, result);
}

ACTION(persid_text)
{
    (void)arg;
    return push_outside(m, "a persistent id", NULL, 0);
}

ACTION(extension)
{
    (void)arg;
    return push_outside(m, "an entry of copyreg's extension registry", NULL,
                        0);
}

ACTION(proto)
{
    (void)m;
    return arg->number <= 5 ? T2M_OK : T2M_PK_VALUE;
}

ACTION(nothing)
{
    (void)m;
    (void)arg;
    return T2M_OK;
}

static const t2m_opcode opcodes[256] = {
#define OP(name, byte, kind, act) [byte] = {do_##act, T2M_ARG_##kind, 0},
#define FORBID(name, byte)        [byte] = {NULL, T2M_ARG_NONE, 1},
#include "pickle_ops.def"
#undef OP
#undef FORBID
};

const t2m_opcode *
t2m_opcode_get(uint8_t byte)
{
    return &opcodes[byte];
}
