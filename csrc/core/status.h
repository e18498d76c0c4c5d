/* Status codes: what every core function returns. Strings are static. */
#ifndef T2M_STATUS_H
#define T2M_STATUS_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
#define STATUS(name, message) T2M_##name,
#include "status.def"
#undef STATUS
    T2M_STATUS_COUNT
} t2m_status;

/* Where a reader failed: the byte offset in what it was given, and the name
   of the tensor, entry or global concerned ("" where there is none). */
typedef struct {
    uint64_t offset;
    char name[256];
} t2m_where;

/* Returns the message of a status; never NULL. */
const char *t2m_status_message(t2m_status status);

/* Returns the name of a status ("ZIP_CRC"); never NULL. */
const char *t2m_status_name(t2m_status status);

/* Stores a name (cut at a character boundary when too long). */
void t2m_where_name(t2m_where *where, const void *name, size_t length);

#endif
