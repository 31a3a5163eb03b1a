/* Strict RFC 8259 scanning of bytes that need no copy and make no objects.
 *
 * Goals: one pass, no allocation, no reading at or past `end`, the first offending byte by position, and speed from
 * looking at 16 or 32 bytes at once where the processor can. All functions are static: each compiled room that
 * includes this file gets its own copy, so that the compiler can inline the short ones.
 *
 * A position in a failure is that of the first byte that cannot be: the start of a bad escape or of a bad UTF-8
 * sequence, the dot or the e of a number that lacks digits after it, the opening quote or the first digit of what is
 * over a limit.
 *
 * The checked build takes the plain C path and the sanitizer builds the vector path, so that both stay tested on one
 * machine.
 */
#ifndef ERLMCP_JSON_SCAN_H
#define ERLMCP_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__) && (!defined(ERLMCP_CHECKED) || defined(__SANITIZE_ADDRESS__))
#define JSON_X86 1
#include <immintrin.h>
#else
#define JSON_X86 0
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define JSON_LITTLE_ENDIAN 1
#else
#define JSON_LITTLE_ENDIAN 0
#endif
#define JSON_LIKELY(x) __builtin_expect(!!(x), 1)
#define JSON_UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { JSON_DEPTH_CEILING = 512 };

enum {
    JSON_OK = 0,
    JSON_E_END,       /* the text ends within a value */
    JSON_E_VALUE,     /* no value starts with this byte */
    JSON_E_CONTROL,   /* a control character within a string */
    JSON_E_ESCAPE,    /* a backslash and not one of the escapes */
    JSON_E_SURROGATE, /* an escaped surrogate without its other half */
    JSON_E_UTF8,      /* not UTF-8 */
    JSON_E_KEY,       /* no key where one must be */
    JSON_E_COLON,     /* no colon after a key */
    JSON_E_COMMA,     /* neither a comma nor the closing bracket */
    JSON_E_TRAILING,  /* something after the value */
    JSON_L_DEPTH,
    JSON_L_STRING,
    JSON_L_NUMBER
};

typedef struct {
    uint32_t depth_max;
    uint32_t number_bytes_max;
    size_t string_bytes_max;
} json_limits_t;

typedef struct {
    int code;
    const char *at;
} json_fail_t;

static inline void json_limits_init(json_limits_t *limits) {
    limits->depth_max = 128;
    limits->number_bytes_max = 1024;
    limits->string_bytes_max = (size_t)4 << 20;
}

static const char *json_fail_text(int code) {
    static const char *const texts[] = {
        "no failure",
        "the text ends within a value",
        "expected a value",
        "control character in a string",
        "bad escape in a string",
        "lone surrogate escape in a string",
        "invalid UTF-8",
        "expected a key in quotes",
        "expected a colon",
        "expected a comma or a closing bracket",
        "expected the end of the text",
        "nesting too deep",
        "string too long",
        "number too long",
    };
    return code >= 0 && code <= JSON_L_NUMBER ? texts[code] : "unknown failure";
}

static const char *json_fail_limit(int code) {
    return code == JSON_L_DEPTH    ? "depth_max"
           : code == JSON_L_STRING ? "string_bytes_max"
           : code == JSON_L_NUMBER ? "number_bytes_max"
                                   : NULL;
}

static inline const char *json_fail_at(json_fail_t *fail, int code, const char *at) {
    fail->code = code;
    fail->at = at;
    return NULL;
}

static inline const char *json_skip_blank(const char *p, const char *end) {
    while (p < end && JSON_UNLIKELY((unsigned char)*p <= ' ') &&
           (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) {
        p++;
    }
    return p;
}

/* --- vectors --- */

/* The widest that may be used where the processor has them: all, but in tests of the narrower ones. */
enum { JSON_SSE2 = 0, JSON_AVX2 = 1, JSON_AVX512 = 2, JSON_VBMI2 = 3 };

static int json_vectors = JSON_VBMI2;

/* --- strings --- */

/* Eight bytes at once: 0x80 is set in the lowest byte that is a quote, a backslash, a control character or not ASCII
 * (a byte above the lowest hit may be marked wrongly by the borrow, none below it is). */
static inline uint64_t json_special8(uint64_t x) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t quote = x ^ (ones * '"'), slash = x ^ (ones * '\\');
    return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((x - ones * 0x20) & ~x) | x) & high;
}

static inline int json_is_special(unsigned char c) {
    return c < 0x20 || c >= 0x80 || c == '"' || c == '\\';
}

#if JSON_X86
static inline int json_has_avx2(void) {
    return json_vectors >= JSON_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}

static inline int json_has_avx512(void) {
    return json_vectors >= JSON_AVX512 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt");
}

/* Quote, backslash, and (by a signed comparison) control characters and bytes that are not ASCII. */
static inline uint32_t json_special16(const char *p) {
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    __m128i hit = _mm_or_si128(
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))),
        _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)));
    return (uint32_t)_mm_movemask_epi8(hit);
}

__attribute__((target("avx2"))) static inline uint32_t json_special32(const char *p) {
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    __m256i hit = _mm256_or_si256(
        _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('"')), _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'))),
        _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), v));
    return (uint32_t)_mm256_movemask_epi8(hit);
}

/* The rest of a long plain run, 32 bytes at once: stops at the first special byte, or less than 32 bytes before
 * `end`. */
__attribute__((target("avx2"), noinline)) static const char *json_plain_run_avx2(const char *p, const char *end) {
    while (end - p >= 32) {
        uint32_t mask = json_special32(p);
        if (mask) {
            return p + __builtin_ctz(mask);
        }
        p += 32;
    }
    return p;
}
#endif

/* The first special byte at or after p, or `end`. */
static inline const char *json_plain_run(const char *p, const char *end) {
#if JSON_X86
    for (int round = 0; end - p >= 16; round++) {
        if (round == 4 && json_has_avx2()) {
            p = json_plain_run_avx2(p, end);
            if (end - p < 16) {
                break;
            }
        }
        uint32_t mask = json_special16(p);
        if (mask) {
            return p + __builtin_ctz(mask);
        }
        p += 16;
    }
#endif
#if JSON_LITTLE_ENDIAN
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        uint64_t hit = json_special8(x);
        if (hit) {
            return p + (__builtin_ctzll(hit) >> 3);
        }
        p += 8;
    }
#endif
    while (p < end && !json_is_special((unsigned char)*p)) {
        p++;
    }
    return p;
}

/* A first look at a string body of which JSON_AHEAD bytes can be read: the first special byte, or the first byte not
 * looked at. */
enum { JSON_AHEAD = 24 };

static inline const char *json_peek_plain(const char *p) {
#if JSON_X86
    return p + __builtin_ctz(json_special16(p) | 0x10000u);
#elif JSON_LITTLE_ENDIAN
    uint64_t x, hit;
    memcpy(&x, p, 8);
    hit = json_special8(x);
    return hit ? p + (__builtin_ctzll(hit) >> 3) : p + 8;
#else
    return p;
#endif
}

/* A look at a member as compact texts have it: the closing quote of the short plain key whose opening quote is at p,
 * where a colon follows and no blank, else NULL. The colon and the byte after it can be read. */
static inline const char *json_peek_key(const char *p, const char *end) {
    const char *q;
    if (JSON_LIKELY(end - p > JSON_AHEAD)) {
        q = json_peek_plain(p + 1);
#if JSON_LITTLE_ENDIAN
    } else if (end - p > 10) {
        uint64_t x;
        memcpy(&x, p + 1, 8);
        x = json_special8(x);
        q = p + (x != 0 ? 1 + (__builtin_ctzll(x) >> 3) : 0);
#endif
    } else {
        return NULL;
    }
    return *p == '"' && q > p && q[0] == '"' && q[1] == ':' && (unsigned char)q[2] > ' ' ? q : NULL;
}

/* Past the run of non-ASCII characters at p (RFC 3629, table 3-7 of Unicode): at the first ASCII byte, at `end`, or
 * at the lead byte of the first sequence that is not UTF-8 (a byte >= 0x80, by which a caller knows). Adds up the
 * characters and notes the highest lead byte. */
__attribute__((always_inline)) static inline const char *
json_utf8_count(const char *p, const char *end, size_t *count, uint32_t *lead_max) {
    uint32_t highest = 0;
    size_t runes = 0;
    while (p < end) {
        const unsigned char *u = (const unsigned char *)p;
        ptrdiff_t left = end - p;
        if (u[0] < 0x80) {
            break;
        }
#if JSON_LITTLE_ENDIAN
        if (JSON_LIKELY(left >= 4)) { /* three bytes and two bytes in one comparison each */
            uint32_t x;
            memcpy(&x, p, 4);
            if ((x & 0x00C0C0F0) == 0x008080E0 && (x & 0x200F) != 0 && (x & 0x200F) != 0x200D) {
                highest = u[0] > highest ? u[0] : highest;
                runes++;
                p += 3;
                continue;
            }
            if ((x & 0xC0E0) == 0x80C0 && (x & 0x1E) != 0) {
                highest = u[0] > highest ? u[0] : highest;
                runes++;
                p += 2;
                continue;
            }
        }
#endif
        if (u[0] >= 0xE0 && u[0] < 0xF0) {
            if (left < 3 || (u[1] & 0xC0) != 0x80 || (u[2] & 0xC0) != 0x80 || (u[0] == 0xE0 && u[1] < 0xA0) ||
                (u[0] == 0xED && u[1] > 0x9F)) {
                break;
            }
            p += 3;
        } else if (u[0] < 0xE0) {
            if (u[0] < 0xC2 || left < 2 || (u[1] & 0xC0) != 0x80) {
                break;
            }
            p += 2;
        } else {
            if (u[0] > 0xF4 || left < 4 || (u[1] & 0xC0) != 0x80 || (u[2] & 0xC0) != 0x80 || (u[3] & 0xC0) != 0x80 ||
                (u[0] == 0xF0 && u[1] < 0x90) || (u[0] == 0xF4 && u[1] > 0x8F)) {
                break;
            }
            p += 4;
        }
        highest = u[0] > highest ? u[0] : highest;
        runes++;
    }
    *count += runes;
    *lead_max = highest > *lead_max ? highest : *lead_max;
    return p;
}

static const char *json_utf8_run(const char *p, const char *end) {
    size_t count = 0;
    uint32_t lead_max = 0;
    return json_utf8_count(p, end, &count, &lead_max);
}

static inline int json_hex_digit(unsigned char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hexadecimal digits, or -1. */
static inline int32_t json_hex4(const char *p) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = json_hex_digit((unsigned char)p[i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* One escape at p (a backslash): past it, with its character in *rune, or NULL with `fail` set. */
static const char *json_escape(const char *p, const char *end, uint32_t *rune, json_fail_t *fail) {
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    if (end - p < 2) {
        return json_fail_at(fail, JSON_E_ESCAPE, p);
    }
    if (p[1] != 'u') {
        const char *found = p[1] ? strchr(plain, p[1]) : NULL;
        if (found == NULL) {
            return json_fail_at(fail, JSON_E_ESCAPE, p);
        }
        *rune = (unsigned char)means[found - plain];
        return p + 2;
    }
    int32_t first = end - p < 6 ? -1 : json_hex4(p + 2);
    if (first < 0) {
        return json_fail_at(fail, JSON_E_ESCAPE, p);
    }
    if (first < 0xD800 || first > 0xDFFF) {
        *rune = (uint32_t)first;
        return p + 6;
    }
    int32_t second = first > 0xDBFF || end - p < 12 || p[6] != '\\' || p[7] != 'u' ? -1 : json_hex4(p + 8);
    if (second < 0xDC00 || second > 0xDFFF) {
        return json_fail_at(fail, JSON_E_SURROGATE, p);
    }
    *rune = 0x10000u + (((uint32_t)first - 0xD800u) << 10) + ((uint32_t)second - 0xDC00u);
    return p + 12;
}

/* What json_skip_string does from the first special byte on that is not the closing quote. */
__attribute__((noinline)) static const char *
json_skip_string_rest(const char *p, const char *end, int *escaped, json_fail_t *fail) {
    uint32_t rune;
    for (;;) {
        if (p == end) {
            return json_fail_at(fail, JSON_E_END, p);
        }
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            return p + 1;
        }
        if (c == '\\') {
            *escaped = 1;
            p = json_escape(p, end, &rune, fail);
            if (p == NULL) {
                return NULL;
            }
        } else if (c >= 0x80) {
            p = json_utf8_run(p, end);
            if (p < end && (unsigned char)*p >= 0x80) {
                return json_fail_at(fail, JSON_E_UTF8, p);
            }
        } else if (c < 0x20) {
            return json_fail_at(fail, JSON_E_CONTROL, p);
        }
        p = json_plain_run(p, end);
    }
}

static inline const char *
json_skip_string(const char *p, const char *end, const json_limits_t *limits, int *escaped, json_fail_t *fail) {
    const char *start = p;
    *escaped = 0;
    if (JSON_LIKELY(end - p >= JSON_AHEAD)) {
        p = json_peek_plain(p);
    }
    if (JSON_LIKELY(p < end && *p == '"')) {
        p++;
    } else {
        p = json_skip_string_rest(json_plain_run(p, end), end, escaped, fail);
        if (JSON_UNLIKELY(p == NULL)) {
            return NULL;
        }
    }
    if (JSON_UNLIKELY((size_t)(p - 1 - start) > limits->string_bytes_max)) {
        return json_fail_at(fail, JSON_L_STRING, start - 1);
    }
    return p;
}

static inline char *json_put_rune(char *out, uint32_t rune) {
    if (rune < 0x80) {
        *out++ = (char)rune;
    } else if (rune < 0x800) {
        *out++ = (char)(0xC0 | (rune >> 6));
        *out++ = (char)(0x80 | (rune & 0x3F));
    } else if (rune < 0x10000) {
        *out++ = (char)(0xE0 | (rune >> 12));
        *out++ = (char)(0x80 | ((rune >> 6) & 0x3F));
        *out++ = (char)(0x80 | (rune & 0x3F));
    } else {
        *out++ = (char)(0xF0 | (rune >> 18));
        *out++ = (char)(0x80 | ((rune >> 12) & 0x3F));
        *out++ = (char)(0x80 | ((rune >> 6) & 0x3F));
        *out++ = (char)(0x80 | (rune & 0x3F));
    }
    return out;
}

static size_t json_unescape(const char *p, size_t n, char *out) {
    const char *end = p + n;
    char *start = out;
    json_fail_t fail;
    while (p < end) {
        const char *slash = (const char *)memchr(p, '\\', (size_t)(end - p));
        size_t run = (size_t)((slash ? slash : end) - p);
        memcpy(out, p, run);
        out += run;
        p += run;
        if (slash) {
            uint32_t rune = 0;
            p = json_escape(p, end, &rune, &fail);
            if (p == NULL) {
                break;
            }
            out = json_put_rune(out, rune);
        }
    }
    return (size_t)(out - start);
}

/* --- numbers and words --- */

static inline const char *json_skip_digits(const char *p, const char *end) {
    while (p < end && (unsigned char)(*p - '0') <= 9) {
        p++;
    }
    return p;
}

/* Past the number at p (a minus sign or a digit), or NULL with `fail` set. *whole becomes 0 where there is a
 * fraction or an exponent, else 1. */
static inline const char *
json_skip_number(const char *p, const char *end, const json_limits_t *limits, int *whole, json_fail_t *fail) {
    const char *start = p, *past;
    *whole = 1;
    p += *p == '-';
    if (p < end && *p == '0') {
        p++;
    } else {
        past = json_skip_digits(p, end);
        if (past == p) {
            return json_fail_at(fail, JSON_E_VALUE, start);
        }
        p = past;
    }
    if (end - p > 1 && *p == '.') {
        past = json_skip_digits(p + 1, end);
        if (past > p + 1) {
            *whole = 0;
            p = past;
        }
    }
    if (end - p > 1 && (*p | 0x20) == 'e' && (*whole || p[-1] != '.')) {
        const char *digits = p + 1 + (p[1] == '+' || p[1] == '-');
        past = json_skip_digits(digits, end);
        if (past > digits) {
            *whole = 0;
            p = past;
        }
    }
    if (JSON_UNLIKELY((size_t)(p - start) > limits->number_bytes_max)) {
        return json_fail_at(fail, JSON_L_NUMBER, start);
    }
    return p;
}

static inline const char *json_skip_word(const char *p, const char *end, json_fail_t *fail) {
    ptrdiff_t left = end - p;
    if (left >= 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0)) {
        return p + 4;
    }
    if (left >= 5 && memcmp(p, "false", 5) == 0) {
        return p + 5;
    }
    return json_fail_at(fail, JSON_E_VALUE, p);
}

/* --- whole values --- */

/* Past the key at p, its colon and the blanks around: at the value. */
__attribute__((noinline)) static const char *
json_skip_key(const char *p, const char *end, const json_limits_t *limits, json_fail_t *fail) {
    int ignored;
    if (JSON_UNLIKELY(p == end || *p != '"')) {
        return json_fail_at(fail, p == end ? JSON_E_END : JSON_E_KEY, p);
    }
    p = json_skip_string(p + 1, end, limits, &ignored, fail);
    if (JSON_UNLIKELY(p == NULL)) {
        return NULL;
    }
    p = json_skip_blank(p, end);
    if (JSON_UNLIKELY(p == end || *p != ':')) {
        return json_fail_at(fail, p == end ? JSON_E_END : JSON_E_COLON, p);
    }
    return json_skip_blank(p + 1, end);
}

/* Anything but a container. */
static inline const char *
json_skip_scalar(const char *p, const char *end, const json_limits_t *limits, json_fail_t *fail) {
    int ignored;
    if (*p == '"') {
        return json_skip_string(p + 1, end, limits, &ignored, fail);
    }
    if (*p == '-' || (unsigned char)(*p - '0') <= 9) {
        return json_skip_number(p, end, limits, &ignored, fail);
    }
    return json_skip_word(p, end, fail);
}

/* Iterative. `closing` holds the bracket that each open container waits for. Short keys that are followed by their
 * colon, and commas that are followed by a key, as compact texts have them, take the short way; all else the careful
 * one. */
static const char *
json_skip(const char *p, const char *end, const json_limits_t *limits, uint32_t depth, json_fail_t *fail) {
    char closing[JSON_DEPTH_CEILING + 1];
    const uint32_t base = depth;
    const uint32_t depth_max = limits->depth_max < JSON_DEPTH_CEILING ? limits->depth_max : JSON_DEPTH_CEILING;
    const int is_short_fine = limits->string_bytes_max >= JSON_AHEAD;
    const char *q;
    char close = 0;

value:
    if (JSON_UNLIKELY(p == end)) {
        return json_fail_at(fail, JSON_E_END, p);
    }
    if (*p != '{' && *p != '[') {
        p = json_skip_scalar(p, end, limits, fail);
        if (JSON_UNLIKELY(p == NULL)) {
            return NULL;
        }
        goto done;
    }
    if (JSON_UNLIKELY(depth >= depth_max)) {
        return json_fail_at(fail, JSON_L_DEPTH, p);
    }
    close = *p + 2; /* "[" and "]", "{" and "}" are two apart */
    closing[++depth] = close;
    p = json_skip_blank(p + 1, end);
    if (p < end && *p == close) {
        goto close;
    }
    if (close == ']') {
        goto value;
    }

key:
    if (JSON_LIKELY(is_short_fine)) {
        q = json_peek_key(p, end);
        if (JSON_LIKELY(q != NULL)) {
            p = q + 2;
            goto value;
        }
    }
    p = json_skip_key(p, end, limits, fail);
    if (JSON_UNLIKELY(p == NULL)) {
        return NULL;
    }
    goto value;

close:
    p++;
    close = closing[--depth];

done:
    if (depth == base) {
        return p;
    }
    p = json_skip_blank(p, end);
    if (JSON_UNLIKELY(p == end)) {
        return json_fail_at(fail, JSON_E_END, p);
    }
    if (*p == ',') {
        p = json_skip_blank(p + 1, end);
        if (close == '}') {
            goto key;
        }
        goto value;
    }
    if (JSON_LIKELY(*p == close)) {
        goto close;
    }
    return json_fail_at(fail, JSON_E_COMMA, p);
}

#endif
