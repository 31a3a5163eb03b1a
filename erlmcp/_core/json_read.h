/* Bytes -> the numbers and the characters of strings. Builds on json_scan.h; makes no objects. */
#ifndef ERLMCP_JSON_READ_H
#define ERLMCP_JSON_READ_H

#include <float.h>

#include "json_scan.h"

/* --- numbers --- */

/* A whole number of at most 18 characters, sign included: always fits. */
static inline int64_t json_read_int(const char *p, size_t n) {
    int64_t value = 0;
    size_t i = *p == '-';
    int negative = (int)i;
    for (; i < n; i++) {
        value = value * 10 + (p[i] - '0');
    }
    return negative ? -value : value;
}

/* The double nearest to a valid number, where that takes one correctly rounded operation on exact operands (Clinger, "How to
 * read floating point numbers accurately", 1990): a significand up to 2**53 and a power of ten up to 10**22. Gives 0 where
 * it does not. */
static int json_read_double(const char *p, size_t n, double *out) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *end = p + n;
    uint64_t digits = 0;
    int count = 0, scale = 0, power = 0, negative = *p == '-', point = 0;
    if (FLT_EVAL_METHOD != 0) {
        return 0;
    }
    for (p += negative; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            point = 1;
            continue;
        }
        digits = digits * 10 + (uint64_t)(*p - '0');
        count += digits != 0;
        scale -= point;
        if (count > 18) {
            return 0;
        }
    }
    if (p < end) {
        int down = p[1] == '-';
        for (p += 1 + (p[1] == '-' || p[1] == '+'); p < end; p++) {
            power = power * 10 + (*p - '0');
            if (power > 10000) {
                return 0;
            }
        }
        scale += down ? -power : power;
    }
    if (digits > ((uint64_t)1 << 53) || scale < -22 || scale > 22) {
        return 0;
    }
    double value = scale < 0 ? (double)digits / powers[-scale] : (double)digits * powers[scale];
    *out = negative ? -value : value;
    return 1;
}

/* --- strings --- */

typedef struct {
    const char *past;  /* past the closing quote */
    size_t count;      /* characters */
    uint32_t max_rune; /* not below the highest one; within its storage class (ASCII, one byte, two, four) */
} json_text_t;

/* Characters in a run of valid UTF-8. */
static size_t json_count_runes(const char *p, const char *end, uint32_t *max_rune) {
    size_t count = 0;
    uint32_t lead_max = 0;
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        count += (c & 0xC0) != 0x80;
        lead_max = c > lead_max ? c : lead_max;
    }
    uint32_t rune = lead_max < 0x80 ? 0x7F : lead_max < 0xC4 ? 0xFF : lead_max < 0xF0 ? 0xFFFF : 0x10FFFF;
    *max_rune = rune > *max_rune ? rune : *max_rune;
    return count;
}

/* Validates and measures the string whose opening quote is just before `start` and whose plain beginning ends at p. */
static int
json_measure(const char *start, const char *p, const char *end, json_text_t *text, json_fail_t *fail) {
    size_t count = (size_t)(p - start);
    uint32_t rune, max_rune = 0x7F;
    for (;;) {
        if (p == end) {
            json_fail_at(fail, JSON_E_END, p);
            return -1;
        }
        unsigned char c = (unsigned char)*p;
        const char *next;
        if (c == '"') {
            break;
        }
        if (c == '\\') {
            if (JSON_LIKELY(end - p > 2 && (p[1] == 'n' || p[1] == '"' || p[1] == '\\'))) {
                next = p + 2;
            } else {
                next = json_escape(p, end, &rune, fail);
                if (next == NULL) {
                    return -1;
                }
                max_rune = rune > max_rune ? rune : max_rune;
            }
            count++;
        } else if (c >= 0x80) {
            next = json_utf8_run(p, end);
            if (next < end && (unsigned char)*next >= 0x80) {
                json_fail_at(fail, JSON_E_UTF8, next);
                return -1;
            }
            count += json_count_runes(p, next, &max_rune);
        } else {
            json_fail_at(fail, JSON_E_CONTROL, p);
            return -1;
        }
        p = json_plain_run(next, end);
        count += (size_t)(p - next);
    }
    text->past = p + 1;
    text->count = count;
    text->max_rune = max_rune;
    return 0;
}

/* One character of valid UTF-8 above ASCII. */
static inline const char *json_read_rune(const char *p, uint32_t *rune) {
    const unsigned char *u = (const unsigned char *)p;
    if (u[0] < 0xE0) {
        *rune = ((u[0] & 0x1Fu) << 6) | (u[1] & 0x3Fu);
        return p + 2;
    }
    if (u[0] < 0xF0) {
        *rune = ((u[0] & 0x0Fu) << 12) | ((u[1] & 0x3Fu) << 6) | (u[2] & 0x3Fu);
        return p + 3;
    }
    *rune = ((u[0] & 0x07u) << 18) | ((u[1] & 0x3Fu) << 12) | ((u[2] & 0x3Fu) << 6) | (u[3] & 0x3Fu);
    return p + 4;
}

/* Writes the characters of a measured string body; one function for each storage width. */
#define JSON_FILL(NAME, TYPE, COPY_RUN)                                                                                  \
    static void NAME(const char *p, const char *end, TYPE *out) {                                                        \
        json_fail_t fail;                                                                                                \
        while (p < end) {                                                                                                \
            uint32_t rune = (unsigned char)*p;                                                                           \
            if (rune >= 0x80) {                                                                                          \
                p = json_read_rune(p, &rune);                                                                            \
                *out++ = (TYPE)rune;                                                                                     \
            } else if (rune == '\\') {                                                                                   \
                p = json_escape(p, end, &rune, &fail);                                                                   \
                *out++ = (TYPE)rune;                                                                                     \
            } else {                                                                                                     \
                const char *stop = json_plain_run(p, end);                                                               \
                COPY_RUN;                                                                                                \
                out += stop - p;                                                                                         \
                p = stop;                                                                                                \
            }                                                                                                            \
        }                                                                                                                \
    }

JSON_FILL(json_fill1, uint8_t, memcpy(out, p, (size_t)(stop - p)))
JSON_FILL(json_fill2, uint16_t, for (ptrdiff_t i = 0; i < stop - p; i++) out[i] = (uint8_t)p[i])
JSON_FILL(json_fill4, uint32_t, for (ptrdiff_t i = 0; i < stop - p; i++) out[i] = (uint8_t)p[i])

/* `data` has room for the measured count of characters of `kind` bytes each. */
static inline void json_fill(const char *p, const char *end, int kind, void *data) {
    if (kind == 1) {
        json_fill1(p, end, (uint8_t *)data);
    } else if (kind == 2) {
        json_fill2(p, end, (uint16_t *)data);
    } else {
        json_fill4(p, end, (uint32_t *)data);
    }
}

/* A hash of a short key, for a cache that compares the bytes anyway. */
static inline uint32_t json_key_hash(const char *p, size_t n) {
    uint64_t a = 0, b = 0;
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t x, y;
        memcpy(&x, p, 4);
        memcpy(&y, p + n - 4, 4);
        a = ((uint64_t)x << 32) | y;
    } else if (n > 0) {
        a = (uint64_t)(unsigned char)p[0] | ((uint64_t)(unsigned char)p[n >> 1] << 8) |
            ((uint64_t)(unsigned char)p[n - 1] << 16);
    }
    a = (a ^ (n * 0x9E3779B97F4A7C15u)) * 0xC2B2AE3D27D4EB4Fu;
    a = (a ^ (a >> 29) ^ b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(a >> 32);
}

#endif
