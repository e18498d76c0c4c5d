/* The layout read and written here:

     u64 little-endian   n, length of the header
     n bytes             JSON: {"__metadata__": {"key": "text", ...},
                                "name": {"dtype": "F32", "shape": [2, 3],
                                         "data_offsets": [0, 24]}, ...}
                         written padded at its end with spaces
     the rest            tensor bytes, dense, C order, little-endian,
                         without gaps or overlaps

   What else is read is what the format's own library (0.8) reads: white
   space around the object; "__metadata__": null, as MLX writes it; entries
   with further fields; an entry as an array of its three values; a dtype as
   {"F32": null}; of entries of one name the last. */
#include "safetensors.h"
#include "array.h"
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

static int
is_text(const char *text, size_t length, const char *wanted)
{
    return length == strlen(wanted) && memcmp(text, wanted, length) == 0;
}

/* Takes a key and its colon.  The decoded key lies at p->next, where the
   next string that is kept or taken as a key will overwrite it. */
static t2m_status
take_key(parser *p, size_t *length)
{
    t2m_json_string key;
    t2m_status status = t2m_json_take_string(&p->json, &key);
    if (status != T2M_OK) {
        return status;
    }
    *length = t2m_json_decode(&key, (uint8_t *)p->next);
    return t2m_json_expect(&p->json, ':');
}

/* Takes the start of a container, of which there is no other choice. */
static t2m_status
open_container(t2m_json *json, int c)
{
    t2m_status status = t2m_json_expect(json, c);
    return status == T2M_JSON_SYNTAX ? T2M_JSON_TYPE : status;
}

/* Takes "F32" or {"F32": null}. */
static t2m_status
take_dtype(parser *p, t2m_st_entry *e)
{
    t2m_json *json = &p->json;
    t2m_json_string tag;
    int wrapped = t2m_json_accept(json, '{');
    t2m_status status = t2m_json_take_string(json, &tag);

    if (wrapped && status == T2M_OK &&
        (status = t2m_json_expect(json, ':')) == T2M_OK &&
        (status = t2m_json_take_null(json)) == T2M_OK) {
        status = t2m_json_expect(json, '}');
    }
    if (status != T2M_OK) {
        return status == T2M_JSON_SYNTAX ? T2M_JSON_TYPE : status;
    }
    e->tag = keep(p, &tag, &e->tag_length);
    int id = t2m_dtype_from_tag(e->tag, e->tag_length);
    if (id >= 0) {
        e->dtype = (t2m_dtype)id;
        e->bits = 8 * (unsigned)t2m_dtype_get(e->dtype)->bytes;
        return T2M_OK;
    }
    e->problem = T2M_ST_DTYPE;
    return t2m_foreign_tag(e->tag, e->tag_length, &e->bits) ? T2M_OK
                                                            : T2M_BAD_DTYPE;
}

/* Takes an array of any number of sizes; the first are kept, all are
   multiplied, in the order in which the format's library does. */
static t2m_status
take_shape(t2m_json *json, t2m_st_entry *e)
{
    t2m_status status = open_container(json, '[');
    int more;

    e->sizes = json->text + json->at;
    e->items = 1;
    while (status == T2M_OK &&
           (status = t2m_json_next(json, ']', e->size_count == 0, &more)) ==
               T2M_OK &&
           more) {
        uint64_t size;
        if ((status = t2m_json_take_u64(json, &size)) == T2M_OK) {
            if (e->size_count < T2M_MAX_RANK) {
                e->shape[e->size_count] = size;
            }
            e->size_count++;
            e->overflows |= t2m_mul(e->items, size, &e->items);
        }
    }
    e->sizes_length = (size_t)(json->text + json->at - e->sizes);
    return status;
}

static t2m_status
take_offsets(t2m_json *json, t2m_st_entry *e)
{
    t2m_status status;

    if ((status = open_container(json, '[')) != T2M_OK ||
        (status = t2m_json_take_u64(json, &e->begin)) != T2M_OK ||
        (status = t2m_json_expect(json, ',')) != T2M_OK ||
        (status = t2m_json_take_u64(json, &e->end)) != T2M_OK) {
        return status;
    }
    return t2m_json_expect(json, ']');
}

enum {
    HAS_DTYPE = 1,
    HAS_SHAPE = 2,
    HAS_OFFSETS = 4,
    HAS_ALL = 7,
};

static t2m_status
take_value(parser *p, t2m_st_entry *e, int field)
{
    return field == HAS_DTYPE   ? take_dtype(p, e)
           : field == HAS_SHAPE ? take_shape(&p->json, e)
                                : take_offsets(&p->json, e);
}

/* Takes one member of a tensor's object; *seen has a bit per field. */
static t2m_status
take_field(parser *p, t2m_st_entry *e, int *seen)
{
    size_t n;
    t2m_status status = take_key(p, &n);
    if (status != T2M_OK) {
        return status;
    }
    int field = is_text(p->next, n, "dtype")          ? HAS_DTYPE
                : is_text(p->next, n, "shape")        ? HAS_SHAPE
                : is_text(p->next, n, "data_offsets") ? HAS_OFFSETS
                                                      : 0;
    if (field == 0) {
        return t2m_json_skip(&p->json, 2);
    }
    if (*seen & field) {
        return T2M_JSON_DUPLICATE;
    }
    *seen |= field;
    return take_value(p, e, field);
}

/* Takes a tensor's fields, from an object by their names, from an array by
   their order; checks that all are there, and nothing else in an array. */
static t2m_status
take_fields(parser *p, t2m_st_entry *e)
{
    int in_array = t2m_json_accept(&p->json, '[');
    t2m_status status = in_array ? T2M_OK : open_container(&p->json, '{');
    int seen = 0, count = 0, more;

    while (status == T2M_OK &&
           (status = t2m_json_next(&p->json, in_array ? ']' : '}', count == 0,
                                   &more)) == T2M_OK &&
           more) {
        if (!in_array) {
            status = take_field(p, e, &seen);
        } else if (count == 3) {
            return T2M_ST_FIELD;
        } else {
            seen |= 1 << count;
            status = take_value(p, e, 1 << count);
        }
        count++;
    }
    return status == T2M_OK && seen != HAS_ALL ? T2M_ST_FIELD : status;
}

/* Takes the entry of the tensor whose name, of n bytes, is at p->next. */
static t2m_status
take_entry(parser *p, size_t n)
{
    t2m_status status = t2m_array_grow((void **)&p->out->entries, &p->capacity,
                                       p->out->count, sizeof *p->out->entries);
    if (status != T2M_OK) {
        return status;
    }
    t2m_st_entry *e = &p->out->entries[p->out->count];
    memset(e, 0, sizeof *e);
    e->name = p->next;
    e->name_length = n;
    p->next += n;
    t2m_where_name(p->where, e->name, e->name_length);
    status = take_fields(p, e);
    p->out->count += status == T2M_OK;
    return status;
}

/* Takes the object of strings under __metadata__, or null. */
static t2m_status
take_metadata(parser *p)
{
    t2m_json_string key, value;
    t2m_status status;
    int more;

    if (t2m_json_peek(&p->json) == 'n') {
        return t2m_json_take_null(&p->json);
    }
    status = open_container(&p->json, '{');
    for (int first = 1; status == T2M_OK; first = 0) {
        status = t2m_json_next(&p->json, '}', first, &more);
        if (status != T2M_OK || !more) {
            return status;
        }
        if ((status = t2m_json_take_string(&p->json, &key)) != T2M_OK ||
            (status = t2m_json_expect(&p->json, ':')) != T2M_OK) {
            return status;
        }
        if (t2m_json_peek(&p->json) != '"') {
            return T2M_JSON_TYPE;
        }
        if ((status = t2m_json_take_string(&p->json, &value)) != T2M_OK ||
            (status = t2m_array_grow((void **)&p->out->meta, &p->meta_capacity,
                                     p->out->meta_count,
                                     sizeof *p->out->meta)) != T2M_OK) {
            return status;
        }
        t2m_st_meta *m = &p->out->meta[p->out->meta_count++];
        m->key = keep(p, &key, &m->key_length);
        m->value = keep(p, &value, &m->value_length);
    }
    return status;
}

/* Takes the whole header object. */
static t2m_status
take_header(parser *p)
{
    t2m_status status = t2m_json_expect(&p->json, '{');
    int metadata = 0, more;
    size_t n;

    for (int first = 1; status == T2M_OK; first = 0) {
        status = t2m_json_next(&p->json, '}', first, &more);
        if (status != T2M_OK || !more) {
            break;
        }
        if ((status = take_key(p, &n)) != T2M_OK) {
            return status;
        }
        if (!is_text(p->next, n, T2M_ST_RESERVED)) {
            status = take_entry(p, n);
        } else {
            status = metadata++ ? T2M_JSON_DUPLICATE : take_metadata(p);
        }
    }
    if (status != T2M_OK) {
        return status;
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

/* By name; of one name in the order of the header. */
static int
by_name(const void *a, const void *b)
{
    const t2m_st_entry *x = *(const t2m_st_entry *const *)a;
    const t2m_st_entry *y = *(const t2m_st_entry *const *)b;
    int c = compare_names(x, y);
    return c ? c : (x > y) - (x < y);
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

static void
list_entries(t2m_st_header *h, t2m_st_entry **list)
{
    for (size_t i = 0; i < h->count; i++) {
        list[i] = &h->entries[i];
    }
}

/* Keeps the last entry of each name, in the order of the header. */
static void
drop_repeated(t2m_st_header *h, t2m_st_entry **list)
{
    size_t kept = 0;

    list_entries(h, list);
    qsort(list, h->count, sizeof *list, by_name);
    for (size_t i = 1; i < h->count; i++) {
        list[i - 1]->repeated = compare_names(list[i - 1], list[i]) == 0;
    }
    for (size_t i = 0; i < h->count; i++) {
        if (!h->entries[i].repeated) {
            h->entries[kept++] = h->entries[i];
        }
    }
    h->count = kept;
}

/* Checks an entry's bytes against its shape, and notes why a sound entry
   cannot be a tensor here. */
static t2m_status
check_entry(t2m_st_entry *e)
{
    uint64_t bits, count;

    if (e->overflows || t2m_mul(e->items, e->bits, &bits)) {
        return T2M_OVERFLOW;
    }
    if (bits % 8) {
        return T2M_ST_BITS;
    }
    if (e->bits && bits / 8 != e->end - e->begin) {
        return T2M_BAD_SHAPE;
    }
    if (e->problem == T2M_ST_SOUND && e->size_count > T2M_MAX_RANK) {
        e->problem = T2M_ST_RANK;
    }
    if (e->problem == T2M_ST_SOUND) {
        e->rank = (int)e->size_count;
        if (t2m_shape_count(e->rank, e->shape, e->bits / 8, &count)) {
            e->problem = T2M_ST_SIZE;
        }
    }
    return T2M_OK;
}

/* Checks that the entries cover the data section exactly. */
static t2m_status
check_layout(t2m_st_entry **list, size_t count, uint64_t data_length,
             t2m_where *where)
{
    uint64_t at = 0;
    t2m_status status;

    qsort(list, count, sizeof *list, by_offset);
    for (size_t i = 0; i < count; i++) {
        t2m_st_entry *e = list[i];
        where->offset = e->begin;
        t2m_where_name(where, e->name, e->name_length);
        if (e->end < e->begin || e->end > data_length) {
            return T2M_ST_OFFSETS;
        }
        if (e->begin != at) {
            return e->begin < at ? T2M_ST_OVERLAP : T2M_ST_HOLE;
        }
        if ((status = check_entry(e)) != T2M_OK) {
            return status;
        }
        at = e->end;
    }
    where->offset = at;
    where->name[0] = '\0';
    return at == data_length ? T2M_OK : T2M_ST_HOLE;
}

static t2m_status
check_entries(t2m_st_header *h, uint64_t data_length, t2m_where *where)
{
    t2m_st_entry **list = malloc((h->count + 1) * sizeof *list);
    if (!list) {
        return T2M_NO_MEMORY;
    }
    drop_repeated(h, list);
    list_entries(h, list);
    t2m_status status = check_layout(list, h->count, data_length, where);
    where->offset += h->data_start;
    free(list);
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
    out->data_start = 8 + header;
    p.json.text = file + 8;
    p.json.length = header;
    if (t2m_json_peek(&p.json) != '{') {
        return T2M_ST_HEADER_START;
    }
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
t2m_st_sizes(const t2m_st_entry *entry, uint64_t *out)
{
    t2m_json json = {entry->sizes, entry->sizes_length, 0};

    for (uint64_t i = 0; i < entry->size_count; i++) {
        t2m_json_take_u64(&json, &out[i]);
        t2m_json_accept(&json, ',');
    }
}

void
t2m_st_free(t2m_st_header *header)
{
    free(header->entries);
    free(header->meta);
    free(header->text);
    memset(header, 0, sizeof *header);
}
