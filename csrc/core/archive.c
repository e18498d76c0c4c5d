/* The zip archive of torch.save:

     <name>/data.pkl      the pickle; storages are persistent ids
                          ("storage", class, key, location, items)
     <name>/data/<key>    the bytes of a storage
     <name>/byteorder     "little" (absent in older files)
     <name>/version, <name>/.format_version, ...    not needed

   An archive with <name>/constants.pkl is TorchScript: code, not data. */
#include "torchfile.h"
#include "size.h"
#include "zip.h"

#include <string.h>

/* Longest entry name that is looked up. */
#define MAX_NAME 512

typedef struct {
    const uint8_t *file;
    t2m_zip zip;
    const char *prefix; /* "<name>/" */
    size_t prefix_length;
    int unchecked; /* 1: written with checksums turned off */
    t2m_where *where;
} archive;

static int
ends_with(const t2m_zip_entry *e, const char *suffix)
{
    size_t n = strlen(suffix);
    return e->name_length >= n &&
           memcmp(e->name + e->name_length - n, suffix, n) == 0;
}

/* Finds data.pkl at the top or one folder down; NULL when there is none. */
static const t2m_zip_entry *
find_pickle(archive *a)
{
    for (size_t i = 0; i < a->zip.count; i++) {
        const t2m_zip_entry *e = &a->zip.entries[i];
        size_t prefix = e->name_length - 8;
        if (!ends_with(e, "data.pkl") ||
            (prefix > 0 &&
             memchr(e->name, '/', e->name_length) != e->name + prefix - 1)) {
            continue;
        }
        a->prefix = e->name;
        a->prefix_length = prefix;
        return e;
    }
    return NULL;
}

/* Looks up <prefix><folder><name>. */
static const t2m_zip_entry *
lookup(const archive *a, const char *folder, const char *name, size_t length)
{
    char path[MAX_NAME];
    size_t f = strlen(folder);
    if (length > MAX_NAME || a->prefix_length + f > MAX_NAME - length) {
        return NULL;
    }
    memcpy(path, a->prefix, a->prefix_length);
    memcpy(path + a->prefix_length, folder, f);
    memcpy(path + a->prefix_length + f, name, length);
    return t2m_zip_find(&a->zip, path, a->prefix_length + f + length);
}

/* Whether no entry has a checksum, 1 or 0: torch writes 0 for all of them
   where set_crc32_options(False) turned them off. */
static int
without_checksums(const t2m_zip *zip)
{
    for (size_t i = 0; i < zip->count; i++) {
        if (zip->entries[i].crc) {
            return 0;
        }
    }
    return 1;
}

static t2m_status
check_kind(archive *a)
{
    if (lookup(a, "", "constants.pkl", 13)) {
        return T2M_PT_TORCHSCRIPT;
    }
    const t2m_zip_entry *order = lookup(a, "", "byteorder", 9);
    if (order && (order->length != 6 ||
                  memcmp(a->file + order->data, "little", 6) != 0)) {
        a->where->offset = order->data;
        return T2M_PT_BYTE_ORDER;
    }
    return T2M_OK;
}

static t2m_status
resolve(archive *a, t2m_storage *s)
{
    const t2m_zip_entry *e = lookup(a, "data/", s->key, s->key_length);
    uint64_t bytes;

    if (!e) {
        return s->numel == 0 ? T2M_OK : T2M_PT_NO_STORAGE;
    }
    a->where->offset = e->data;
    if (s->has_view) {
        return T2M_PT_BAD_STORAGE;
    }
    size_t item =
        s->dtype >= 0 ? t2m_dtype_get((t2m_dtype)s->dtype)->bytes : 1;
    if (t2m_mul(s->numel, item, &bytes)) {
        return T2M_OVERFLOW;
    }
    if (s->dtype != -1 && bytes != e->length) {
        return T2M_PT_STORAGE_SIZE;
    }
    s->data = a->file + e->data;
    s->length = e->length;
    s->has_crc = !a->unchecked;
    s->crc = e->crc;
    return T2M_OK;
}

static t2m_status
read_pickle(archive *a, t2m_pickle *out)
{
    size_t used;
    const t2m_zip_entry *e = find_pickle(a);
    if (!e) {
        return T2M_PT_NO_PICKLE;
    }
    t2m_status status = check_kind(a);
    if (status != T2M_OK) {
        return status;
    }
    a->where->offset = e->data;
    t2m_where_name(a->where, e->name, e->name_length);
    a->unchecked = without_checksums(&a->zip);
    if (!a->unchecked && (status = t2m_zip_check(a->file, e)) != T2M_OK) {
        return status;
    }
    status = t2m_pickle_load(a->file + e->data, e->length, &t2m_torch_hooks,
                             out, &used, a->where);
    a->where->offset += e->data;
    out->base = e->data;
    return status;
}

t2m_status
t2m_archive_parse(const uint8_t *file, uint64_t length, t2m_pickle *out,
                  t2m_where *where)
{
    archive a = {.file = file, .where = where};

    memset(out, 0, sizeof *out);
    t2m_status status = t2m_zip_parse(file, length, &a.zip, where);
    if (status == T2M_ZIP_COMPRESSED && strstr(where->name, "/code/")) {
        return T2M_PT_TORCHSCRIPT; /* it keeps its source code compressed */
    }
    if (status != T2M_OK) {
        return status;
    }
    status = read_pickle(&a, out);
    for (size_t i = 0; status == T2M_OK && i < out->storage_count; i++) {
        t2m_storage *s = &out->storages[i];
        status = s->bytes_node ? T2M_OK : resolve(&a, s);
        if (status != T2M_OK) {
            t2m_where_name(where, s->key, s->key_length);
        }
    }
    if (status == T2M_OK) {
        status = t2m_pickle_finish(out, where);
    }
    t2m_zip_free(&a.zip);
    if (status != T2M_OK) {
        t2m_pickle_free(out);
    }
    return status;
}
