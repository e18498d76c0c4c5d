#include "pickle.h"
#include "pickle_machine.h"
#include "json.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

typedef enum { NONE, U1, U2, U4, U8, T1, T4, T8, LINE, F8 } argument_kind;

/* What an opcode carries: a number, or a text. */
typedef struct {
    uint64_t number;
    const uint8_t *text;
    size_t length;
} argument;

typedef t2m_status (*action)(t2m_machine *m, const argument *arg);

t2m_status
t2m_pickle_grow(t2m_pickle *p, void **items, size_t *capacity, size_t count,
                size_t item)
{
    if (count < *capacity) {
        return T2M_OK;
    }
    uint64_t wanted = *capacity ? (uint64_t)*capacity * 2 : 16;
    uint64_t added = (wanted - *capacity) * item;
    if (wanted > UINT32_MAX || added > p->memory_limit - p->memory) {
        return T2M_LIMIT;
    }
    void *bigger = realloc(*items, wanted * item);
    if (!bigger) {
        return T2M_NO_MEMORY;
    }
    p->memory += added;
    *items = bigger;
    *capacity = wanted;
    return T2M_OK;
}

t2m_status
t2m_node_new(t2m_pickle *p, t2m_node_kind kind, uint32_t *index)
{
    t2m_status status =
        t2m_pickle_grow(p, (void **)&p->nodes, &p->node_capacity,
                        p->node_count, sizeof *p->nodes);
    if (status != T2M_OK) {
        return status;
    }
    t2m_node *node = &p->nodes[p->node_count];
    memset(node, 0, sizeof *node);
    node->kind = (uint8_t)kind;
    *index = (uint32_t)p->node_count++;
    return T2M_OK;
}

static t2m_node *
node_at(t2m_machine *m, uint32_t index)
{
    return &m->out->nodes[index];
}

static t2m_status
push(t2m_machine *m, uint32_t node)
{
    t2m_status status =
        t2m_pickle_grow(m->out, (void **)&m->stack, &m->stack_capacity,
                        m->depth, sizeof *m->stack);
    if (status == T2M_OK) {
        m->stack[m->depth++] = node;
    }
    return status;
}

/* The lowest stack index that may be popped: above the last mark. */
static size_t
floor_of(const t2m_machine *m)
{
    return m->mark_count ? m->marks[m->mark_count - 1] : 0;
}

static t2m_status
pop(t2m_machine *m, uint32_t *node)
{
    if (m->depth <= floor_of(m)) {
        return T2M_PK_STACK;
    }
    *node = m->stack[--m->depth];
    return T2M_OK;
}

static t2m_status
push_new(t2m_machine *m, t2m_node_kind kind, t2m_node **node)
{
    uint32_t index;
    t2m_status status = t2m_node_new(m->out, kind, &index);
    if (status == T2M_OK && (status = push(m, index)) == T2M_OK) {
        *node = node_at(m, index);
    }
    return status;
}

static t2m_status
push_text(t2m_machine *m, t2m_node_kind kind, const uint8_t *text,
          size_t length)
{
    t2m_node *node;
    if (length > UINT32_MAX) {
        return T2M_LIMIT;
    }
    t2m_status status = push_new(m, kind, &node);
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
    t2m_status status = push_new(m, T2M_NODE_INT, &node);
    if (status == T2M_OK) {
        node->as.i = value;
    }
    return status;
}

static t2m_status
push_bool(t2m_machine *m, int value)
{
    t2m_node *node;
    t2m_status status = push_new(m, T2M_NODE_BOOL, &node);
    if (status == T2M_OK) {
        node->as.i = value;
    }
    return status;
}

/* Appends n nodes to a sequence. */
static t2m_status
extend(t2m_machine *m, uint32_t target, const uint32_t *items, size_t n)
{
    t2m_node *node = node_at(m, target);
    size_t capacity = node->capacity;
    void *array = node->as.items;
    t2m_status status = T2M_OK;

    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        status = t2m_pickle_grow(m->out, &array, &capacity, node->count,
                                 sizeof *items);
        if (status == T2M_OK) {
            ((uint32_t *)array)[node->count++] = items[i];
        }
    }
    node->as.items = array;
    node->capacity = (uint32_t)capacity;
    return status;
}

/* The stack from `index` on; an empty stack has no memory yet. */
static const uint32_t *
stack_at(const t2m_machine *m, size_t index)
{
    return m->stack ? m->stack + index : NULL;
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
        status = extend(m, index, stack_at(m, start), m->depth - start);
    }
    if (status == T2M_OK) {
        m->mark_count--;
        m->depth = start;
        status = push(m, index);
    }
    return status;
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
    if (node_at(m, target)->kind == T2M_NODE_INERT) {
        m->mark_count--;
        m->depth = start;
        return T2M_OK;
    }
    if (node_at(m, target)->kind != kind ||
        (kind == T2M_NODE_DICT && (m->depth - start) % 2)) {
        return T2M_PK_TYPE;
    }
    t2m_status status =
        extend(m, target, stack_at(m, start), m->depth - start);
    m->mark_count--;
    m->depth = start;
    return status;
}

/* Makes a tuple of the n topmost nodes. */
static t2m_status
top_tuple(t2m_machine *m, size_t n)
{
    uint32_t index;
    if (m->depth - floor_of(m) < n) {
        return T2M_PK_STACK;
    }
    t2m_status status = t2m_node_new(m->out, T2M_NODE_TUPLE, &index);
    if (status == T2M_OK) {
        status = extend(m, index, stack_at(m, m->depth - n), n);
    }
    if (status == T2M_OK) {
        m->depth -= n;
        status = push(m, index);
    }
    return status;
}

#define ACTION(name)                                                          \
    static t2m_status do_##name(t2m_machine *m, const argument *arg)

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
    return pop(m, &m->out->root);
}

ACTION(pop)
{
    (void)arg;
    uint32_t node;
    return pop(m, &node);
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
    if (m->depth <= floor_of(m)) {
        return T2M_PK_STACK;
    }
    return push(m, m->stack[m->depth - 1]);
}

ACTION(none)
{
    (void)arg;
    t2m_node *node;
    return push_new(m, T2M_NODE_NONE, &node);
}

ACTION(true)
{
    (void)arg;
    return push_bool(m, 1);
}

ACTION(false)
{
    (void)arg;
    return push_bool(m, 0);
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
read_decimal(const argument *arg, int64_t *out)
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
        return push_bool(m, arg->text[1] == '1');
    }
    return read_decimal(arg, &value) ? push_int(m, value) : T2M_PK_VALUE;
}

static t2m_status
push_float(t2m_machine *m, double value)
{
    t2m_node *node;
    t2m_status status = push_new(m, T2M_NODE_FLOAT, &node);
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

ACTION(float_text)
{
    char text[64];
    char *end;
    if (arg->length == 0 || arg->length >= sizeof text) {
        return T2M_PK_VALUE;
    }
    memcpy(text, arg->text, arg->length);
    text[arg->length] = '\0';
    double value = strtod(text, &end);
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
        return push_new(m, kind, &node);                                      \
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
    if (m->mark_count && (m->depth - floor_of(m)) % 2) {
        return T2M_PK_TYPE;
    }
    return collect(m, T2M_NODE_DICT);
}

/* Adds the n topmost nodes to the container below them. */
static t2m_status
add_top(t2m_machine *m, size_t n, t2m_node_kind kind)
{
    if (m->depth - floor_of(m) < n + 1) {
        return T2M_PK_STACK;
    }
    m->depth -= n;
    uint32_t target = m->stack[m->depth - 1];
    if (node_at(m, target)->kind == T2M_NODE_INERT) {
        return T2M_OK;
    }
    if (node_at(m, target)->kind != kind) {
        return T2M_PK_TYPE;
    }
    return extend(m, target, stack_at(m, m->depth), n);
}

COLLECT(append, add_top(m, 1, T2M_NODE_LIST))
COLLECT(setitem, add_top(m, 2, T2M_NODE_DICT))

static t2m_status
memo_get(t2m_machine *m, uint64_t slot)
{
    if (slot >= m->memo_capacity || m->memo[slot] == 0) {
        return T2M_PK_MEMO;
    }
    return push(m, m->memo[slot] - 1);
}

/* An honest pickler numbers its memo in order, so a slot can never exceed
   the number of bytes read. */
static t2m_status
memo_put(t2m_machine *m, uint64_t slot)
{
    if (m->depth <= floor_of(m)) {
        return T2M_PK_STACK;
    }
    if (slot > m->at) {
        return T2M_PK_MEMO;
    }
    while (slot >= m->memo_capacity) {
        size_t old = m->memo_capacity;
        t2m_status status =
            t2m_pickle_grow(m->out, (void **)&m->memo, &m->memo_capacity, old,
                            sizeof *m->memo);
        if (status != T2M_OK) {
            return status;
        }
        memset(m->memo + old, 0, (m->memo_capacity - old) * sizeof *m->memo);
    }
    m->memo[slot] = m->stack[m->depth - 1] + 1;
    return T2M_OK;
}

ACTION(get)
{
    return memo_get(m, arg->number);
}

ACTION(put)
{
    return memo_put(m, arg->number);
}

ACTION(get_text)
{
    int64_t slot;
    return read_decimal(arg, &slot) && slot >= 0 ? memo_get(m, (uint64_t)slot)
                                                 : T2M_PK_MEMO;
}

ACTION(put_text)
{
    int64_t slot;
    return read_decimal(arg, &slot) && slot >= 0 ? memo_put(m, (uint64_t)slot)
                                                 : T2M_PK_MEMO;
}

ACTION(memoize)
{
    (void)arg;
    return memo_put(m, m->memo_next++);
}

static t2m_status
push_global(t2m_machine *m, const uint8_t *module, size_t module_length,
            const uint8_t *name, size_t name_length)
{
    t2m_node *node;
    int index = t2m_global_find(module, module_length, name, name_length);
    if (index < 0) {
        size_t room = sizeof m->where->name - 2;
        size_t n = module_length < room ? module_length : room;
        size_t k = name_length < room - n ? name_length : room - n;
        memcpy(m->where->name, module, n);
        m->where->name[n] = '.';
        memcpy(m->where->name + n + 1, name, k);
        m->where->name[n + 1 + k] = '\0';
        return T2M_PK_GLOBAL;
    }
    t2m_status status = push_new(m, T2M_NODE_GLOBAL, &node);
    if (status == T2M_OK) {
        node->as.index = (uint32_t)index;
    }
    return status;
}

/* Takes the text up to a newline. */
static t2m_status
take_line(t2m_machine *m, const uint8_t **text, size_t *length)
{
    const uint8_t *start = m->data + m->at;
    const uint8_t *end = memchr(start, '\n', m->length - m->at);
    if (!end) {
        return T2M_TRUNCATED;
    }
    *text = start;
    *length = (size_t)(end - start);
    m->at += *length + 1;
    return T2M_OK;
}

ACTION(global)
{
    const uint8_t *name;
    size_t length;
    t2m_status status = take_line(m, &name, &length);
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
    if ((status = pop(m, &name)) != T2M_OK ||
        (status = pop(m, &module)) != T2M_OK) {
        return status;
    }
    const t2m_node *a = node_at(m, module), *b = node_at(m, name);
    if (a->kind != T2M_NODE_TEXT || b->kind != T2M_NODE_TEXT) {
        return T2M_PK_TYPE;
    }
    return push_global(m, a->as.text, a->count, b->as.text, b->count);
}

ACTION(reduce)
{
    (void)arg;
    uint32_t args, callee, result;
    t2m_status status;
    if ((status = pop(m, &args)) != T2M_OK ||
        (status = pop(m, &callee)) != T2M_OK) {
        return status;
    }
    if (node_at(m, callee)->kind != T2M_NODE_GLOBAL ||
        node_at(m, args)->kind != T2M_NODE_TUPLE) {
        return T2M_PK_CALL;
    }
    status = t2m_torch_call(m, callee, args, &result);
    return status == T2M_OK ? push(m, result) : status;
}

/* State of an object: attributes of an OrderedDict (_metadata), of an inert
   value, of a tensor subclass. None of it is weights, so it is dropped. */
ACTION(build)
{
    (void)arg;
    uint32_t state;
    t2m_status status = pop(m, &state);
    if (status != T2M_OK) {
        return status;
    }
    if (m->depth <= floor_of(m)) {
        return T2M_PK_STACK;
    }
    switch (node_at(m, m->stack[m->depth - 1])->kind) {
    case T2M_NODE_DICT:
    case T2M_NODE_INERT:
    case T2M_NODE_TENSOR:
        return T2M_OK;
    default:
        return T2M_PK_CALL;
    }
}

ACTION(persid)
{
    (void)arg;
    uint32_t id, result;
    t2m_status status = pop(m, &id);
    if (status == T2M_OK) {
        status = t2m_torch_storage(m, id, &result);
    }
    return status == T2M_OK ? push(m, result) : status;
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

typedef struct {
    action run;
    argument_kind kind;
    int forbidden;
} opcode;

static const opcode opcodes[256] = {
#define OP(name, byte, kind, act) [byte] = {do_##act, kind, 0},
#define FORBID(name, byte)        [byte] = {NULL, NONE, 1},
#include "pickle_ops.def"
#undef OP
#undef FORBID
};

static t2m_status
take_argument(t2m_machine *m, argument_kind kind, argument *arg)
{
    static const uint8_t widths[] = {0, 1, 2, 4, 8, 1, 4, 8, 0, 8};
    const uint8_t *p = m->data + m->at;
    size_t width = widths[kind];

    if (kind == LINE) {
        return take_line(m, &arg->text, &arg->length);
    }
    if (m->length - m->at < width) {
        return T2M_TRUNCATED;
    }
    arg->number = 0;
    for (size_t i = 0; i < width; i++) {
        size_t shift = kind == F8 ? 7 - i : i;
        arg->number |= (uint64_t)p[i] << (8 * shift);
    }
    m->at += width;
    if (kind >= T1 && kind <= T8) {
        if (arg->number > m->length - m->at) {
            return T2M_TRUNCATED;
        }
        arg->text = m->data + m->at;
        arg->length = arg->number;
        m->at += arg->length;
    }
    return T2M_OK;
}

static t2m_status
run(t2m_machine *m)
{
    while (!m->stopped) {
        argument arg = {0, NULL, 0};
        m->where->offset = m->at;
        if (m->at >= m->length) {
            return T2M_TRUNCATED;
        }
        const opcode *op = &opcodes[m->data[m->at]];
        if (!op->run) {
            return op->forbidden ? T2M_PK_FORBIDDEN_OP : T2M_PK_OPCODE;
        }
        m->at++;
        t2m_status status = take_argument(m, op->kind, &arg);
        if (status == T2M_OK) {
            status = op->run(m, &arg);
        }
        if (status != T2M_OK) {
            return status;
        }
    }
    return T2M_OK;
}

t2m_status
t2m_pickle_load(const uint8_t *data, size_t length, t2m_pickle *out,
                size_t *used, t2m_where *where)
{
    t2m_machine m = {
        .out = out, .data = data, .length = length, .where = where};
    t2m_status status = T2M_OVERFLOW;
    uint64_t scaled;

    memset(out, 0, sizeof *out);
    where->name[0] = '\0';
    where->offset = 0;
    if (!t2m_mul(length, T2M_PK_MEMORY_FACTOR, &scaled) &&
        !t2m_add(scaled, T2M_PK_MEMORY_FLOOR, &out->memory_limit)) {
        status = run(&m);
    }
    free(m.stack);
    free(m.marks);
    free(m.memo);
    *used = m.at;
    if (status != T2M_OK) {
        t2m_pickle_free(out);
    }
    return status;
}

void
t2m_pickle_free(t2m_pickle *pickle)
{
    for (size_t i = 0; i < pickle->node_count; i++) {
        if (pickle->nodes[i].capacity) {
            free(pickle->nodes[i].as.items);
        }
    }
    free(pickle->nodes);
    free(pickle->storages);
    free(pickle->tensors);
    memset(pickle, 0, sizeof *pickle);
}
