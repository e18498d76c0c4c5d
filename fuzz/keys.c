/* Nests the lines of the input as keys, with lists and without; finds the
   modules that they show, and each key's owner among these. */
#include "fuzz.h"

#include "../csrc/core/keys.h"
#include "../csrc/core/modules.h"

#include <stdlib.h>
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

/* Each key belongs to the module that it showed; the prefix of that is its
   path. */
static void
own(const t2m_key *keys, size_t n, const t2m_shown *shown)
{
    size_t bad, name, count = shown->trie.count;
    t2m_key *paths = calloc(count, sizeof *paths);
    t2m_module_tree tree;

    for (size_t i = 1; paths && i < count; i++) {
        paths[i].text = keys[shown->paths[i]].text;
        paths[i].length = shown->lengths[i];
    }
    if (!paths) {
        return;
    }
    paths[0].text = "";
    if (t2m_modules_new(paths, count, 3, &tree, &bad) != T2M_OK) {
        free(paths);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t module = t2m_modules_locate(&tree, &keys[i], &name);
        size_t prefix = t2m_modules_prefix(&tree, module, NULL);
        if (module != shown->owners[i] || name != prefix) {
            __builtin_trap();
        }
        char *text = malloc(prefix + 1);
        if (text) {
            t2m_modules_prefix(&tree, module, text);
            if (memcmp(text, keys[i].text, prefix) != 0) {
                __builtin_trap();
            }
        }
        free(text);
    }
    t2m_modules_free(&tree);
    free(paths);
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
    t2m_shown shown;
    if (t2m_modules_shown(keys, n, 2, &shown, &bad) == T2M_OK) {
        own(keys, n, &shown);
        t2m_shown_free(&shown);
    }
    size_t a, b;
    if (t2m_keys_collide(keys, n, &a, &b) == 1 &&
        (a >= n || b >= n || a == b || keys[a].length > keys[b].length)) {
        __builtin_trap();
    }
    return 0;
}
