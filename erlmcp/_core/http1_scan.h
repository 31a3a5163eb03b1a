/* Byte classes and scans of the HTTP/1.1 grammar (RFC 9110, section 5.6; RFC 9112, section 5). No state. */
#ifndef ERLMCP_HTTP1_SCAN_H
#define ERLMCP_HTTP1_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#if defined(__GNUC__)
#define HTTP1_ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define HTTP1_ALWAYS_INLINE static inline
#endif

enum {
    HTTP1_IS_TCHAR = 1, /* a byte of a token: method, field name */
    HTTP1_IS_TARGET = 2, /* visible ASCII */
    HTTP1_IS_VALUE = 4, /* field value: blank, tab, visible ASCII, obs-text */
    HTTP1_IS_HOST = 8 /* uri-host [ ":" port ] (RFC 3986, section 3.2.2) */
};

#define T 1 | 2 | 4 /* tchar that is no host byte */
#define A 1 | 2 | 4 | 8 /* tchar and host byte */
#define H 2 | 4 | 8 /* host byte that is no tchar */
#define V 2 | 4 /* other visible ASCII */
#define B 4 /* blank, tab, obs-text */
static const uint8_t http1_class[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, B, 0, 0, 0, 0, 0, 0, /* 00: tab */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 10 */
    B, A, V, T, A, A, A, A, H, H, A, A, H, A, A, V, /* 20:   ! " # $ % & ' ( ) * + , - . / */
    A, A, A, A, A, A, A, A, A, A, H, H, V, H, V, V, /* 30: 0-9 : ; < = > ? */
    V, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, /* 40: @ A-O */
    A, A, A, A, A, A, A, A, A, A, A, H, V, H, T, A, /* 50: P-Z [ \ ] ^ _ */
    T, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, /* 60: ` a-o */
    A, A, A, A, A, A, A, A, A, A, A, V, T, V, A, 0, /* 70: p-z { | } ~ DEL */
    B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B,
    B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B,
    B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B,
    B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B,
};
#undef T
#undef A
#undef H
#undef V
#undef B

HTTP1_ALWAYS_INLINE int http1_is(const char* p, size_t i, int kind) {
    return http1_class[(uint8_t)p[i]] & kind;
}

/* The first index from i on that is not of this class, or n. */
HTTP1_ALWAYS_INLINE size_t http1_skip(const char* p, size_t i, size_t n, int kind) {
    while (i < n && http1_is(p, i, kind)) {
        i++;
    }
    return i;
}

/* As http1_skip for field values: 16 bytes at a step where the machine can. */
HTTP1_ALWAYS_INLINE size_t http1_skip_value(const char* p, size_t i, size_t n) {
#if defined(__SSE2__)
    const __m128i blank = _mm_set1_epi8(0x20), rubout = _mm_set1_epi8(0x7f);
    while (i + 16 <= n) {
        __m128i v = _mm_loadu_si128((const __m128i*)(p + i));
        __m128i good = _mm_andnot_si128(_mm_cmpeq_epi8(v, rubout), _mm_cmpeq_epi8(_mm_max_epu8(v, blank), v));
        unsigned bad = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;
        if (bad == 0) {
            i += 16;
            continue;
        }
        i += (size_t)__builtin_ctz(bad);
        if (p[i] != '\t') {
            return i;
        }
        i++;
    }
#endif
    return http1_skip(p, i, n, HTTP1_IS_VALUE);
}

/* As http1_skip for request targets. */
HTTP1_ALWAYS_INLINE size_t http1_skip_target(const char* p, size_t i, size_t n) {
#if defined(__SSE2__)
    const __m128i blank = _mm_set1_epi8(0x20), rubout = _mm_set1_epi8(0x7f);
    while (i + 16 <= n) {
        /* Signed comparison: bytes from 0x80 on are negative, and so not above the blank. */
        __m128i v = _mm_loadu_si128((const __m128i*)(p + i));
        __m128i good = _mm_andnot_si128(_mm_cmpeq_epi8(v, rubout), _mm_cmpgt_epi8(v, blank));
        unsigned bad = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;
        if (bad != 0) {
            return i + (size_t)__builtin_ctz(bad);
        }
        i += 16;
    }
#endif
    return http1_skip(p, i, n, HTTP1_IS_TARGET);
}

HTTP1_ALWAYS_INLINE uint64_t http1_load8(const char* p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

HTTP1_ALWAYS_INLINE uint32_t http1_load4(const char* p) {
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

/* Is p, n >= 4 bytes without control characters, equal to the lower-case literal but for case? Setting bit 0x20 maps
 * only a control character besides the capital onto each letter, digit and dash. Folds to a few word compares for a
 * constant n. */
HTTP1_ALWAYS_INLINE int http1_same(const char* p, const char* literal, size_t n) {
    const uint64_t low = UINT64_C(0x2020202020202020);
    uint64_t wrong = 0;
    if (n < 8) {
        uint32_t a = (http1_load4(p) | (uint32_t)low) ^ http1_load4(literal);
        uint32_t b = (http1_load4(p + n - 4) | (uint32_t)low) ^ http1_load4(literal + n - 4);
        return (a | b) == 0;
    }
    for (size_t i = 0; i + 8 <= n; i += 8) {
        wrong |= (http1_load8(p + i) | low) ^ http1_load8(literal + i);
    }
    wrong |= (http1_load8(p + n - 8) | low) ^ http1_load8(literal + n - 8);
    return wrong == 0;
}
#define HTTP1_SAME(p, literal) http1_same((p), (literal), sizeof(literal) - 1)

static inline int http1_equals(const char* p, size_t n, const char* lower, size_t lower_bytes) {
    if (n != lower_bytes) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c >= 'A' && c <= 'Z') {
            c = (char)(c | 0x20);
        }
        if (c != lower[i]) {
            return 0;
        }
    }
    return 1;
}

/* The next member of a comma-separated list at *i, its blanks trimmed; 0 where there is none. Empty ones count. */
static inline int http1_next_member(const char* p, size_t n, size_t* i, size_t* start, size_t* size) {
    size_t from = *i, to, next;
    if (from > n) {
        return 0;
    }
    const char* comma = from < n ? (const char*)memchr(p + from, ',', n - from) : NULL;
    to = comma ? (size_t)(comma - p) : n;
    next = to + 1;
    while (from < to && (p[from] == ' ' || p[from] == '\t')) {
        from++;
    }
    while (to > from && (p[to - 1] == ' ' || p[to - 1] == '\t')) {
        to--;
    }
    *start = from;
    *size = to - from;
    *i = next;
    return 1;
}

static inline int http1_has_token(const char* value, size_t n, const char* token, size_t token_bytes) {
    size_t i = 0, start, size;
    while (http1_next_member(value, n, &i, &start, &size)) {
        if (http1_equals(value + start, size, token, token_bytes)) {
            return 1;
        }
    }
    return 0;
}

#endif
