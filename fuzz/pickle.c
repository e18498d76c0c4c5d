/* Runs one pickle, finds what holds data, and decodes its byte strings. */
#include "fuzz.h"

#include "../csrc/core/pickle.h"

#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t2m_pickle pickle;
    t2m_where where;
    size_t used;

    if (t2m_pickle_load(data, size, &t2m_torch_hooks, &pickle, &used,
                        &where) == T2M_OK) {
        /* storages have no data here: what lies in them is out of bounds */
        t2m_pickle_finish(&pickle, &where);
        for (size_t i = 0; i < pickle.node_count; i++) {
            const t2m_node *node = &pickle.nodes[i];
            if (node->kind == T2M_NODE_LATIN1) {
                uint8_t *out = malloc(node->other);
                if (out) {
                    t2m_latin1_decode(node, out);
                }
                free(out);
            }
        }
        t2m_pickle_free(&pickle);
    }
    return 0;
}
