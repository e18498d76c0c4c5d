/* Runs one pickle. */
#include "fuzz.h"

#include "../csrc/core/pickle.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t2m_pickle pickle;
    t2m_where where;
    size_t used;

    if (t2m_pickle_load(data, size, &pickle, &used, &where) == T2M_OK) {
        t2m_pickle_free(&pickle);
    }
    return 0;
}
