#include "pickle_machine.h"

#include <string.h>

static const t2m_global globals[] = {
#define GLOBAL(module, name, kind, text)                                      \
    {module, name, T2M_GLOBAL_##kind, text},
#include "pickle_globals.def"
#undef GLOBAL
};

enum {
    GLOBALS = sizeof globals / sizeof globals[0],
};

static int
same(const char *name, const uint8_t *text, size_t length)
{
    return strlen(name) == length && memcmp(name, text, length) == 0;
}

int
t2m_global_find(const uint8_t *module, size_t module_length,
                const uint8_t *name, size_t name_length)
{
    for (int i = 0; i < (int)GLOBALS; i++) {
        if (same(globals[i].name, name, name_length) &&
            same(globals[i].module, module, module_length)) {
            return i;
        }
    }
    return -1;
}

const t2m_global *
t2m_global_get(uint32_t index)
{
    return &globals[index];
}

const t2m_global *
t2m_global_of(const t2m_node *node)
{
    return node && node->kind == T2M_NODE_GLOBAL ? &globals[node->as.index]
                                                 : NULL;
}
