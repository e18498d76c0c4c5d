#include "json.h"

#include <float.h>
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

int
t2m_json_accept(t2m_json *json, int c)
{
    if (t2m_json_peek(json) != c || json->at >= json->length) {
        return 0;
    }
    json->at++;
    return 1;
}

t2m_status
t2m_json_next(t2m_json *json, int close, int first, int *more)
{
    *more = !t2m_json_accept(json, close);
    return first || !*more ? T2M_OK : t2m_json_expect(json, ',');
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

/* A decimal number as significand * 10^exponent, cut to 64 bits. */
typedef struct {
    uint64_t significand;
    int64_t exponent;
} decimal;

static int
is_digit(const t2m_json *json)
{
    return json->at < json->length && json->text[json->at] >= '0' &&
           json->text[json->at] <= '9';
}

/* Takes the digits before or after the point; returns how many there were.
   What does not fit counts as powers of ten before the point, and not at all
   after it. */
static size_t
digits(t2m_json *json, decimal *d, int fraction)
{
    size_t start = json->at;
    int full = 0;

    for (; is_digit(json); json->at++) {
        uint64_t digit = json->text[json->at] - (uint64_t)'0', next;
        full = full || __builtin_mul_overflow(d->significand, 10u, &next) ||
               __builtin_add_overflow(next, digit, &next);
        if (!full) {
            d->significand = next;
        }
        d->exponent += fraction ? -!full : full;
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

/* Takes what follows the 'e'; adds it, up to far beyond any double. */
static int
exponent(t2m_json *json, decimal *d)
{
    int64_t value = 0;
    int minus = json->at < json->length && json->text[json->at] == '-';

    take_byte(json, '+', '-');
    size_t start = json->at;
    for (; is_digit(json); json->at++) {
        if (value <= INT32_MAX) {
            value = value * 10 + (json->text[json->at] - '0');
        }
    }
    d->exponent += minus ? -value : value;
    return json->at > start;
}

/* Whether a number is a finite double, by the arithmetic of safetensors'
   library: the significand is rounded first, then multiplied. */
static int
is_finite(const decimal *d)
{
    static const double powers[] = {
        1e289, 1e290, 1e291, 1e292, 1e293, 1e294, 1e295, 1e296, 1e297, 1e298,
        1e299, 1e300, 1e301, 1e302, 1e303, 1e304, 1e305, 1e306, 1e307, 1e308,
    };
    if (d->significand == 0 || d->exponent < 289) {
        return 1;
    }
    return d->exponent <= 308 &&
           (double)d->significand * powers[d->exponent - 289] <= DBL_MAX;
}

static t2m_status
skip_number(t2m_json *json)
{
    decimal d = {0, 0};

    take_byte(json, '-', '-');
    size_t start = json->at;
    size_t whole = digits(json, &d, 0);
    if (whole == 0 || (whole > 1 && json->text[start] == '0')) {
        return T2M_JSON_SYNTAX;
    }
    if (take_byte(json, '.', '.') && digits(json, &d, 1) == 0) {
        return T2M_JSON_SYNTAX;
    }
    if (take_byte(json, 'e', 'E') && !exponent(json, &d)) {
        return T2M_JSON_SYNTAX;
    }
    return is_finite(&d) ? T2M_OK : T2M_JSON_RANGE;
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

t2m_status
t2m_json_take_null(t2m_json *json)
{
    return t2m_json_peek(json) == 'n' ? skip_word(json, "null")
                                      : T2M_JSON_TYPE;
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

/* Recursion is bounded by T2M_JSON_MAX_DEPTH. */
t2m_status
t2m_json_skip(t2m_json *json, int depth)
{
    int c = t2m_json_peek(json), more;
    t2m_json_string key;
    t2m_status status;

    if (c != '{' && c != '[') {
        return skip_scalar(json, c);
    }
    if (depth >= T2M_JSON_MAX_DEPTH) {
        return T2M_DEPTH;
    }
    json->at++;
    for (int first = 1;; first = 0) {
        status = t2m_json_next(json, c == '{' ? '}' : ']', first, &more);
        if (status != T2M_OK || !more) {
            return status;
        }
        if (c == '{' &&
            ((status = t2m_json_take_string(json, &key)) != T2M_OK ||
             (status = t2m_json_expect(json, ':')) != T2M_OK)) {
            return status;
        }
        if ((status = t2m_json_skip(json, depth + 1)) != T2M_OK) {
            return status;
        }
    }
}
