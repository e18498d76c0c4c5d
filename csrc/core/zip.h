/* Reader of the zip archives that torch.save writes: stored entries only.

   A directory owns its array; names and data point into the file's bytes. */
#ifndef T2M_ZIP_H
#define T2M_ZIP_H

#include "status.h"

/* The first four bytes of an archive, and of each entry in it. */
#define T2M_ZIP_MAGIC 0x04034b50u

typedef struct {
    const char *name; /* not terminated */
    size_t name_length;
    uint64_t data, length; /* of the contents, in the file */
    uint32_t crc;
} t2m_zip_entry;

typedef struct {
    t2m_zip_entry *entries; /* sorted by name */
    size_t count;
} t2m_zip;

/* Reads the central directory and checks every local header: bounds, no
   compression, no encryption, no overlap, no duplicate names. */
t2m_status t2m_zip_parse(const uint8_t *file, uint64_t length, t2m_zip *out,
                         t2m_where *where);

void t2m_zip_free(t2m_zip *zip);

/* Returns the entry of this name, or NULL. */
const t2m_zip_entry *t2m_zip_find(const t2m_zip *zip, const char *name,
                                  size_t length);

/* Compares the contents of an entry with its checksum: OK or ZIP_CRC. */
t2m_status t2m_zip_check(const uint8_t *file, const t2m_zip_entry *entry);

#endif
