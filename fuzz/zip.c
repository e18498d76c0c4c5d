/* Reads a directory, then the checksum of every entry. */
#include "fuzz.h"

#include "../csrc/core/zip.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t2m_zip zip;
    t2m_where where;

    if (t2m_zip_parse(data, size, &zip, &where) == T2M_OK) {
        for (size_t i = 0; i < zip.count; i++) {
            t2m_zip_check(data, &zip.entries[i]);
        }
        t2m_zip_free(&zip);
    }
    return 0;
}
