/* Nests the lines of the input as keys, with lists and without. */
#include "fuzz.h"

#include "../csrc/core/keys.h"

#include <string.h>

#define MAX_KEYS 4096

/* Lists are no longer than the keys account for. */
static void
check(const t2m_key_tree *tree, size_t n)
{
    uint64_t slots = 0;
    for (size_t i = 0; tree->slots && i < tree->trie.count; i++) {
        slots += tree->slots[i];
    }
    if (slots >
        tree->trie.count + T2M_KEYS_HOLES + T2M_KEYS_HOLES_PER_KEY * n) {
        __builtin_trap();
    }
}

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
        if (t2m_keys_nest(keys, n, lists, NULL, 1, &tree, &bad) == T2M_OK) {
            check(&tree, n);
            t2m_keys_free(&tree);
        }
    }
    return 0;
}
