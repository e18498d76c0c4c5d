/* The legacy format of torch.save (before 1.6), in this order:

     pickle   the magic number 0x1950a86a20f9469cfc6c
     pickle   the protocol version, 1001
     pickle   {"little_endian": True, ...}
     pickle   the object; storages are persistent ids
              ("storage", class, key, location, items, view)
     pickle   the list of storage keys
     for each key, in the order of that list:
       i64    number of items
       bytes  the items                                                  */
#include "torchfile.h"
#include "size.h"
#include "zip.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                  0x20, 0x6a, 0xa8, 0x50, 0x19};

enum {
    PROTOCOL_VERSION = 1001,
};

typedef struct {
    const uint8_t *file;
    uint64_t length, at;
    t2m_where *where;
} cursor;

/* Runs the pickle at the cursor, which moves behind it. */
static t2m_status
take_pickle(cursor *c, t2m_pickle *out)
{
    size_t used;
    t2m_status status =
        t2m_pickle_load(c->file + c->at, c->length - c->at, &t2m_torch_hooks,
                        out, &used, c->where);
    c->where->offset += c->at;
    out->base = c->at;
    c->at += used;
    return status;
}

static int
is_magic(const t2m_pickle *p)
{
    const t2m_node *n = &p->nodes[p->root];
    return n->kind == T2M_NODE_BIGINT && n->count == sizeof magic &&
           memcmp(n->as.text, magic, sizeof magic) == 0;
}

static int
is_version(const t2m_pickle *p)
{
    const t2m_node *n = &p->nodes[p->root];
    return n->kind == T2M_NODE_INT && n->as.i == PROTOCOL_VERSION;
}

static int
is_little_endian(const t2m_pickle *p)
{
    const t2m_node *n = &p->nodes[p->root];
    static const char name[] = "little_endian";
    if (n->kind != T2M_NODE_DICT) {
        return 0;
    }
    for (uint32_t i = 0; i + 1 < n->count; i += 2) {
        const t2m_node *key = &p->nodes[n->as.items[i]];
        const t2m_node *value = &p->nodes[n->as.items[i + 1]];
        if (key->kind == T2M_NODE_TEXT && key->count == sizeof name - 1 &&
            memcmp(key->as.text, name, key->count) == 0) {
            return value->kind == T2M_NODE_BOOL && value->as.i;
        }
    }
    return 0;
}

static t2m_status
take_header(cursor *c)
{
    static int (*const checks[])(const t2m_pickle *) = {is_magic, is_version,
                                                        is_little_endian};
    static const t2m_status failures[] = {T2M_LEGACY_MAGIC, T2M_LEGACY_HEADER,
                                          T2M_LEGACY_HEADER};

    for (int i = 0; i < 3; i++) {
        t2m_pickle p;
        t2m_status status = take_pickle(c, &p);
        if (status != T2M_OK) {
            return i == 0 ? T2M_LEGACY_MAGIC : status;
        }
        int good = checks[i](&p);
        t2m_pickle_free(&p);
        if (!good) {
            return failures[i];
        }
    }
    return T2M_OK;
}

static int
same_key(const t2m_storage *s, const char *key, size_t length)
{
    return s->key_length == length && memcmp(s->key, key, length) == 0;
}

static int
by_key(const void *a, const void *b)
{
    const t2m_storage *x = *(t2m_storage *const *)a;
    const t2m_storage *y = *(t2m_storage *const *)b;
    size_t n = x->key_length < y->key_length ? x->key_length : y->key_length;
    int c = memcmp(x->key, y->key, n);
    return c ? c
             : (x->key_length > y->key_length) -
                   (x->key_length < y->key_length);
}

/* Finds the first of the sorted storages that has this key; returns its
   index, or count. */
static size_t
first_of(t2m_storage **sorted, size_t count, const t2m_node *key)
{
    t2m_storage probe = {.key = (const char *)key->as.text,
                         .key_length = key->count};
    t2m_storage *at = &probe;
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (by_key(&sorted[mid], &at) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Gives one root storage's bytes to every storage that shares its key. */
static t2m_status
assign(t2m_storage **sorted, size_t count, size_t first, const uint8_t *data,
       uint64_t items, uint64_t bytes)
{
    const t2m_storage *root = sorted[first];
    uint64_t item = bytes ? bytes / items : 0;

    for (size_t i = first;
         i < count && same_key(sorted[i], root->key, root->key_length); i++) {
        t2m_storage *s = sorted[i];
        uint64_t end;
        if (s->dtype != root->dtype || s->item != root->item) {
            return T2M_PT_BAD_STORAGE;
        }
        if (!s->has_view) {
            if (s->numel != items) {
                return T2M_PT_STORAGE_SIZE;
            }
        } else if (t2m_add(s->view_offset, s->numel, &end) || end > items) {
            return T2M_PT_STORAGE_SIZE;
        }
        s->data = data + s->view_offset * item;
        s->length = s->numel * item;
    }
    return T2M_OK;
}

/* Takes the count and bytes of the storage with this key. */
static t2m_status
take_storage(cursor *c, t2m_storage **sorted, size_t count,
             const t2m_node *key)
{
    uint64_t bytes;

    if (key->kind != T2M_NODE_TEXT) {
        return T2M_LEGACY_STORAGES;
    }
    t2m_where_name(c->where, key->as.text, key->count);
    size_t first = first_of(sorted, count, key);
    if (first == count ||
        !same_key(sorted[first], (const char *)key->as.text, key->count) ||
        sorted[first]->data) {
        return T2M_LEGACY_STORAGES;
    }
    if (c->length - c->at < 8) {
        return T2M_TRUNCATED;
    }
    uint64_t items = t2m_le64(c->file + c->at);
    c->at += 8;
    size_t item = sorted[first]->item;
    if (item == 0) {
        return T2M_BAD_DTYPE; /* nobody can say where the next one starts */
    }
    if (t2m_mul(items, item, &bytes)) {
        return T2M_OVERFLOW;
    }
    if (bytes > c->length - c->at) {
        return T2M_TRUNCATED;
    }
    t2m_status status =
        assign(sorted, count, first, c->file + c->at, items, bytes);
    c->at += bytes;
    return status;
}

static t2m_status
take_storages(cursor *c, t2m_storage **sorted, size_t count)
{
    t2m_pickle keys;
    t2m_status status = take_pickle(c, &keys);
    if (status != T2M_OK) {
        return status;
    }
    const t2m_node *list = &keys.nodes[keys.root];
    if (list->kind != T2M_NODE_LIST) {
        status = T2M_LEGACY_STORAGES;
    }
    for (uint32_t i = 0; status == T2M_OK && i < list->count; i++) {
        c->where->offset = c->at;
        status =
            take_storage(c, sorted, count, &keys.nodes[list->as.items[i]]);
    }
    t2m_pickle_free(&keys);
    if (status == T2M_OK && c->at != c->length) {
        c->where->offset = c->at;
        status = T2M_TRAILING;
    }
    for (size_t i = 0; status == T2M_OK && i < count; i++) {
        if (!sorted[i]->data && sorted[i]->numel) {
            t2m_where_name(c->where, sorted[i]->key, sorted[i]->key_length);
            status = T2M_PT_NO_STORAGE;
        }
    }
    return status;
}

t2m_status
t2m_legacy_parse(const uint8_t *file, uint64_t length, t2m_pickle *out,
                 t2m_where *where)
{
    cursor c = {file, length, 0, where};
    t2m_storage **sorted = NULL;

    memset(out, 0, sizeof *out);
    memset(where, 0, sizeof *where);
    t2m_status status = take_header(&c);
    if (status != T2M_OK) {
        return status;
    }
    if ((status = take_pickle(&c, out)) != T2M_OK) {
        return status;
    }
    sorted = malloc((out->storage_count + 1) * sizeof *sorted);
    if (!sorted) {
        status = T2M_NO_MEMORY;
        goto done;
    }
    size_t count = 0;
    for (size_t i = 0; i < out->storage_count; i++) {
        if (!out->storages[i].bytes_node) {
            sorted[count++] = &out->storages[i];
        }
    }
    qsort(sorted, count, sizeof *sorted, by_key);
    status = take_storages(&c, sorted, count);
    if (status == T2M_OK) {
        status = t2m_pickle_finish(out, where);
    }
done:
    free(sorted);
    if (status != T2M_OK) {
        t2m_pickle_free(out);
    }
    return status;
}

t2m_status
t2m_torchfile_parse(const uint8_t *file, uint64_t length, t2m_pickle *out,
                    t2m_where *where)
{
    memset(out, 0, sizeof *out);
    memset(where, 0, sizeof *where);
    if (length >= 4 && t2m_le32(file) == T2M_ZIP_MAGIC) {
        return t2m_archive_parse(file, length, out, where);
    }
    if (length >= 262 && memcmp(file + 257, "ustar", 5) == 0) {
        return T2M_LEGACY_TAR;
    }
    return t2m_legacy_parse(file, length, out, where);
}
