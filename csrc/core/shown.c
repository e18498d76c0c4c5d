#include "modules.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

static const char parametrized[] = "parametrizations";

typedef struct {
    t2m_shown *out;
    t2m_trie_trail trail; /* of the key before */
    uint64_t path_bytes;  /* that may still be made */
} reader;

/* Where the name of a key's tensor begins: behind the path of its module. */
static size_t
name_of(const t2m_key *key)
{
    size_t at = 0;
    if (key->length && key->text[0] == '.') {
        return 0;
    }
    for (;;) {
        const char *start = key->text + at;
        const char *dot = memchr(start, '.', key->length - at);
        size_t length = dot ? (size_t)(dot - start) : key->length - at;
        if (!dot || (length == sizeof parametrized - 1 &&
                     memcmp(start, parametrized, length) == 0)) {
            return at;
        }
        at += length + 1;
    }
}

static t2m_status
grow(t2m_shown *s)
{
    size_t wanted = s->trie.capacity;
    uint64_t bytes;

    if (s->capacity >= wanted) {
        return T2M_OK;
    }
    if (t2m_mul(wanted, sizeof *s->lengths, &bytes)) {
        return T2M_OVERFLOW;
    }
    uint32_t *paths = realloc(s->paths, wanted * sizeof *paths);
    s->paths = paths ? paths : s->paths;
    size_t *lengths = realloc(s->lengths, bytes);
    s->lengths = lengths ? lengths : s->lengths;
    if (!paths || !lengths) {
        return T2M_NO_MEMORY;
    }
    s->capacity = wanted;
    return T2M_OK;
}

/* Finds or adds the module whose path ends at `end` of a key. */
static t2m_status
add_module(reader *r, const t2m_key *key, uint32_t index, size_t at,
           size_t end, uint32_t *node)
{
    t2m_shown *s = r->out;
    size_t before = s->trie.count;
    t2m_status status =
        t2m_trie_add(&s->trie, *node, key->text + at, end - at, node);

    if (status != T2M_OK || s->trie.count == before) {
        return status;
    }
    if (end > r->path_bytes) {
        return T2M_KEY_PATHS;
    }
    r->path_bytes -= end;
    status = grow(s);
    if (status == T2M_OK) {
        s->paths[*node] = index;
        s->lengths[*node] = end;
    }
    return status;
}

static t2m_status
add_key(reader *r, const t2m_key *key, uint32_t index)
{
    t2m_trie_trail *trail = &r->trail;
    size_t name = name_of(key);
    size_t depth = t2m_trie_shared(trail, key->text, name);
    size_t at = depth ? trail->ends[depth - 1] + 1 : 0;
    uint32_t node = depth ? trail->path[depth - 1] : 0;

    while (at < name) {
        const char *start = key->text + at;
        size_t end =
            at + (size_t)((const char *)memchr(start, '.', name - at) - start);
        if (depth == T2M_KEYS_MAX_DEPTH) {
            return T2M_DEPTH;
        }
        t2m_status status = add_module(r, key, index, at, end, &node);
        if (status != T2M_OK) {
            return status;
        }
        trail->path[depth] = node;
        trail->ends[depth++] = end;
        at = end + 1;
    }
    trail->text = key->text;
    trail->length = name;
    trail->depth = depth;
    r->out->owners[index] = node;
    return t2m_trie_intern(&r->out->trie, key->text + name, key->length - name,
                           &r->out->names[index]);
}

t2m_status
t2m_modules_shown(const t2m_key *keys, size_t n, uint64_t secret,
                  t2m_shown *out, size_t *bad)
{
    reader *r = calloc(1, sizeof *r);
    uint64_t bytes, total = 0;
    t2m_status status = T2M_NO_MEMORY;

    memset(out, 0, sizeof *out);
    *bad = n;
    if (n >= UINT32_MAX || t2m_mul(n + 1, sizeof *out->names, &bytes)) {
        status = T2M_LIMIT;
        goto done;
    }
    out->owners = malloc(bytes);
    out->names = malloc(bytes);
    if (!r || !out->owners || !out->names ||
        t2m_trie_new(secret, &out->trie) != T2M_OK) {
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        if (t2m_add(total, keys[i].length, &total)) {
            status = T2M_OVERFLOW;
            goto done;
        }
    }
    if (t2m_mul(total, T2M_MODULES_PATH_FACTOR, &total) ||
        t2m_add(total, T2M_MODULES_PATH_BYTES, &total)) {
        total = UINT64_MAX;
    }
    r->out = out;
    r->path_bytes = total;
    status = grow(out);
    for (size_t i = 0; i < n && status == T2M_OK; i++) {
        *bad = i;
        status = add_key(r, &keys[i], (uint32_t)i);
    }
done:
    free(r);
    if (status != T2M_OK) {
        t2m_shown_free(out);
    }
    return status;
}

void
t2m_shown_free(t2m_shown *s)
{
    t2m_trie_free(&s->trie);
    free(s->paths);
    free(s->lengths);
    free(s->owners);
    free(s->names);
    memset(s, 0, sizeof *s);
}
