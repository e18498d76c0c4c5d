/* What is read (PKWARE APPNOTE 6.3, little-endian):

     local header   PK\3\4, ..., name length at 26, extra length at 28,
                    name, extra, contents              (torch pads the extra
                    field so that contents start at a multiple of 64)
     central entry  PK\1\2, flags 8, method 10, crc 16, sizes 20 and 24,
                    lengths of name 28, extra 30, comment 32, offset 42,
                    then name, extra (id 1: zip64 sizes), comment
     zip64 end      PK\6\6, entries 32, directory size 40, its offset 48
     zip64 locator  PK\6\7, offset of the zip64 end at 8
     end            PK\5\6, entries 10, directory size 12, offset 16,
                    comment length 20                                    */
#include "zip.h"
#include "crc32.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    LOCATOR_SIZE = 20,
    END64_SIZE = 56,
    MAX_COMMENT = 65535,
};

#define CENTRAL_MAGIC 0x02014b50u
#define END_MAGIC     0x06054b50u
#define LOCATOR_MAGIC 0x07064b50u
#define END64_MAGIC   0x06064b50u

typedef struct {
    uint64_t entries, size, offset;
} directory;

/* Finds the end record; returns its offset, or -1. */
static int64_t
find_end(const uint8_t *file, uint64_t length)
{
    if (length < END_SIZE) {
        return -1;
    }
    uint64_t lowest =
        length - END_SIZE > MAX_COMMENT ? length - END_SIZE - MAX_COMMENT : 0;
    for (uint64_t at = length - END_SIZE + 1; at-- > lowest;) {
        if (t2m_le32(file + at) == END_MAGIC &&
            at + END_SIZE + t2m_le16(file + at + 20) == length) {
            return (int64_t)at;
        }
    }
    return -1;
}

static t2m_status
read_end64(const uint8_t *file, uint64_t end, directory *dir)
{
    if (end < LOCATOR_SIZE ||
        t2m_le32(file + end - LOCATOR_SIZE) != LOCATOR_MAGIC) {
        return T2M_ZIP_BAD_DIRECTORY;
    }
    uint64_t at = t2m_le64(file + end - LOCATOR_SIZE + 8);
    uint64_t limit = end - LOCATOR_SIZE;
    if (limit < END64_SIZE || at > limit - END64_SIZE ||
        t2m_le32(file + at) != END64_MAGIC) {
        return T2M_ZIP_BAD_DIRECTORY;
    }
    if (t2m_le32(file + at + 16) || t2m_le32(file + at + 20)) {
        return T2M_ZIP_MULTI_DISK;
    }
    dir->entries = t2m_le64(file + at + 32);
    dir->size = t2m_le64(file + at + 40);
    dir->offset = t2m_le64(file + at + 48);
    return T2M_OK;
}

static t2m_status
read_end(const uint8_t *file, uint64_t length, directory *dir,
         t2m_where *where)
{
    int64_t found = find_end(file, length);
    if (found < 0) {
        where->offset = length;
        return T2M_ZIP_NO_END;
    }
    const uint8_t *p = file + found;
    where->offset = (uint64_t)found;
    uint16_t disk = t2m_le16(p + 4);
    if (disk != 0 && disk != 0xffff) {
        return T2M_ZIP_MULTI_DISK;
    }
    dir->entries = t2m_le16(p + 10);
    dir->size = t2m_le32(p + 12);
    dir->offset = t2m_le32(p + 16);
    if (dir->entries == 0xffff || dir->size == 0xffffffffu ||
        dir->offset == 0xffffffffu) {
        t2m_status status = read_end64(file, (uint64_t)found, dir);
        if (status != T2M_OK) {
            return status;
        }
    }
    if (dir->offset > (uint64_t)found ||
        dir->size > (uint64_t)found - dir->offset ||
        dir->entries > dir->size / CENTRAL_SIZE) {
        return T2M_ZIP_BAD_DIRECTORY;
    }
    return T2M_OK;
}

typedef struct {
    uint64_t packed, size, local;
} extents;

/* Replaces the fields that hold 0xffffffff by those of the zip64 extra. */
static t2m_status
read_extra64(const uint8_t *extra, size_t length, extents *e)
{
    uint64_t *fields[3] = {&e->size, &e->packed, &e->local};
    size_t at = 0;

    while (length - at >= 4) {
        size_t n = t2m_le16(extra + at + 2);
        uint16_t id = t2m_le16(extra + at);
        at += 4;
        if (n > length - at) {
            return T2M_ZIP_BAD_DIRECTORY;
        }
        if (id == 1) {
            size_t used = 0;
            for (int i = 0; i < 3; i++) {
                if (*fields[i] != 0xffffffffu) {
                    continue;
                }
                if (n - used < 8) {
                    return T2M_ZIP_BAD_DIRECTORY;
                }
                *fields[i] = t2m_le64(extra + at + used);
                used += 8;
            }
            return T2M_OK;
        }
        at += n;
    }
    return T2M_ZIP_BAD_DIRECTORY;
}

/* Checks the local header and finds where the contents start. */
static t2m_status
locate(const uint8_t *file, uint64_t limit, const extents *e,
       t2m_zip_entry *entry)
{
    if (limit < LOCAL_SIZE || e->local > limit - LOCAL_SIZE ||
        t2m_le32(file + e->local) != T2M_ZIP_MAGIC) {
        return T2M_ZIP_LOCAL_HEADER;
    }
    const uint8_t *p = file + e->local;
    uint64_t name = t2m_le16(p + 26);
    entry->data = e->local + LOCAL_SIZE + name + t2m_le16(p + 28);
    entry->length = e->size;
    if (name != entry->name_length || e->local + LOCAL_SIZE + name > limit ||
        memcmp(p + LOCAL_SIZE, entry->name, name) != 0 ||
        t2m_le16(p + 8) != 0) {
        return T2M_ZIP_LOCAL_HEADER;
    }
    if (entry->data > limit || e->size > limit - entry->data) {
        return T2M_TRUNCATED;
    }
    return T2M_OK;
}

/* Reads one central entry at *at, which moves behind it. */
static t2m_status
read_central(const uint8_t *file, uint64_t *at, const directory *dir,
             t2m_zip_entry *entry, t2m_where *where)
{
    uint64_t end = dir->offset + dir->size;
    const uint8_t *p = file + *at;
    t2m_status status;

    where->offset = *at;
    where->name[0] = '\0';
    if (end - *at < CENTRAL_SIZE || t2m_le32(p) != CENTRAL_MAGIC) {
        return T2M_ZIP_BAD_DIRECTORY;
    }
    uint64_t name = t2m_le16(p + 28), extra = t2m_le16(p + 30);
    uint64_t total = CENTRAL_SIZE + name + extra + t2m_le16(p + 32);
    if (end - *at < total) {
        return T2M_ZIP_BAD_DIRECTORY;
    }
    entry->name = (const char *)p + CENTRAL_SIZE;
    entry->name_length = name;
    entry->crc = t2m_le32(p + 16);
    t2m_where_name(where, entry->name, name);
    if (t2m_le16(p + 8) & 1) {
        return T2M_ZIP_ENCRYPTED;
    }
    if (t2m_le16(p + 10) != 0) {
        return T2M_ZIP_COMPRESSED;
    }
    extents e = {t2m_le32(p + 20), t2m_le32(p + 24), t2m_le32(p + 42)};
    if (e.packed == 0xffffffffu || e.size == 0xffffffffu ||
        e.local == 0xffffffffu) {
        status = read_extra64(p + CENTRAL_SIZE + name, extra, &e);
        if (status != T2M_OK) {
            return status;
        }
    }
    if (e.packed != e.size) {
        return T2M_ZIP_BAD_DIRECTORY;
    }
    *at += total;
    return locate(file, dir->offset, &e, entry);
}

static int
compare_names(const char *a, size_t n, const char *b, size_t m)
{
    int c = memcmp(a, b, n < m ? n : m);
    return c ? c : (n > m) - (n < m);
}

static int
by_name(const void *a, const void *b)
{
    const t2m_zip_entry *x = a, *y = b;
    return compare_names(x->name, x->name_length, y->name, y->name_length);
}

static int
by_data(const void *a, const void *b)
{
    const t2m_zip_entry *x = a, *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return (x->length > y->length) - (x->length < y->length);
}

/* Refuses overlapping contents, then sorts by name and refuses repeats. */
static t2m_status
check_entries(t2m_zip *zip, t2m_where *where)
{
    qsort(zip->entries, zip->count, sizeof *zip->entries, by_data);
    for (size_t i = 1; i < zip->count; i++) {
        t2m_zip_entry *e = &zip->entries[i];
        if (e->data < e[-1].data + e[-1].length) {
            where->offset = e->data;
            t2m_where_name(where, e->name, e->name_length);
            return T2M_ZIP_OVERLAP;
        }
    }
    qsort(zip->entries, zip->count, sizeof *zip->entries, by_name);
    for (size_t i = 1; i < zip->count; i++) {
        t2m_zip_entry *e = &zip->entries[i];
        if (by_name(e - 1, e) == 0) {
            where->offset = e->data;
            t2m_where_name(where, e->name, e->name_length);
            return T2M_ZIP_DUPLICATE;
        }
    }
    return T2M_OK;
}

t2m_status
t2m_zip_parse(const uint8_t *file, uint64_t length, t2m_zip *out,
              t2m_where *where)
{
    directory dir = {0, 0, 0};
    t2m_status status;

    memset(out, 0, sizeof *out);
    memset(where, 0, sizeof *where);
    status = read_end(file, length, &dir, where);
    if (status != T2M_OK) {
        return status;
    }
    /* Bounded by the file: an entry takes 46 bytes of its directory. */
    out->entries = calloc(dir.entries + 1, sizeof *out->entries);
    if (!out->entries) {
        return T2M_NO_MEMORY;
    }
    uint64_t at = dir.offset;
    for (; out->count < dir.entries && status == T2M_OK; out->count++) {
        status =
            read_central(file, &at, &dir, &out->entries[out->count], where);
    }
    if (status == T2M_OK && at != dir.offset + dir.size) {
        where->offset = at;
        status = T2M_ZIP_BAD_DIRECTORY;
    }
    if (status == T2M_OK) {
        status = check_entries(out, where);
    }
    if (status != T2M_OK) {
        t2m_zip_free(out);
    }
    return status;
}

void
t2m_zip_free(t2m_zip *zip)
{
    free(zip->entries);
    zip->entries = NULL;
    zip->count = 0;
}

const t2m_zip_entry *
t2m_zip_find(const t2m_zip *zip, const char *name, size_t length)
{
    size_t low = 0, high = zip->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const t2m_zip_entry *e = &zip->entries[mid];
        int c = compare_names(e->name, e->name_length, name, length);
        if (c == 0) {
            return e;
        }
        if (c < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

t2m_status
t2m_zip_check(const uint8_t *file, const t2m_zip_entry *entry)
{
    return t2m_crc32(0, file + entry->data, entry->length, 1) == entry->crc
               ? T2M_OK
               : T2M_ZIP_CRC;
}
