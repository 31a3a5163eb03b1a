/* Bytes -> the numbers and the characters of strings. Builds on json_scan.h; makes no objects. */
#ifndef ERLMCP_JSON_READ_H
#define ERLMCP_JSON_READ_H

#include "json_float.h"
#include "json_scan.h"
#include "json_text.h"

/* --- numbers --- */

enum { JSON_NUMBER_OTHER = 0, JSON_NUMBER_INT = 1, JSON_NUMBER_DOUBLE = 2, JSON_NUMBER_FAST_BYTES = 32 };

/* Eight digits of which the first one is lowest: three multiplications that add up neighbours. */
static inline uint64_t json_add_digits8(uint64_t x) {
    x = (x & 0x0F0F0F0F0F0F0F0Fu) * 2561 >> 8;
    x = (x & 0x00FF00FF00FF00FFu) * 6553601 >> 16;
    return (x & 0x0000FFFF0000FFFFu) * 42949672960001u >> 32;
}

/* Past the digits at p, which are put after those in *digits, eight at once as long as there are so many. */
static inline const char *json_read_digits(const char *p, const char *end, uint64_t *digits) {
#if JSON_LITTLE_ENDIAN
    uint64_t x;
    for (; end - p >= 8; p += 8) {
        memcpy(&x, p, 8);
        x ^= 0x3030303030303030u;
        if ((((x + 0x7676767676767676u) | x) & 0x8080808080808080u) != 0) {
            break;
        }
        *digits = *digits * 100000000 + json_add_digits8(x);
    }
#endif
    for (; p < end && (unsigned char)(*p - '0') <= 9; p++) {
        *digits = *digits * 10 + (uint64_t)(*p - '0');
    }
    return p;
}

/* The same for the digits that begin a number: fewer than eight are moved up, so that zeros stand before them. */
static inline const char *json_read_first_digits(const char *p, const char *end, uint64_t *digits) {
    if (end - p > 1 && (unsigned char)(*p - '0') <= 9 && (unsigned char)(p[1] - '0') > 9) {
        *digits = (uint64_t)(*p - '0');
        return p + 1;
    }
#if JSON_LITTLE_ENDIAN
    static const uint32_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    if (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        x ^= 0x3030303030303030u;
        uint64_t other = ((x + 0x7676767676767676u) | x) & 0x8080808080808080u;
        if (other != 0) {
            int count = __builtin_ctzll(other) >> 3;
            *digits = *digits * tens[count] + json_add_digits8(x << (56 - 8 * count) << 8);
            return p + count;
        }
    }
#endif
    return json_read_digits(p, end, digits);
}

/* Past the zeros that begin a decimal fraction, and its point: at its first digit that counts. What begins otherwise is
 * left as it is. */
static inline const char *json_skip_zeros(const char *p, const char *end) {
    if (*p == '0') {
        for (p += 2; p < end && *p == '0'; p++) {
        }
    }
    return p;
}

/* One pass over a number that is usual: a whole one within int64_t, or at most 19 digits with an exponent of at most
 * 3. Past it, with its kind and its value; JSON_NUMBER_OTHER for everything else, among it what is no number. */
static const char *json_read_number(const char *p, const char *end, int *kind, int64_t *whole, double *real) {
    const int negative = *p == '-';
    const char *start = p + negative, *point;
    uint64_t digits = 0;
    int scale = 0;
    *kind = JSON_NUMBER_OTHER;
    if (end - start > JSON_NUMBER_FAST_BYTES) {
        end = start + JSON_NUMBER_FAST_BYTES;
    }
    p = json_read_first_digits(start, end, &digits);
    if (p == start || p - start > 19 || (*start == '0' && p - start > 1)) {
        return p;
    }
    if (p == end || (*p != '.' && (*p | 0x20) != 'e')) {
        *kind = digits <= INT64_MAX ? JSON_NUMBER_INT : JSON_NUMBER_OTHER;
        *whole = negative ? -(int64_t)digits : (int64_t)digits;
        return p;
    }
    if (*p == '.') {
        point = p++;
        p = json_read_digits(p, end, &digits);
        scale = (int)(point + 1 - p);
        if (scale == 0 || (p - start > 20 && p - json_skip_zeros(start, p) > 19)) {
            return p;
        }
    }
    if (p < end && (*p | 0x20) == 'e') {
        int power = 0, down = end - p > 1 && p[1] == '-';
        const char *first = p + 1 + (end - p > 1 && (p[1] == '-' || p[1] == '+'));
        for (p = first; p < end && (unsigned char)(*p - '0') <= 9; p++) {
            power = power * 10 + (*p - '0');
            if (p - first > 3) {
                return p;
            }
        }
        if (p == first) {
            return p;
        }
        scale += down ? -power : power;
    }
    if (p - start < JSON_NUMBER_FAST_BYTES && json_nearest_double(digits, scale, negative, real)) {
        *kind = JSON_NUMBER_DOUBLE;
    }
    return p;
}

/* --- strings --- */

typedef struct {
    const char *past;  /* past the closing quote */
    size_t count;      /* characters */
    uint32_t max_rune; /* not below the highest one; within its storage class (ASCII, one byte, two, four) */
} json_text_t;

/* The highest character that a sequence with this lead byte can name, or the highest of its storage class. */
static inline uint32_t json_class_of(uint32_t lead) {
    return lead < 0x80 ? 0x7F : lead < 0xC4 ? 0xFF : lead < 0xF0 ? 0xFFFF : 0x10FFFF;
}

#if JSON_X86
static inline int json_has_quote64(const char *p) {
    __m128i hit = _mm_setzero_si128();
    for (int i = 0; i < 64; i += 16) {
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(p + i)), _mm_set1_epi8('"')));
    }
    return _mm_movemask_epi8(hit) != 0;
}
#endif

/* The next place at which json_measure must look. */
static inline const char *json_measure_plain(const char *p, const char *end, size_t *count) {
    const char *start = p;
    p = end - p >= JSON_AHEAD ? json_peek_plain(p) : p;
    if (p < end && !json_is_special((unsigned char)*p)) {
        p = json_plain_run(p, end);
    }
    *count += (size_t)(p - start);
    return p;
}

/* Validates and measures the string whose opening quote is just before `start` and whose plain beginning ends at p. */
static int
json_measure(const char *start, const char *p, const char *end, json_text_t *text, json_fail_t *fail) {
    size_t count = (size_t)(p - start);
    uint32_t rune, max_rune = 0x7F, lead_max = 0;
#if JSON_X86
    const char *blocks = start; /* from here on whole blocks are worth a look: not where one was refused */
#endif
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
#if JSON_X86
        if (p >= blocks && end - p >= 64 && (c == '\\' || c >= 0x80) && json_has_avx2()) {
            blocks = p + 64;
            if (p - start >= 64 || !json_has_quote64(p)) {
                next = json_measure_blocks(p, end, &count, &lead_max);
                blocks = next + 64;
                if (next > p) {
                    p = json_measure_plain(next, end, &count);
                    continue;
                }
            }
        }
#endif
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
            next = json_utf8_count(p, end, &count, &lead_max);
            if (next < end && (unsigned char)*next >= 0x80) {
                json_fail_at(fail, JSON_E_UTF8, next);
                return -1;
            }
        } else {
            json_fail_at(fail, JSON_E_CONTROL, p);
            return -1;
        }
        p = json_measure_plain(next, end, &count);
    }
    text->past = p + 1;
    text->count = count;
    text->max_rune = json_class_of(lead_max) > max_rune ? json_class_of(lead_max) : max_rune;
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

/* One escape at p, of a body that was validated. */
static inline const char *json_read_escape(const char *p, const char *end, uint32_t *rune) {
    static const char simple[128] = {
        ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t',
    };
    json_fail_t fail;
    *rune = (unsigned char)simple[p[1] & 127];
    return *rune ? p + 2 : json_escape(p, end, rune, &fail);
}

/* Writes `count` characters of a measured string body; one function for each storage width. */
#if JSON_X86
#define JSON_TRY_BLOCKS(WIDTH, TYPE)                                                                                   \
    if (!json_has_avx2()) {                                                                                            \
        JSON_COPY_RUN(TYPE)                                                                                            \
    } else if (end - p >= 18 && out_end - out >= 16) {                                                                 \
        out = json_fill_blocks##WIDTH(out, out_end, &p, end);                                                          \
    }
#else
#define JSON_TRY_BLOCKS(WIDTH, TYPE) JSON_COPY_RUN(TYPE)
#endif
#define JSON_COPY_RUN(TYPE)                                                                                            \
    few = 4;                                                                                                           \
    for (const char *stop = json_plain_run(p, end); p < stop; p++) {                                                   \
        *out++ = (TYPE)*p;                                                                                             \
    }

#define JSON_FILL(WIDTH, TYPE)                                                                                         \
    static void json_fill##WIDTH(const char *p, const char *end, TYPE *out, const TYPE *out_end) {                     \
        uint32_t rune;                                                                                                 \
        int few = 16;                                                                                                  \
        (void)out_end;                                                                                                 \
        while (p < end) {                                                                                              \
            JSON_TRY_BLOCKS(WIDTH, TYPE)                                                                               \
            /* What is left, or was met. */                                                                            \
            for (int i = 0; i < few && p < end; i++) {                                                                 \
                unsigned char c = (unsigned char)*p;                                                                   \
                if (c >= 0x80) {                                                                                       \
                    p = json_read_rune(p, &rune);                                                                      \
                } else if (c != '\\') {                                                                                \
                    rune = c;                                                                                          \
                    p++;                                                                                               \
                } else {                                                                                               \
                    p = json_read_escape(p, end, &rune);                                                               \
                }                                                                                                      \
                *out++ = (TYPE)rune;                                                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }

JSON_FILL(1, uint8_t)
JSON_FILL(2, uint16_t)
JSON_FILL(4, uint32_t)

/* `data` has room for the measured `count` of characters of `kind` bytes each. */
static inline void json_fill(const char *p, const char *end, int kind, int is_ascii, void *data, size_t count) {
    uint8_t *bytes = (uint8_t *)data;
#if JSON_X86
    if (is_ascii && count >= 64 && json_vectors >= JSON_VBMI2 && json_has_avx512() &&
        __builtin_cpu_supports("avx512vbmi2")) {
        bytes = json_fill_ascii_avx512(bytes, bytes + count, &p, end);
        count -= (size_t)(bytes - (uint8_t *)data);
    }
#endif
    if (kind == 1) {
        json_fill1(p, end, bytes, bytes + count);
    } else if (kind == 2) {
        json_fill2(p, end, (uint16_t *)data, (uint16_t *)data + count);
    } else {
        json_fill4(p, end, (uint32_t *)data, (uint32_t *)data + count);
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
