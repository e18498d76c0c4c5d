#include "pickle_machine.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

t2m_status
t2m_push(t2m_machine *m, uint32_t node)
{
    t2m_status status =
        t2m_pickle_grow(m->out, (void **)&m->stack, &m->stack_capacity,
                        m->depth, sizeof *m->stack);
    if (status == T2M_OK) {
        m->stack[m->depth++] = node;
    }
    return status;
}

size_t
t2m_stack_floor(const t2m_machine *m)
{
    return m->mark_count ? m->marks[m->mark_count - 1] : 0;
}

const uint32_t *
t2m_stack_at(const t2m_machine *m, size_t index)
{
    return m->stack ? m->stack + index : NULL;
}

t2m_status
t2m_pop(t2m_machine *m, uint32_t *node)
{
    if (m->depth <= t2m_stack_floor(m)) {
        return T2M_PK_STACK;
    }
    *node = m->stack[--m->depth];
    return T2M_OK;
}

t2m_status
t2m_push_new(t2m_machine *m, t2m_node_kind kind, t2m_node **node)
{
    uint32_t index;
    t2m_status status = t2m_node_new(m->out, kind, &index);
    if (status == T2M_OK && (status = t2m_push(m, index)) == T2M_OK) {
        *node = t2m_node_at(m, index);
    }
    return status;
}

t2m_status
t2m_memo_get(t2m_machine *m, uint64_t slot)
{
    if (slot >= m->memo_capacity || m->memo[slot] == 0) {
        return T2M_PK_MEMO;
    }
    return t2m_push(m, m->memo[slot] - 1);
}

/* An honest pickler numbers its memo in order, so a slot can never exceed
   the number of bytes read. */
t2m_status
t2m_memo_put(t2m_machine *m, uint64_t slot)
{
    if (m->depth <= t2m_stack_floor(m)) {
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

t2m_status
t2m_take_line(t2m_machine *m, const uint8_t **text, size_t *length)
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

static t2m_status
take_argument(t2m_machine *m, t2m_argument_kind kind, t2m_argument *arg)
{
    static const uint8_t widths[] = {0, 1, 2, 4, 8, 1, 4, 8, 0, 8};
    const uint8_t *p = m->data + m->at;
    size_t width = widths[kind];

    if (kind == T2M_ARG_LINE) {
        return t2m_take_line(m, &arg->text, &arg->length);
    }
    if (m->length - m->at < width) {
        return T2M_TRUNCATED;
    }
    arg->number = 0;
    for (size_t i = 0; i < width; i++) {
        size_t shift = kind == T2M_ARG_F8 ? 7 - i : i;
        arg->number |= (uint64_t)p[i] << (8 * shift);
    }
    m->at += width;
    if (kind >= T2M_ARG_T1 && kind <= T2M_ARG_T8) {
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
        t2m_argument arg = {0, NULL, 0};
        m->opcode_at = m->at;
        m->where->offset = m->at;
        if (m->at >= m->length) {
            return T2M_TRUNCATED;
        }
        const t2m_opcode *op = t2m_opcode_get(m->data[m->at]);
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
t2m_pickle_load(const uint8_t *data, size_t length,
                const t2m_pickle_hooks *hooks, t2m_pickle *out, size_t *used,
                t2m_where *where)
{
    t2m_machine m = {.out = out,
                     .hooks = hooks,
                     .data = data,
                     .length = length,
                     .where = where};
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
