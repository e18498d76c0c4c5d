/* The writer of the format that safetensors.c describes and reads. */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

/* A buffer that counts first and writes in a second pass: NULL bytes only
   add up the length. */
typedef struct {
    uint8_t *bytes;
    uint64_t length;
} sink;

static void
put(sink *s, const void *bytes, size_t n)
{
    if (s->bytes) {
        memcpy(s->bytes + s->length, bytes, n);
    }
    s->length += n;
}

static void
put_text(sink *s, const char *text)
{
    put(s, text, strlen(text));
}

static void
put_number(sink *s, uint64_t value)
{
    char digits[20];
    size_t n = sizeof digits;
    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    put(s, digits + n, sizeof digits - n);
}

static void
put_string(sink *s, const char *text, size_t length)
{
    static const char hex[] = "0123456789abcdef";

    put_text(s, "\"");
    for (size_t i = 0; i < length; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c == '"' || c == '\\') {
            char two[2] = {'\\', (char)c};
            put(s, two, 2);
        } else if (c < 0x20) {
            char six[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            put(s, six, 6);
        } else {
            put(s, &text[i], 1);
        }
    }
    put_text(s, "\"");
}

static void
put_header(sink *s, const t2m_st_entry *entries, size_t count,
           const t2m_st_meta *meta, size_t meta_count)
{
    const char *comma = "";

    put_text(s, "{");
    if (meta_count) {
        put_text(s, "\"" T2M_ST_RESERVED "\":{");
        for (size_t i = 0; i < meta_count; i++) {
            put_text(s, comma);
            put_string(s, meta[i].key, meta[i].key_length);
            put_text(s, ":");
            put_string(s, meta[i].value, meta[i].value_length);
            comma = ",";
        }
        put_text(s, "}");
    }
    for (size_t i = 0; i < count; i++) {
        const t2m_st_entry *e = &entries[i];
        put_text(s, comma);
        put_string(s, e->name, e->name_length);
        put_text(s, ":{\"dtype\":\"");
        put_text(s, t2m_dtype_get(e->dtype)->tag);
        put_text(s, "\",\"shape\":[");
        for (int d = 0; d < e->rank; d++) {
            put_text(s, d ? "," : "");
            put_number(s, e->shape[d]);
        }
        put_text(s, "],\"data_offsets\":[");
        put_number(s, e->begin);
        put_text(s, ",");
        put_number(s, e->end);
        put_text(s, "]}");
        comma = ",";
    }
    put_text(s, "}");
    while (s->length % 8) {
        put_text(s, " ");
    }
}

t2m_status
t2m_st_build(const t2m_st_entry *entries, size_t count,
             const t2m_st_meta *meta, size_t meta_count, uint8_t **out,
             size_t *out_length)
{
    sink s = {NULL, 0};

    for (size_t i = 0; i < count; i++) {
        if (entries[i].name_length == strlen(T2M_ST_RESERVED) &&
            memcmp(entries[i].name, T2M_ST_RESERVED, entries[i].name_length) ==
                0) {
            return T2M_ST_NAME;
        }
    }
    put_header(&s, entries, count, meta, meta_count);
    if (s.length > T2M_ST_MAX_HEADER) {
        return T2M_ST_HEADER_LIMIT;
    }
    uint64_t n = s.length;
    uint8_t *bytes = malloc(n + 8);
    if (!bytes) {
        return T2M_NO_MEMORY;
    }
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(n >> (8 * i));
    }
    s.bytes = bytes + 8;
    s.length = 0;
    put_header(&s, entries, count, meta, meta_count);
    *out = bytes;
    *out_length = n + 8;
    return T2M_OK;
}
