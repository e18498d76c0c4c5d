/* Reads a zip of torch.save, and a byte of every tensor it yields. */
#include "fuzz.h"

#include "../csrc/core/torchfile.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t2m_pickle pickle;
    t2m_where where;
    volatile uint8_t sum = 0;

    if (t2m_archive_parse(data, size, &pickle, &where) == T2M_OK) {
        for (size_t i = 0; i < pickle.storage_count; i++) {
            const t2m_storage *s = &pickle.storages[i];
            if (s->data && s->length) {
                sum ^= s->data[s->length - 1];
            }
        }
        t2m_pickle_free(&pickle);
    }
    return 0;
}
