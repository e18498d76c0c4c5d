/* The layout read and written here:

     u64 little-endian   n, length of the header
     n bytes             JSON: {"__metadata__": {"key": "text", ...},
                                "name": {"dtype": "F32", "shape": [2, 3],
                                         "data_offsets": [0, 24]}, ...}
                         starting with '{', padded at its end with spaces
     the rest            tensor bytes, dense, C order, little-endian,
                         without gaps or overlaps                         */
#include "safetensors.h"
#include "json.h"
#include "size.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    t2m_json json;
    t2m_st_header *out;
    size_t capacity, meta_capacity;
    char *next; /* free part of out->text */
    t2m_where *where;
} parser;

/* Decodes a JSON string into the header's text block. */
static const char *
keep(parser *p, const t2m_json_string *s, size_t *length)
{
    const char *at = p->next;
    *length = t2m_json_decode(s, (uint8_t *)p->next);
    p->next += *length;
    return at;
}

/* Makes room for one more item of an array that holds `count`. */
static t2m_status
grow(void **items, size_t *capacity, size_t count, size_t item)
{
    if (count < *capacity) {
        return T2M_OK;
    }
    size_t wanted = *capacity ? *capacity * 2 : 64;
    uint64_t bytes;
    if (t2m_mul(wanted, item, &bytes)) {
        return T2M_OVERFLOW;
    }
    void *bigger = realloc(*items, bytes);
    if (!bigger) {
        return T2M_NO_MEMORY;
    }
    *items = bigger;
    *capacity = wanted;
    return T2M_OK;
}

/* Takes an array of at most `limit` unsigned integers. */
static t2m_status
take_numbers(t2m_json *json, uint64_t *out, int limit, int *count)
{
    t2m_status status = t2m_json_expect(json, '[');
    *count = 0;
    if (status != T2M_OK) {
        return status;
    }
    if (t2m_json_peek(json) == ']') {
        json->at++;
        return T2M_OK;
    }
    for (;;) {
        if (*count == limit) {
            return T2M_BAD_RANK;
        }
        if ((status = t2m_json_take_u64(json, &out[*count])) != T2M_OK) {
            return status;
        }
        ++*count;
        if (t2m_json_peek(json) != ',') {
            return t2m_json_expect(json, ']');
        }
        json->at++;
    }
}

static int
is_text(const t2m_json_string *s, const char *text)
{
    return s->length == strlen(text) && memcmp(s->text, text, s->length) == 0;
}

/* Takes one member of a tensor's object; *seen has a bit per field. */
static t2m_status
take_field(parser *p, t2m_st_entry *e, int *seen)
{
    t2m_json_string field, tag;
    uint64_t offsets[2];
    t2m_status status;
    int n;

    if ((status = t2m_json_take_string(&p->json, &field)) != T2M_OK ||
        (status = t2m_json_expect(&p->json, ':')) != T2M_OK) {
        return status;
    }
    int bit = is_text(&field, "dtype")          ? 1
              : is_text(&field, "shape")        ? 2
              : is_text(&field, "data_offsets") ? 4
                                                : 0;
    if (bit == 0) {
        return T2M_ST_FIELD;
    }
    if (*seen & bit) {
        return T2M_JSON_DUPLICATE;
    }
    *seen |= bit;
    if (bit == 1) {
        if ((status = t2m_json_take_string(&p->json, &tag)) != T2M_OK) {
            return status;
        }
        int id = t2m_dtype_from_tag((const char *)tag.text, tag.length);
        if (id < 0) {
            return T2M_BAD_DTYPE;
        }
        e->dtype = (t2m_dtype)id;
        return T2M_OK;
    }
    if (bit == 2) {
        return take_numbers(&p->json, e->shape, T2M_MAX_RANK, &e->rank);
    }
    status = take_numbers(&p->json, offsets, 2, &n);
    if (status != T2M_OK || n != 2) {
        return status == T2M_OK ? T2M_ST_FIELD : status;
    }
    e->begin = offsets[0];
    e->end = offsets[1];
    return T2M_OK;
}

/* Takes the object of one tensor. */
static t2m_status
take_entry(parser *p, const t2m_json_string *name)
{
    t2m_status status = grow((void **)&p->out->entries, &p->capacity,
                             p->out->count, sizeof *p->out->entries);
    if (status != T2M_OK) {
        return status;
    }
    t2m_st_entry *e = &p->out->entries[p->out->count];
    memset(e, 0, sizeof *e);
    e->name = keep(p, name, &e->name_length);
    t2m_where_name(p->where, e->name, e->name_length);
    if ((status = t2m_json_expect(&p->json, '{')) != T2M_OK) {
        return status == T2M_JSON_SYNTAX ? T2M_JSON_TYPE : status;
    }
    int seen = 0;
    do {
        if ((status = take_field(p, e, &seen)) != T2M_OK) {
            return status;
        }
    } while (t2m_json_peek(&p->json) == ',' && p->json.at++ != 0);
    if ((status = t2m_json_expect(&p->json, '}')) != T2M_OK) {
        return status;
    }
    if (seen != 7) {
        return T2M_ST_FIELD;
    }
    uint64_t count;
    size_t bytes = t2m_dtype_get(e->dtype)->bytes;
    if ((status = t2m_shape_count(e->rank, e->shape, bytes, &count)) !=
        T2M_OK) {
        return status;
    }
    if (e->end < e->begin) {
        return T2M_ST_OFFSETS;
    }
    if (count * bytes != e->end - e->begin) {
        return T2M_BAD_SHAPE;
    }
    p->out->count++;
    return T2M_OK;
}

/* Takes the object of strings under __metadata__. */
static t2m_status
take_metadata(parser *p)
{
    t2m_json_string key, value;
    t2m_status status = t2m_json_expect(&p->json, '{');
    if (status != T2M_OK) {
        return status == T2M_JSON_SYNTAX ? T2M_JSON_TYPE : status;
    }
    if (t2m_json_peek(&p->json) == '}') {
        p->json.at++;
        return T2M_OK;
    }
    do {
        if ((status = t2m_json_take_string(&p->json, &key)) != T2M_OK ||
            (status = t2m_json_expect(&p->json, ':')) != T2M_OK) {
            return status;
        }
        if (t2m_json_peek(&p->json) != '"') {
            return T2M_JSON_TYPE;
        }
        if ((status = t2m_json_take_string(&p->json, &value)) != T2M_OK ||
            (status = grow((void **)&p->out->meta, &p->meta_capacity,
                           p->out->meta_count, sizeof *p->out->meta)) !=
                T2M_OK) {
            return status;
        }
        t2m_st_meta *m = &p->out->meta[p->out->meta_count++];
        m->key = keep(p, &key, &m->key_length);
        m->value = keep(p, &value, &m->value_length);
    } while (t2m_json_peek(&p->json) == ',' && p->json.at++ != 0);
    return t2m_json_expect(&p->json, '}');
}

/* Takes the whole header object. */
static t2m_status
take_header(parser *p)
{
    t2m_json_string name;
    t2m_status status;
    int metadata = 0;

    if ((status = t2m_json_expect(&p->json, '{')) != T2M_OK) {
        return status;
    }
    if (t2m_json_peek(&p->json) == '}') {
        p->json.at++;
    } else {
        do {
            if ((status = t2m_json_take_string(&p->json, &name)) != T2M_OK ||
                (status = t2m_json_expect(&p->json, ':')) != T2M_OK) {
                return status;
            }
            if (!is_text(&name, "__metadata__")) {
                status = take_entry(p, &name);
            } else {
                status = metadata++ ? T2M_JSON_DUPLICATE : take_metadata(p);
            }
            if (status != T2M_OK) {
                return status;
            }
        } while (t2m_json_peek(&p->json) == ',' && p->json.at++ != 0);
        if ((status = t2m_json_expect(&p->json, '}')) != T2M_OK) {
            return status;
        }
    }
    t2m_json_peek(&p->json);
    return p->json.at == p->json.length ? T2M_OK : T2M_TRAILING;
}

static int
compare_names(const t2m_st_entry *a, const t2m_st_entry *b)
{
    size_t n =
        a->name_length < b->name_length ? a->name_length : b->name_length;
    int c = memcmp(a->name, b->name, n);
    return c ? c
             : (a->name_length > b->name_length) -
                   (a->name_length < b->name_length);
}

static int
by_name(const void *a, const void *b)
{
    return compare_names(*(const t2m_st_entry *const *)a,
                         *(const t2m_st_entry *const *)b);
}

static int
by_offset(const void *a, const void *b)
{
    const t2m_st_entry *x = *(const t2m_st_entry *const *)a;
    const t2m_st_entry *y = *(const t2m_st_entry *const *)b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return (x->end > y->end) - (x->end < y->end);
}

static t2m_status
check_layout(t2m_st_entry **sorted, size_t count, uint64_t data_length,
             t2m_where *where)
{
    uint64_t at = 0;

    qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 1; i < count; i++) {
        if (compare_names(sorted[i - 1], sorted[i]) == 0) {
            t2m_where_name(where, sorted[i]->name, sorted[i]->name_length);
            return T2M_JSON_DUPLICATE;
        }
    }
    qsort(sorted, count, sizeof *sorted, by_offset);
    for (size_t i = 0; i < count; i++) {
        const t2m_st_entry *e = sorted[i];
        where->offset = e->begin;
        t2m_where_name(where, e->name, e->name_length);
        if (e->end > data_length) {
            return T2M_ST_OFFSETS;
        }
        if (e->begin != at) {
            return e->begin < at ? T2M_ST_OVERLAP : T2M_ST_HOLE;
        }
        at = e->end;
    }
    where->offset = at;
    where->name[0] = '\0';
    return at == data_length ? T2M_OK : T2M_ST_HOLE;
}

/* Checks that names are unique and the data section is covered exactly. */
static t2m_status
check_entries(t2m_st_header *h, uint64_t data_length, t2m_where *where)
{
    t2m_st_entry **sorted = malloc((h->count + 1) * sizeof *sorted);
    if (!sorted) {
        return T2M_NO_MEMORY;
    }
    for (size_t i = 0; i < h->count; i++) {
        sorted[i] = &h->entries[i];
    }
    t2m_status status = check_layout(sorted, h->count, data_length, where);
    where->offset += h->data_start;
    free(sorted);
    return status;
}

t2m_status
t2m_st_parse(const uint8_t *file, uint64_t length, t2m_st_header *out,
             t2m_where *where)
{
    t2m_status status;
    parser p = {.out = out, .where = where};

    memset(out, 0, sizeof *out);
    memset(where, 0, sizeof *where);
    if (length < 8) {
        where->offset = length;
        return T2M_TRUNCATED;
    }
    uint64_t header = t2m_le64(file);
    if (header > T2M_ST_MAX_HEADER) {
        return T2M_ST_HEADER_LIMIT;
    }
    if (header > length - 8) {
        return T2M_ST_HEADER_LENGTH;
    }
    where->offset = 8;
    if (header == 0 || file[8] != '{') {
        return T2M_ST_HEADER_START;
    }
    out->data_start = 8 + header;
    p.json.text = file + 8;
    p.json.length = header;
    p.next = out->text = malloc(header);
    if (!out->text) {
        status = T2M_NO_MEMORY;
        goto done;
    }
    status = take_header(&p);
    where->offset = 8 + p.json.at;
    if (status == T2M_OK) {
        status = check_entries(out, length - out->data_start, where);
    }
done:
    if (status != T2M_OK) {
        t2m_st_free(out);
    }
    return status;
}

void
t2m_st_free(t2m_st_header *header)
{
    free(header->entries);
    free(header->meta);
    free(header->text);
    memset(header, 0, sizeof *header);
}

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
        put_text(s, "\"__metadata__\":{");
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
