/* A bounded JSON tokenizer (RFC 8259), for headers and index files.

   Tokens point into the text; nothing is allocated.  The caller walks the
   document with t2m_json_next and keeps the nesting it expects itself. */
#ifndef T2M_JSON_H
#define T2M_JSON_H

#include "status.h"

#include <stdint.h>
#include <stddef.h>

/* Deeper nesting than this is refused (the limit of safetensors' library). */
#define T2M_JSON_MAX_DEPTH 127

typedef struct {
    const uint8_t *text;
    size_t length;
    size_t at; /* next byte to read; where an error happened */
} t2m_json;

typedef struct {
    const uint8_t *text; /* between the quotes, escapes undecoded */
    size_t length;
    int escaped; /* 1: holds escapes */
} t2m_json_string;

/* Skips white space; returns the next byte without taking it, or 0 at the
   end of the text. */
int t2m_json_peek(t2m_json *json);

/* Takes one byte that must be `c` after white space, else JSON_SYNTAX. */
t2m_status t2m_json_expect(t2m_json *json, int c);

/* Takes one byte after white space when it is `c`; returns whether it was. */
int t2m_json_accept(t2m_json *json, int c);

/* Steps on within a container that ends with `close`: *more gets whether a
   further member follows.  `first`: none of them was taken yet. */
t2m_status t2m_json_next(t2m_json *json, int close, int first, int *more);

/* Takes null. */
t2m_status t2m_json_take_null(t2m_json *json);

/* Takes a string; checks UTF-8, control characters and escapes. */
t2m_status t2m_json_take_string(t2m_json *json, t2m_json_string *out);

/* Takes a number that is a plain unsigned 64-bit integer. */
t2m_status t2m_json_take_u64(t2m_json *json, uint64_t *out);

/* Skips any value that lies in `depth` containers; all together may be at
   most T2M_JSON_MAX_DEPTH.  Numbers must be in the range of a double. */
t2m_status t2m_json_skip(t2m_json *json, int depth);

/* Decodes a string into out, which has room for string->length bytes;
   returns the number of bytes written (never more than that room). */
size_t t2m_json_decode(const t2m_json_string *string, uint8_t *out);

/* Returns 1 when bytes are valid UTF-8 without surrogates, else 0 with the
   offset of the first bad byte in *bad. */
int t2m_utf8_valid(const uint8_t *text, size_t length, size_t *bad);

#endif
