/* Characters and integers -> JSON text in memory that the caller made sure of. Escapes what RFC 8259, section 7 demands and
 * nothing else: the quote, the backslash and the control characters. Builds on json_scan.h. */
#ifndef ERLMCP_JSON_WRITE_H
#define ERLMCP_JSON_WRITE_H

#include "json_scan.h"

enum { JSON_ESCAPE_BYTES_MAX = 6, JSON_INT_BYTES_MAX = 20 };

/* The escape of a byte below 0x20, a quote or a backslash: up to JSON_ESCAPE_BYTES_MAX bytes. */
static inline char *json_put_escape(char *out, unsigned char c) {
    static const char letters[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu", hex[] = "0123456789abcdef";
    *out++ = '\\';
    if (c >= 0x20) {
        *out++ = (char)c;
        return out;
    }
    *out++ = letters[c];
    if (letters[c] == 'u') {
        out[0] = '0';
        out[1] = '0';
        out[2] = hex[c >> 4];
        out[3] = hex[c & 15];
        out += 4;
    }
    return out;
}

/* The first byte at or after p that must be escaped, or `end`. For UTF-8: bytes above ASCII are left as they are. */
static inline const char *json_unescaped_run(const char *p, const char *end) {
    for (;;) {
        p = json_plain_run(p, end);
        if (p == end || (unsigned char)*p < 0x80) {
            return p;
        }
        while (p < end && (unsigned char)*p >= 0x80) {
            p++;
        }
    }
}

/* The body of a string from UTF-8. `out` has room for 6 * n + 16 bytes: blocks are stored whole before they are looked at. */
static inline char *json_put_body(char *out, const char *p, size_t n) {
    const char *end = p + n;
#if JSON_X86
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        _mm_storeu_si128((__m128i *)out, v);
        /* Unsigned "below 0x20" as a saturating subtraction: bytes above ASCII pass. */
        __m128i hit = _mm_or_si128(
            _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))),
            _mm_cmpeq_epi8(_mm_subs_epu8(v, _mm_set1_epi8(0x1F)), _mm_setzero_si128()));
        uint32_t mask = (uint32_t)_mm_movemask_epi8(hit);
        if (JSON_LIKELY(mask == 0)) {
            p += 16;
            out += 16;
            continue;
        }
        int run = __builtin_ctz(mask);
        out = json_put_escape(out + run, (unsigned char)p[run]);
        p += run + 1;
    }
#endif
#if JSON_LITTLE_ENDIAN
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        memcpy(out, &x, 8);
        /* Without the marks of bytes above ASCII. A wrong mark stands above a right one, so the lowest is right. */
        uint64_t hit = json_special8(x) & ~x;
        if (JSON_LIKELY(hit == 0)) {
            p += 8;
            out += 8;
            continue;
        }
        int run = __builtin_ctzll(hit) >> 3;
        out = json_put_escape(out + run, (unsigned char)p[run]);
        p += run + 1;
    }
#endif
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if (JSON_UNLIKELY(c < 0x20 || c == '"' || c == '\\')) {
            out = json_put_escape(out, c);
        } else {
            *out++ = (char)c;
        }
    }
    return out;
}

/* The body of a string from n characters of `kind` bytes (1: latin-1, 2, 4), as UTF-8. With `out` NULL nothing is written.
 * Gives the size in bytes, or -1 where there is a lone surrogate. `out` has room for that size. */
#define JSON_PUT_RUNES(NAME, TYPE)                                                                                       \
    static ptrdiff_t NAME(char *out, const TYPE *p, size_t n) {                                                          \
        char scratch[8];                                                                                                 \
        ptrdiff_t size = 0;                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                                 \
            uint32_t rune = p[i];                                                                                        \
            char *at = out ? out + size : scratch, *past;                                                                \
            if (rune < 0x20 || rune == '"' || rune == '\\') {                                                            \
                past = json_put_escape(at, (unsigned char)rune);                                                         \
            } else if (rune >= 0xD800 && rune <= 0xDFFF) {                                                               \
                return -1;                                                                                               \
            } else {                                                                                                     \
                past = json_put_rune(at, rune);                                                                          \
            }                                                                                                            \
            size += past - at;                                                                                           \
        }                                                                                                                \
        return size;                                                                                                     \
    }

JSON_PUT_RUNES(json_put_runes1, uint8_t)
JSON_PUT_RUNES(json_put_runes2, uint16_t)
JSON_PUT_RUNES(json_put_runes4, uint32_t)

static inline ptrdiff_t json_put_runes(char *out, int kind, const void *p, size_t n) {
    return kind == 1   ? json_put_runes1(out, (const uint8_t *)p, n)
           : kind == 2 ? json_put_runes2(out, (const uint16_t *)p, n)
                       : json_put_runes4(out, (const uint32_t *)p, n);
}

/* Decimal digits: up to JSON_INT_BYTES_MAX bytes. */
static inline char *json_put_int64(char *out, int64_t value) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657"
        "5859606162636465666768697071727374757677787980818283848586878889909192939495969798"
        "99";
    char digits[JSON_INT_BYTES_MAX], *p = digits + sizeof(digits);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    while (rest >= 100) {
        p -= 2;
        memcpy(p, pairs + rest % 100 * 2, 2);
        rest /= 100;
    }
    if (rest >= 10) {
        p -= 2;
        memcpy(p, pairs + rest * 2, 2);
    } else {
        *--p = (char)('0' + rest);
    }
    if (value < 0) {
        *out++ = '-';
    }
    size_t size = (size_t)(digits + sizeof(digits) - p);
    memcpy(out, p, size);
    return out + size;
}

/* A double that a decimal of at most 15 digits names, written like repr() in its fixed notation: up to 24 bytes, or NULL where it
 * is not such a one.
 *
 * A decimal of up to 15 digits survives the way to a double and back, so two of them never name the same double: if the
 * nearest one with 15 digits divides back to exactly this value, then it is the only one, and without its trailing zeros the
 * shortest. m and the power of ten are exact, so that division rounds once, correctly. */
static char *json_put_short_double(char *out, double value) {
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    double size = value < 0 ? -value : value;
    if (!(size >= 1e-3 && size < 1e15)) {
        return NULL;
    }
    int scale = 15;
    while (scale > 0 && size >= powers[15 - scale]) {
        scale--;
    }
    uint64_t m = (uint64_t)(size * powers[scale] + 0.5);
    if ((double)m / powers[scale] != size) {
        return NULL;
    }
    while (scale > 0 && m % 10 == 0) {
        m /= 10;
        scale--;
    }
    uint64_t unit = 1;
    for (int i = 0; i < scale; i++) {
        unit *= 10;
    }
    if (value < 0) {
        *out++ = '-';
    }
    out = json_put_int64(out, (int64_t)(m / unit));
    *out++ = '.';
    uint64_t rest = m % unit;
    if (scale == 0) {
        *out++ = '0';
    }
    for (int i = scale - 1; i >= 0; i--) {
        out[i] = (char)('0' + rest % 10);
        rest /= 10;
    }
    return out + scale;
}

#endif
