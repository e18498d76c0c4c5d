/* Skips one JSON value, then decodes what strings the text starts with. */
#include "fuzz.h"

#include "../csrc/core/json.h"

#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t2m_json json = {data, size, 0};
    t2m_json_string string;
    uint64_t number;

    t2m_json_skip(&json, 0);
    json.at = 0;
    if (t2m_json_take_string(&json, &string) == T2M_OK) {
        uint8_t *out = malloc(string.length + 1);
        if (out && t2m_json_decode(&string, out) > string.length) {
            abort();
        }
        free(out);
    }
    json.at = 0;
    t2m_json_take_u64(&json, &number);
    return 0;
}
