/* Nests the lines of the input as keys, with lists and without. */
#include "fuzz.h"

#include "../csrc/core/keys.h"

#include <string.h>

#define MAX_KEYS 4096

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static t2m_key keys[MAX_KEYS];
    const char *at = (const char *)data, *end = at + size;
    size_t n = 0, bad;
    t2m_key_tree tree;

    while (at < end && n < MAX_KEYS) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        keys[n].text = at;
        keys[n++].length = (size_t)((line ? line : end) - at);
        at = line ? line + 1 : end;
    }
    for (int lists = 0; lists < 2; lists++) {
        if (t2m_keys_nest(keys, n, lists, NULL, &tree, &bad) == T2M_OK) {
            t2m_keys_free(&tree);
        }
    }
    return 0;
}
