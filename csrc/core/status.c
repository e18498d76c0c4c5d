#include "status.h"

#include <string.h>

static const char *const messages[] = {
#define STATUS(name, message) message,
#include "status.def"
#undef STATUS
};

static const char *const names[] = {
#define STATUS(name, message) #name,
#include "status.def"
#undef STATUS
};

const char *
t2m_status_message(t2m_status status)
{
    return (unsigned)status < T2M_STATUS_COUNT ? messages[status] : "?";
}

const char *
t2m_status_name(t2m_status status)
{
    return (unsigned)status < T2M_STATUS_COUNT ? names[status] : "?";
}

void
t2m_where_name(t2m_where *where, const void *name, size_t length)
{
    if (length >= sizeof where->name) {
        length = sizeof where->name - 1;
        while (length > 0 &&
               (((const uint8_t *)name)[length] & 0xc0) == 0x80) {
            length--;
        }
    }
    memcpy(where->name, name, length);
    where->name[length] = '\0';
}
