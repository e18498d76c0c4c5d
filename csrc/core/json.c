#include "json.h"

#include <string.h>

/* Returns the length of the UTF-8 sequence at p, or 0 when malformed:
   overlong forms, surrogates and code points over U+10FFFF are. */
static size_t
utf8_sequence(const uint8_t *p, size_t left)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80    ? 1
               : p[0] >= 0xf8 ? 0
               : p[0] >= 0xf0 ? 4
               : p[0] >= 0xe0 ? 3
               : p[0] >= 0xc0 ? 2
                              : 0;
    if (n == 0 || n > left) {
        return 0;
    }
    uint32_t code = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3f);
    }
    if (code < least[n] || code > 0x10ffff ||
        (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    return n;
}

int
t2m_utf8_valid(const uint8_t *text, size_t length, size_t *bad)
{
    size_t i = 0;
    while (i < length) {
        size_t n = utf8_sequence(text + i, length - i);
        if (n == 0) {
            *bad = i;
            return 0;
        }
        i += n;
    }
    return 1;
}

int
t2m_json_peek(t2m_json *json)
{
    while (json->at < json->length) {
        uint8_t c = json->text[json->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            return c;
        }
        json->at++;
    }
    return 0;
}

t2m_status
t2m_json_expect(t2m_json *json, int c)
{
    if (t2m_json_peek(json) != c || json->at >= json->length) {
        return json->at >= json->length ? T2M_TRUNCATED : T2M_JSON_SYNTAX;
    }
    json->at++;
    return T2M_OK;
}

static int
hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads four hex digits at p; -1 when they are not. */
static int32_t
hex4(const uint8_t *p, size_t left)
{
    int32_t code = 0;
    if (left < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(p[i]);
        if (d < 0) {
            return -1;
        }
        code = code << 4 | d;
    }
    return code;
}

/* Returns the length of the escape at p (after the backslash), 0 when bad;
   a surrogate counts only as a complete pair. *code gets its meaning. */
static size_t
escape(const uint8_t *p, size_t left, uint32_t *code)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";

    if (left == 0) {
        return 0;
    }
    if (p[0] != 'u') {
        const char *hit = p[0] ? strchr(from, p[0]) : NULL;
        *code = hit ? (uint8_t)to[hit - from] : 0;
        return hit ? 1 : 0;
    }
    int32_t high = hex4(p + 1, left - 1);
    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff)) {
        return 0;
    }
    if (high < 0xd800 || high > 0xdbff) {
        *code = (uint32_t)high;
        return 5;
    }
    if (left < 11 || p[5] != '\\' || p[6] != 'u') {
        return 0;
    }
    int32_t low = hex4(p + 7, left - 7);
    if (low < 0xdc00 || low > 0xdfff) {
        return 0;
    }
    *code =
        0x10000u + (((uint32_t)high & 0x3ff) << 10) + ((uint32_t)low & 0x3ff);
    return 11;
}

t2m_status
t2m_json_take_string(t2m_json *json, t2m_json_string *out)
{
    t2m_status status = t2m_json_expect(json, '"');
    if (status != T2M_OK) {
        return status;
    }
    out->text = json->text + json->at;
    out->escaped = 0;
    while (json->at < json->length) {
        uint8_t c = json->text[json->at];
        size_t left = json->length - json->at;
        size_t n = 1;
        if (c == '"') {
            out->length = (size_t)(json->text + json->at - out->text);
            json->at++;
            return T2M_OK;
        }
        if (c < 0x20) {
            return T2M_JSON_SYNTAX;
        }
        if (c == '\\') {
            uint32_t code;
            n = escape(json->text + json->at + 1, left - 1, &code);
            if (n == 0) {
                return T2M_JSON_SYNTAX;
            }
            n++;
            out->escaped = 1;
        } else if (c >= 0x80) {
            n = utf8_sequence(json->text + json->at, left);
            if (n == 0) {
                return T2M_BAD_UTF8;
            }
        }
        json->at += n;
    }
    return T2M_TRUNCATED;
}

static size_t
put_utf8(uint8_t *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

size_t
t2m_json_decode(const t2m_json_string *string, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < string->length;) {
        if (string->text[i] != '\\') {
            out[n++] = string->text[i++];
            continue;
        }
        uint32_t code = 0;
        i += 1 + escape(string->text + i + 1, string->length - i - 1, &code);
        n += put_utf8(out + n, code);
    }
    return n;
}

t2m_status
t2m_json_take_u64(t2m_json *json, uint64_t *out)
{
    int c = t2m_json_peek(json);
    uint64_t value = 0;
    size_t start = json->at;

    if (c < '0' || c > '9') {
        return json->at >= json->length ? T2M_TRUNCATED : T2M_JSON_NUMBER;
    }
    while (json->at < json->length) {
        uint8_t d = json->text[json->at];
        if (d == '.' || d == 'e' || d == 'E') {
            return T2M_JSON_NUMBER;
        }
        if (d < '0' || d > '9') {
            break;
        }
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(d - '0'), &value)) {
            return T2M_JSON_NUMBER;
        }
        json->at++;
    }
    if (c == '0' && json->at - start > 1) {
        return T2M_JSON_SYNTAX;
    }
    *out = value;
    return T2M_OK;
}

/* Skips the digits of a number; returns how many there were. */
static size_t
digits(t2m_json *json)
{
    size_t start = json->at;
    while (json->at < json->length && json->text[json->at] >= '0' &&
           json->text[json->at] <= '9') {
        json->at++;
    }
    return json->at - start;
}

static int
take_byte(t2m_json *json, char a, char b)
{
    if (json->at < json->length && (json->text[json->at] == (uint8_t)a ||
                                    json->text[json->at] == (uint8_t)b)) {
        json->at++;
        return 1;
    }
    return 0;
}

static t2m_status
skip_number(t2m_json *json)
{
    take_byte(json, '-', '-');
    size_t start = json->at;
    size_t whole = digits(json);
    if (whole == 0 || (whole > 1 && json->text[start] == '0')) {
        return T2M_JSON_SYNTAX;
    }
    if (take_byte(json, '.', '.') && digits(json) == 0) {
        return T2M_JSON_SYNTAX;
    }
    if (take_byte(json, 'e', 'E')) {
        take_byte(json, '+', '-');
        if (digits(json) == 0) {
            return T2M_JSON_SYNTAX;
        }
    }
    return T2M_OK;
}

static t2m_status
skip_word(t2m_json *json, const char *word)
{
    size_t n = strlen(word);
    if (json->length - json->at < n) {
        return T2M_TRUNCATED;
    }
    if (memcmp(json->text + json->at, word, n) != 0) {
        return T2M_JSON_SYNTAX;
    }
    json->at += n;
    return T2M_OK;
}

static t2m_status
skip_scalar(t2m_json *json, int c)
{
    t2m_json_string ignored;
    switch (c) {
    case '"':
        return t2m_json_take_string(json, &ignored);
    case 't':
        return skip_word(json, "true");
    case 'f':
        return skip_word(json, "false");
    case 'n':
        return skip_word(json, "null");
    case 0:
        return json->at >= json->length ? T2M_TRUNCATED : T2M_JSON_SYNTAX;
    default:
        return skip_number(json);
    }
}

/* Skips the members of one container, calling back for nested values. */
static t2m_status
skip_value(t2m_json *json, int depth)
{
    int c = t2m_json_peek(json);
    t2m_json_string key;
    t2m_status status;

    if (c != '{' && c != '[') {
        return skip_scalar(json, c);
    }
    if (depth >= T2M_JSON_MAX_DEPTH) {
        return T2M_DEPTH;
    }
    int close = c == '{' ? '}' : ']';
    json->at++;
    if (t2m_json_peek(json) == close) {
        json->at++;
        return T2M_OK;
    }
    for (;;) {
        if (c == '{') {
            if ((status = t2m_json_take_string(json, &key)) != T2M_OK ||
                (status = t2m_json_expect(json, ':')) != T2M_OK) {
                return status;
            }
        }
        if ((status = skip_value(json, depth + 1)) != T2M_OK) {
            return status;
        }
        if (t2m_json_peek(json) != ',') {
            return t2m_json_expect(json, close);
        }
        json->at++;
    }
}

t2m_status
t2m_json_skip(t2m_json *json)
{
    return skip_value(json, 0);
}
