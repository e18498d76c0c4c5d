#include "keys.h"
#include "size.h"

#include <stdlib.h>

/* A key to be sorted. */
typedef struct {
    const t2m_key *key;
    size_t index;
} sortable;

/* The order in which a name stands right before those that continue it: a dot
   comes before every other byte. Equal names stand in the order of keys. */
static int
by_path(const void *a, const void *b)
{
    const sortable *x = a, *y = b;
    size_t n =
        x->key->length < y->key->length ? x->key->length : y->key->length;
    size_t at = t2m_common(x->key->text, y->key->text, n);

    if (at == n) {
        if (x->key->length != y->key->length) {
            return x->key->length < y->key->length ? -1 : 1;
        }
        return (x->index > y->index) - (x->index < y->index);
    }
    uint8_t p = (uint8_t)x->key->text[at], q = (uint8_t)y->key->text[at];
    if (p == '.' || q == '.') {
        return p == '.' ? -1 : 1;
    }
    return p < q ? -1 : 1;
}

static size_t
later(size_t a, size_t b)
{
    return a > b ? a : b;
}

int
t2m_keys_collide(const t2m_key *keys, size_t n, size_t *a, size_t *b)
{
    uint64_t bytes;
    if (t2m_mul(n + 1, sizeof(sortable), &bytes)) {
        return -1;
    }
    sortable *sorted = malloc(bytes);
    int found = 0;
    if (!sorted) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        sorted[i] = (sortable){&keys[i], i};
    }
    qsort(sorted, n, sizeof *sorted, by_path);
    for (size_t i = 1; i < n; i++) {
        const t2m_key *x = sorted[i - 1].key, *y = sorted[i].key;
        if (x->length <= y->length &&
            t2m_common(x->text, y->text, x->length) == x->length &&
            (x->length == y->length || y->text[x->length] == '.')) {
            size_t p = sorted[i - 1].index, q = sorted[i].index;
            if (!found || later(p, q) < later(*a, *b)) {
                *a = p;
                *b = q;
            }
            found = 1;
        }
    }
    free(sorted);
    return found;
}
