#include "rules.h"
#include "array.h"
#include "size.h"

#include <stdlib.h>

#define NONE UINT32_MAX

typedef int (*module_test)(const t2m_module_record *module);

#define TEST(name, condition)                                                 \
    static int name(const t2m_module_record *m)                               \
    {                                                                         \
        return (condition) != 0;                                              \
    }

TEST(is_unmapped, m->status == T2M_MODULE_UNMAPPED)
TEST(is_kit, m->status == T2M_MODULE_KIT)
TEST(is_custom, m->status == T2M_MODULE_CUSTOM)
TEST(is_refused,
     m->status == T2M_MODULE_REFUSED && !(m->flags & T2M_FLAG_WRITTEN_OUT))
TEST(is_written_out,
     m->status == T2M_MODULE_REFUSED && (m->flags & T2M_FLAG_WRITTEN_OUT))
TEST(has_bare_tensors, m->flags &T2M_FLAG_BARE_TENSORS)
TEST(is_uninitialized, m->flags &T2M_FLAG_UNINITIALIZED)
TEST(has_hooks, m->flags &T2M_FLAG_HOOKS)
TEST(is_shared, m->flags &T2M_FLAG_SHARED)
TEST(has_foreign_dtype, m->flags &T2M_FLAG_FOREIGN_DTYPE)
TEST(has_float64, m->flags &T2M_FLAG_FLOAT64)
TEST(is_untyped, m->flags &T2M_FLAG_UNTYPED)
TEST(takes_flattened, m->flags &T2M_FLAG_FLATTENED)
TEST(has_transient_buffers, m->flags &T2M_FLAG_TRANSIENT_BUFFERS)

static const t2m_rule rules[] = {
#define RULE(id, severity, subject, test, message, suggestion)                \
    {id, message, suggestion, T2M_##severity},
#include "rules.def"
#undef RULE
};

#define COUNT (sizeof rules / sizeof *rules)

/* By rule: its predicate, or NULL for rules about facts. */
#define OF_MODULE(test) test
#define OF_FACT(test)   NULL
static const module_test module_tests[] = {
#define RULE(id, severity, subject, test, message, suggestion)                \
    OF_##subject(test),
#include "rules.def"
#undef RULE
};
#undef OF_MODULE
#undef OF_FACT

/* By rule: its kind of fact, or -1 for rules about modules. */
#define OF_MODULE(test) -1
#define OF_FACT(test)   T2M_##test
static const int fact_kinds[] = {
#define RULE(id, severity, subject, test, message, suggestion)                \
    OF_##subject(test),
#include "rules.def"
#undef RULE
};

static const char *const fact_names[] = {
#define FACT(id, name) name,
#include "facts.def"
#undef FACT
};

const t2m_rule *
t2m_rules(size_t *count)
{
    *count = COUNT;
    return rules;
}

const char *const *
t2m_fact_names(void)
{
    return fact_names;
}

typedef struct {
    t2m_analysis *out;
    size_t capacity;
} collector;

static t2m_status
add(collector *c, uint32_t rule, uint32_t module, uint32_t fact,
    uint32_t count)
{
    t2m_analysis *out = c->out;
    void *findings = out->findings;
    t2m_status status = t2m_array_grow(&findings, &c->capacity, out->count,
                                       sizeof *out->findings);
    if (status != T2M_OK) {
        return status;
    }
    out->findings = findings;
    out->findings[out->count++] = (t2m_finding){rule, module, fact, count};
    return T2M_OK;
}

/* Whether records and facts refer to what is there. */
static t2m_status
check(const t2m_module_record *modules, size_t module_count,
      const t2m_fact *facts, size_t fact_count, uint32_t class_count,
      size_t *bad)
{
    if (module_count >= NONE || fact_count >= NONE ||
        class_count > module_count) { /* every class has a module */
        *bad = 0;
        return T2M_LIMIT;
    }
    for (size_t i = 0; i < module_count; i++) {
        const t2m_module_record *m = &modules[i];
        *bad = i;
        if ((m->parent != T2M_NO_PARENT && m->parent >= i) ||
            m->cls >= class_count || m->status >= T2M_MODULE_STATUS_COUNT) {
            return T2M_LIMIT;
        }
    }
    for (size_t i = 0; i < fact_count; i++) {
        *bad = i;
        if (facts[i].cls >= class_count || facts[i].kind >= T2M_FACT_COUNT) {
            return T2M_LIMIT;
        }
    }
    return T2M_OK;
}

static int
is_layer(const t2m_module_record *m)
{
    return m->status >= T2M_MODULE_MAPPED;
}

/* Counts layers and sizes.  `inside` has, for each module, the index of the
   layer that it is part of, or NONE; rules speak of no module inside one.
   OVERFLOW with the module's index in *bad. */
static t2m_status
count_layers(const t2m_module_record *modules, size_t n, uint32_t *inside,
             t2m_analysis *out, size_t *bad)
{
    for (size_t i = 0; i < n; i++) {
        const t2m_module_record *m = &modules[i];
        inside[i] = NONE;
        if (m->parent != T2M_NO_PARENT) {
            uint32_t p = m->parent;
            inside[i] = inside[p] != NONE ? inside[p]
                        : is_layer(&modules[p]) &&
                                modules[p].status != T2M_MODULE_UNMAPPED &&
                                modules[p].status != T2M_MODULE_CUSTOM
                            ? p
                            : NONE;
        }
        uint32_t status =
            inside[i] == NONE ? m->status : modules[inside[i]].status;
        if (t2m_add(out->parameters[status], m->parameters,
                    &out->parameters[status]) ||
            t2m_add(out->bytes[status], m->bytes, &out->bytes[status])) {
            *bad = i;
            return T2M_OVERFLOW;
        }
        if (inside[i] == NONE && is_layer(m)) {
            out->layers++;
            out->mapped += m->status == T2M_MODULE_MAPPED;
        }
    }
    return T2M_OK;
}

/* Adds one finding for each rule and class: `slots` has, for these, the
   number of the finding plus one. */
static t2m_status
apply_module_rules(const t2m_module_record *modules, size_t n,
                   const uint32_t *inside, uint32_t *slots, collector *c)
{
    t2m_status status = T2M_OK;
    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        uint32_t *slot = slots + (size_t)modules[i].cls * COUNT;
        for (uint32_t r = 0; r < COUNT && status == T2M_OK; r++) {
            if (inside[i] != NONE || !module_tests[r] ||
                !module_tests[r](&modules[i])) {
                continue;
            }
            if (slot[r]) {
                c->out->findings[slot[r] - 1].count++;
            } else {
                status = add(c, r, (uint32_t)i, NONE, 1);
                slot[r] = (uint32_t)c->out->count;
            }
        }
    }
    return status;
}

/* For each class, the first module outside of layers and their number. */
static void
find_users(const t2m_module_record *modules, size_t n, const uint32_t *inside,
           uint32_t *first, uint32_t *users)
{
    for (size_t i = 0; i < n; i++) {
        if (inside[i] == NONE) {
            uint32_t cls = modules[i].cls;
            if (users[cls]++ == 0) {
                first[cls] = (uint32_t)i;
            }
        }
    }
}

static t2m_status
apply_fact_rules(const t2m_fact *facts, size_t n, const uint32_t *first,
                 const uint32_t *users, collector *c)
{
    uint32_t by_kind[T2M_FACT_COUNT];
    t2m_status status = T2M_OK;

    for (uint32_t r = 0; r < COUNT; r++) {
        if (fact_kinds[r] >= 0) {
            by_kind[fact_kinds[r]] = r;
        }
    }
    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        uint32_t cls = facts[i].cls;
        if (users[cls] > 0) {
            status = add(c, by_kind[facts[i].kind], first[cls], (uint32_t)i,
                         users[cls]);
        }
    }
    return status;
}

t2m_status
t2m_analyze(const t2m_module_record *modules, size_t module_count,
            const t2m_fact *facts, size_t fact_count, uint32_t class_count,
            t2m_analysis *out, size_t *bad)
{
    collector c = {out, 0};
    uint32_t *inside = NULL, *first = NULL, *users = NULL, *slots = NULL;

    *out = (t2m_analysis){0};
    t2m_status status =
        check(modules, module_count, facts, fact_count, class_count, bad);
    if (status != T2M_OK) {
        return status;
    }
    inside = malloc((module_count + 1) * sizeof *inside);
    first = calloc((size_t)class_count + 1, sizeof *first);
    users = calloc((size_t)class_count + 1, sizeof *users);
    slots = calloc((size_t)class_count + 1, COUNT * sizeof *slots);
    if (!inside || !first || !users || !slots) {
        status = T2M_NO_MEMORY;
        goto done;
    }
    status = count_layers(modules, module_count, inside, out, bad);
    if (status == T2M_OK) {
        status = apply_module_rules(modules, module_count, inside, slots, &c);
    }
    if (status == T2M_OK) {
        find_users(modules, module_count, inside, first, users);
        status = apply_fact_rules(facts, fact_count, first, users, &c);
    }
done:
    free(inside);
    free(first);
    free(users);
    free(slots);
    if (status != T2M_OK) {
        t2m_analysis_free(out);
    }
    return status;
}

void
t2m_analysis_free(t2m_analysis *analysis)
{
    free(analysis->findings);
    *analysis = (t2m_analysis){0};
}
