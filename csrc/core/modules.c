#include "modules.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

/* A component of a text: [at, end), the last one where end is the length. */
typedef struct {
    size_t at, end;
} part;

static part
part_at(const t2m_key *key, size_t at)
{
    const char *dot = memchr(key->text + at, '.', key->length - at);
    return (part){at, dot ? (size_t)(dot - key->text) : key->length};
}

/* Room for a note of each node; new ones are empty. */
static t2m_status
make_notes(t2m_module_tree *tree)
{
    size_t wanted = tree->trie.capacity;
    uint64_t bytes;

    if (tree->capacity >= wanted) {
        return T2M_OK;
    }
    if (t2m_mul(wanted, sizeof *tree->notes, &bytes)) {
        return T2M_OVERFLOW;
    }
    t2m_module_note *bigger = realloc(tree->notes, bytes);
    if (!bigger) {
        return T2M_NO_MEMORY;
    }
    for (size_t i = tree->capacity; i < wanted; i++) {
        bigger[i] = (t2m_module_note){NULL, 0, T2M_NO_INDEX, 0};
    }
    tree->notes = bigger;
    tree->capacity = wanted;
    return T2M_OK;
}

static t2m_status
add_path(t2m_module_tree *tree, const t2m_key *path, uint32_t module)
{
    uint32_t node = 0;
    part p = {0, 0};

    for (size_t at = 0, depth = 0; path->length && at <= path->length;
         at = p.end + 1, depth++) {
        if (depth == T2M_KEYS_MAX_DEPTH) {
            return T2M_DEPTH;
        }
        p = part_at(path, at);
        t2m_status status = t2m_trie_add(&tree->trie, node, path->text + at,
                                         p.end - at, &node);
        if (status != T2M_OK) {
            return status;
        }
    }
    tree->trie.nodes[node].value = module;
    tree->nodes[module] = node;
    return T2M_OK;
}

t2m_status
t2m_modules_new(const t2m_key *paths, size_t n, uint64_t secret,
                t2m_module_tree *out, size_t *bad)
{
    uint64_t bytes;
    t2m_status status;

    memset(out, 0, sizeof *out);
    *bad = n;
    if (n >= UINT32_MAX || t2m_mul(n + 1, sizeof *out->nodes, &bytes)) {
        return T2M_LIMIT;
    }
    status = t2m_trie_new(secret, &out->trie);
    if (status == T2M_OK && !(out->nodes = malloc(bytes))) {
        status = T2M_NO_MEMORY;
    }
    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        *bad = i;
        status = add_path(out, &paths[i], (uint32_t)i);
    }
    out->count = n;
    if (status == T2M_OK) {
        status = make_notes(out);
    }
    if (status != T2M_OK) {
        t2m_modules_free(out);
    }
    return status;
}

void
t2m_modules_free(t2m_module_tree *tree)
{
    t2m_trie_free(&tree->trie);
    free(tree->notes);
    free(tree->nodes);
    memset(tree, 0, sizeof *tree);
}

void
t2m_modules_wrap(t2m_module_tree *tree, size_t module, t2m_key inner)
{
    uint32_t node = tree->nodes[module];
    tree->notes[node].inner =
        t2m_trie_find(&tree->trie, node, inner.text, inner.length);
}

t2m_status
t2m_modules_own(t2m_module_tree *tree, size_t module, t2m_key tensor)
{
    uint32_t child;
    t2m_status status = t2m_trie_add(&tree->trie, tree->nodes[module],
                                     tensor.text, tensor.length, &child);
    if (status == T2M_OK) {
        status = make_notes(tree);
    }
    if (status == T2M_OK && tree->trie.nodes[child].value == T2M_NO_INDEX) {
        tree->notes[child].is_tensor = 1;
    }
    return status;
}

void
t2m_modules_rename(t2m_module_tree *tree, size_t module, t2m_key child,
                   t2m_key name)
{
    uint32_t node = t2m_trie_find(&tree->trie, tree->nodes[module], child.text,
                                  child.length);
    if (node != T2M_NO_INDEX) {
        tree->notes[node].name = name.text;
        tree->notes[node].name_length = name.length;
    }
}

/* The part of a key that a wrapper's child is called by. */
static int
is_called(const t2m_module_tree *tree, uint32_t node, const char *text,
          size_t length)
{
    const t2m_trie_text *name =
        &tree->trie.texts[tree->trie.nodes[node].text_id];
    return name->length == length && memcmp(name->text, text, length) == 0;
}

size_t
t2m_modules_locate(const t2m_module_tree *tree, const t2m_key *key,
                   size_t *name)
{
    uint32_t node = 0;
    size_t module = tree->trie.nodes[0].value;
    part p = part_at(key, 0);

    *name = 0;
    for (;;) {
        const char *text = key->text + p.at;
        int last = p.end == key->length;
        uint32_t inner = tree->notes[node].inner;
        uint32_t child = t2m_trie_find(&tree->trie, node, text, p.end - p.at);
        if (inner != T2M_NO_INDEX) {
            if (child != T2M_NO_INDEX && tree->notes[child].is_tensor) {
                break;
            }
            if (!last && is_called(tree, inner, text, p.end - p.at)) {
                p = part_at(key, p.end + 1);
            }
            node = inner;
        } else if (!last && child != T2M_NO_INDEX &&
                   !tree->notes[child].is_tensor) {
            p = part_at(key, p.end + 1);
            node = child;
        } else {
            break;
        }
        if (tree->trie.nodes[node].value != T2M_NO_INDEX) {
            module = tree->trie.nodes[node].value;
            *name = p.at;
        }
    }
    return module;
}

size_t
t2m_modules_prefix(const t2m_module_tree *tree, size_t module, char *out)
{
    const t2m_trie *t = &tree->trie;
    size_t length = 0;

    for (uint32_t n = tree->nodes[module]; n != 0; n = t->nodes[n].parent) {
        if (tree->notes[t->nodes[n].parent].inner != n) {
            const t2m_module_note *note = &tree->notes[n];
            length += 1 + (note->name ? note->name_length
                                      : t->texts[t->nodes[n].text_id].length);
        }
    }
    char *at = out ? out + length : NULL;
    for (uint32_t n = tree->nodes[module]; at && n != 0;
         n = t->nodes[n].parent) {
        if (tree->notes[t->nodes[n].parent].inner != n) {
            const t2m_module_note *note = &tree->notes[n];
            const t2m_trie_text *own = &t->texts[t->nodes[n].text_id];
            size_t size = note->name ? note->name_length : own->length;
            *--at = '.';
            at -= size;
            memcpy(at, note->name ? note->name : own->text, size);
        }
    }
    return length;
}
