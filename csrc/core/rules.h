/* The analyzer's rules over a module tree, flattened in pre-order.

   Records and facts belong to the caller and are plain numbers: names stay
   on the caller's side.  A result owns its findings. */
#ifndef T2M_RULES_H
#define T2M_RULES_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

#define T2M_NO_PARENT UINT32_MAX

/* What is known of a module's class. */
typedef enum {
    T2M_MODULE_OWN,       /* a class of the user's, with sub-modules */
    T2M_MODULE_CONTAINER, /* Sequential, ModuleList, a wrapper */
    T2M_MODULE_MAPPED,    /* MLX has this layer */
    T2M_MODULE_KIT,       /* torch2mlx.kit has it */
    T2M_MODULE_UNMAPPED,  /* nobody has it */
    T2M_MODULE_REFUSED,   /* MLX has it, but not with these options */
    T2M_MODULE_CUSTOM,    /* a class of the user's without sub-modules */
    T2M_MODULE_STATUS_COUNT,
} t2m_module_status;

enum {
    T2M_FLAG_UNINITIALIZED = 1,
    T2M_FLAG_HOOKS = 2,
    T2M_FLAG_SHARED = 4,
    T2M_FLAG_FOREIGN_DTYPE = 8,
    T2M_FLAG_FLOAT64 = 16,
    T2M_FLAG_TRANSIENT_BUFFERS = 32,
    T2M_FLAG_BARE_TENSORS = 64,
    T2M_FLAG_UNTYPED = 128,
    T2M_FLAG_FLATTENED = 256,
    T2M_FLAG_WRITTEN_OUT = 512, /* translate writes down what it computes */
};

typedef enum {
#define FACT(id, name) T2M_##id,
#include "facts.def"
#undef FACT
    T2M_FACT_COUNT,
} t2m_fact_kind;

typedef struct {
    uint32_t parent; /* earlier in the array, or T2M_NO_PARENT */
    uint32_t cls;    /* index of the class */
    uint32_t status; /* t2m_module_status */
    uint32_t flags;
    uint64_t parameters, bytes; /* of its own tensors */
} t2m_module_record;

/* One place in the source of a class. */
typedef struct {
    uint32_t cls, kind;
    uint32_t line, note; /* the caller's; passed through */
} t2m_fact;

typedef struct {
    uint32_t rule;
    uint32_t module; /* the first module of this class that has it */
    uint32_t fact;   /* UINT32_MAX: of a module itself */
    uint32_t count;  /* modules it is found in */
} t2m_finding;

typedef struct {
    t2m_finding *findings;
    size_t count;
    uint64_t layers, mapped; /* what is inside a layer counts with it */
    uint64_t parameters[T2M_MODULE_STATUS_COUNT]; /* by status of the layer */
    uint64_t bytes[T2M_MODULE_STATUS_COUNT];
} t2m_analysis;

typedef enum { T2M_INFO, T2M_WARNING, T2M_ERROR } t2m_severity;

typedef struct {
    const char *id, *message, *suggestion;
    t2m_severity severity;
} t2m_rule;

/* The rules, in order; *count gets their number. */
const t2m_rule *t2m_rules(size_t *count);

/* Names of fact kinds, T2M_FACT_COUNT of them. */
const char *const *t2m_fact_names(void);

/* Applies all rules.  LIMIT when a record or fact refers outside of its
   arrays, OVERFLOW when sizes add up beyond 64 bits; *bad is then its index.
   On failure *out is empty. */
t2m_status t2m_analyze(const t2m_module_record *modules, size_t module_count,
                       const t2m_fact *facts, size_t fact_count,
                       uint32_t class_count, t2m_analysis *out, size_t *bad);

void t2m_analysis_free(t2m_analysis *analysis);

#endif
