/* Parses a file; what parses is built again and must parse again. */
#include "fuzz.h"

#include "../csrc/core/safetensors.h"

#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t2m_st_header header;
    t2m_where where;
    uint8_t *built = NULL;
    size_t length;

    if (t2m_st_parse(data, size, &header, &where) == T2M_OK) {
        for (size_t i = 0; i < header.count; i++) {
            const t2m_st_entry *e = &header.entries[i];
            if (e->begin > e->end || header.data_start + e->end > size) {
                abort();
            }
            uint64_t *sizes = malloc((e->size_count + 1) * sizeof *sizes);
            if (sizes) {
                t2m_st_sizes(e, sizes);
            }
            free(sizes);
        }
        if (t2m_st_build(header.entries, header.count, header.meta,
                         header.meta_count, &built, &length) != T2M_OK) {
            abort();
        }
        free(built);
        t2m_st_free(&header);
    }
    return 0;
}
