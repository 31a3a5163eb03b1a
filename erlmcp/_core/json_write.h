/* Characters and integers -> JSON text in memory that the caller made sure of. Escapes what RFC 8259, section 7
 * demands and nothing else: the quote, the backslash and the control characters. Builds on json_scan.h. */
#ifndef ERLMCP_JSON_WRITE_H
#define ERLMCP_JSON_WRITE_H

#include "json_float.h"
#include "json_runes.h"
#include "json_scan.h"

enum { JSON_ESCAPE_BYTES_MAX = 6 };

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

/* The same in one store of eight bytes, of which the caller has room for all. */
static inline char *json_put_escape8(char *out, unsigned char c) {
    static const char texts[34][8] = {
        "\\u0000\6", "\\u0001\6", "\\u0002\6", "\\u0003\6", "\\u0004\6", "\\u0005\6", "\\u0006\6", "\\u0007\6",
        "\\b\0\0\0\0\2", "\\t\0\0\0\0\2", "\\n\0\0\0\0\2", "\\u000b\6", "\\f\0\0\0\0\2", "\\r\0\0\0\0\2",
        "\\u000e\6", "\\u000f\6", "\\u0010\6", "\\u0011\6", "\\u0012\6", "\\u0013\6", "\\u0014\6", "\\u0015\6",
        "\\u0016\6", "\\u0017\6", "\\u0018\6", "\\u0019\6", "\\u001a\6", "\\u001b\6", "\\u001c\6", "\\u001d\6",
        "\\u001e\6", "\\u001f\6", "\\\"\0\0\0\0\2", "\\\\\0\0\0\0\2",
    };
    const char *text = texts[c < 0x20 ? c : c == '"' ? 32 : 33];
    memcpy(out, text, 8);
    return out + text[6];
}

static inline char *json_put_body_slowly(char *out, const char *p, const char *end) {
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

/* The lowest byte of eight that must be escaped has its high bit set. The marks of bytes above ASCII are left out; a
 * wrong mark stands above a right one. */
static inline uint64_t json_escaped8(uint64_t x) {
    return json_special8(x) & ~x;
}

#if JSON_X86
/* Unsigned "below 0x20" as a saturating subtraction: bytes above ASCII pass. */
static inline uint32_t json_escaped16(__m128i v) {
    __m128i hit = _mm_or_si128(
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))),
        _mm_cmpeq_epi8(_mm_subs_epu8(v, _mm_set1_epi8(0x1F)), _mm_setzero_si128()));
    return (uint32_t)_mm_movemask_epi8(hit);
}
#endif

/* Less than 16 bytes: two loads that overlap, so that there is no loop where nothing must be escaped. */
static inline char *json_put_short_body(char *out, const char *p, size_t n) {
#if JSON_LITTLE_ENDIAN
    if (n >= 8) {
        uint64_t x, y;
        memcpy(&x, p, 8);
        memcpy(&y, p + n - 8, 8);
        if (JSON_LIKELY((json_escaped8(x) | json_escaped8(y)) == 0)) {
            memcpy(out, &x, 8);
            memcpy(out + n - 8, &y, 8);
            return out + n;
        }
    } else if (n >= 4) {
        uint32_t x, y;
        memcpy(&x, p, 4);
        memcpy(&y, p + n - 4, 4);
        if (JSON_LIKELY(json_escaped8(((uint64_t)y << 32) | x) == 0)) {
            memcpy(out, &x, 4);
            memcpy(out + n - 4, &y, 4);
            return out + n;
        }
    }
#endif
    return json_put_body_slowly(out, p, p + n);
}

#if JSON_X86
/* A block of 32 bytes of which those in `mask` are escaped; `out` has been given the block as it is. The bytes after an
 * escape are stored once more: 32 of them can be read. Gives where the next block goes. */
__attribute__((target("avx2"), noinline)) static char *
json_put_escapes(char *out, const char *p, uint32_t mask) {
    for (; mask != 0; mask &= mask - 1) {
        int run = __builtin_ctz(mask);
        char *next = json_put_escape8(out + run, (unsigned char)p[run]);
        _mm256_storeu_si256((__m256i *)next, _mm256_loadu_si256((const __m256i *)(p + run + 1)));
        out = next - run - 1; /* where the first byte would be without the escapes */
    }
    return out + 32;
}

/* All of a long body but its last 32 to 63 bytes. Where only escapes of two characters are met, a shuffle by the bits
 * of eight bytes makes the places for their backslashes: nothing is to be guessed where texts have many of them. */
__attribute__((target("avx2,popcnt"), noinline)) static char *
json_put_blocks_avx2(char *out, const char **from, const char *end) {
    const __m256i letters = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 'b', 't', 'n', 0, 'f', 'r', 0, 0));
    const __m256i zero = _mm256_setzero_si256();
    const char *p = *from;
    while (end - p >= 64) {
        __m256i v = _mm256_loadu_si256((const __m256i *)p);
        _mm256_storeu_si256((__m256i *)out, v);
        __m256i control = _mm256_cmpeq_epi8(_mm256_subs_epu8(v, _mm256_set1_epi8(0x1F)), zero);
        __m256i hit = _mm256_or_si256(
            _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('"')), _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'))),
            control);
        uint32_t mask = (uint32_t)_mm256_movemask_epi8(hit);
        if (mask == 0) {
            p += 32;
            out += 32;
            continue;
        }
        /* The letter of a control character, or 0; the shuffle looks at four bits, so that 16 to 31 are left out. */
        __m256i letter = _mm256_shuffle_epi8(letters, _mm256_or_si256(v, _mm256_slli_epi16(_mm256_and_si256(
                                                                             v, _mm256_set1_epi8(16)), 3)));
        v = _mm256_blendv_epi8(v, letter, control);
        if (JSON_UNLIKELY(!_mm256_testz_si256(control, _mm256_cmpeq_epi8(v, zero)))) {
            out = json_put_escapes(out, p, mask);
            p += 32;
            continue;
        }
        uint64_t words[4];
        _mm256_storeu_si256((__m256i *)words, v);
        for (int i = 0; i < 4; i++, mask >>= 8) {
            __m128i eight = _mm_cvtsi64_si128((long long)words[i]);
            __m128i from8 = _mm_loadu_si128((const __m128i *)json_gaps[mask & 255].from);
            eight = _mm_unpacklo_epi64(eight, _mm_set1_epi8('\\'));
            _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(eight, from8));
            out += 8 + __builtin_popcount(mask & 255);
        }
        p += 32;
    }
    *from = p;
    return out;
}

/* Any body, the last bytes by a masked load, which reads no byte that its mask leaves out. */
__attribute__((target("avx512bw,avx512vl,bmi,bmi2"), noinline)) static char *
json_put_body_avx512(char *out, const char *p, size_t n) {
    const char *end = p + n;
    if (n >= 64) {
        out = json_put_blocks_avx2(out, &p, end);
    }
    for (;;) {
        size_t left = (size_t)(end - p);
        __mmask32 live = left < 32 ? ((uint32_t)1 << left) - 1 : 0xFFFFFFFF;
        __m256i v = _mm256_maskz_loadu_epi8(live, p);
        _mm256_storeu_si256((__m256i *)out, v);
        uint32_t mask = _mm256_mask_cmplt_epu8_mask(live, v, _mm256_set1_epi8(0x20)) |
                        _mm256_cmpeq_epi8_mask(v, _mm256_set1_epi8('"')) |
                        _mm256_cmpeq_epi8_mask(v, _mm256_set1_epi8('\\'));
        if (JSON_LIKELY(mask == 0)) {
            if (left <= 32) {
                return out + left;
            }
            p += 32;
            out += 32;
            continue;
        }
        int run = __builtin_ctz(mask);
        out = json_put_escape8(out + run, (unsigned char)p[run]);
        p += run + 1;
    }
}
#endif

/* The body of a string from UTF-8. `out` has room for 6 * n + 32 bytes: blocks are stored whole before they are
 * looked at. */
static inline char *json_put_body(char *out, const char *p, size_t n) {
    const char *end = p + n;
#if JSON_X86
    if (json_has_avx512()) {
        return json_put_body_avx512(out, p, n);
    }
#endif
    if (n < 16) {
        return json_put_short_body(out, p, n);
    }
#if JSON_X86
    if (n >= 128 && json_has_avx2()) {
        out = json_put_blocks_avx2(out, &p, end);
    }
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        _mm_storeu_si128((__m128i *)out, v);
        uint32_t mask = json_escaped16(v);
        if (JSON_LIKELY(mask == 0)) {
            p += 16;
            out += 16;
            continue;
        }
        int run = __builtin_ctz(mask);
        out = json_put_escape8(out + run, (unsigned char)p[run]);
        p += run + 1;
    }
    if (p < end) { /* the last 16 bytes once more, where they came out as they are */
        __m128i v = _mm_loadu_si128((const __m128i *)(end - 16));
        if (JSON_LIKELY(json_escaped16(v) == 0)) {
            out += end - p;
            _mm_storeu_si128((__m128i *)(out - 16), v);
            return out;
        }
    }
#elif JSON_LITTLE_ENDIAN
    while (end - p >= 8) {
        uint64_t x, hit;
        memcpy(&x, p, 8);
        memcpy(out, &x, 8);
        hit = json_escaped8(x);
        if (JSON_LIKELY(hit == 0)) {
            p += 8;
            out += 8;
            continue;
        }
        int run = __builtin_ctzll(hit) >> 3;
        out = json_put_escape8(out + run, (unsigned char)p[run]);
        p += run + 1;
    }
#endif
    return json_put_body_slowly(out, p, end);
}

/* How many bytes a string body of n characters takes as UTF-8, or -1 where there is a lone surrogate. Without
 * branches, so that the compiler can take many characters at once. */
#define JSON_COUNT_RUNES(NAME, TYPE)                                                                                   \
    static ptrdiff_t NAME(const TYPE *p, size_t n) {                                                                   \
        size_t size = n;                                                                                               \
        uint32_t surrogates = 0;                                                                                       \
        for (size_t i = 0; i < n; i++) {                                                                               \
            uint32_t rune = p[i];                                                                                      \
            uint32_t more = (rune >= 0x80) + (rune >= 0x800) + (rune >= 0x10000) + (rune == '"') + (rune == '\\');     \
            uint32_t is_letter = (rune >= 8) & (rune <= 13) & (rune != 11); /* \b \t \n \f \r */                       \
            more += 5 * (uint32_t)(rune < 0x20) - 4 * is_letter;                                                       \
            surrogates |= rune - 0xD800 < 0x800;                                                                       \
            size += more;                                                                                              \
        }                                                                                                              \
        return surrogates ? -1 : (ptrdiff_t)size;                                                                      \
    }

/* One character above ASCII that is no surrogate. Four bytes may be stored for a character of three: the fourth is
 * within the string, or where its closing quote will be. */
static inline char *json_put_high_rune(char *out, uint32_t rune) {
#if JSON_LITTLE_ENDIAN
    if (rune >= 0x800 && rune < 0x10000) {
        uint32_t word = 0x008080E0u | (rune >> 12) | ((rune & 0xFC0) << 2) | ((rune & 0x3F) << 16);
        memcpy(out, &word, 4);
        return out + 3;
    }
#endif
    return json_put_rune(out, rune);
}

#if JSON_X86
#define JSON_PUT_BLOCKS(WIDTH)                                                                                         \
    if (!is_tight && end - p >= 16 && json_has_avx2()) {                                                               \
        out = json_put_rune_blocks##WIDTH(out, &p, end);                                                               \
    }
#else
#define JSON_PUT_BLOCKS(WIDTH)
#endif

/* Writes it: the end, or NULL where there is a lone surrogate. Where `is_tight`, no byte is stored above that end
 * but the one of the closing quote; else there is room for 6 * n + 32 bytes. */
#define JSON_PUT_RUNES(WIDTH, TYPE)                                                                                    \
    static char *json_put_runes##WIDTH(char *out, const TYPE *p, size_t n, int is_tight) {                             \
        const TYPE *end = p + n;                                                                                       \
        while (p < end) {                                                                                              \
            JSON_PUT_BLOCKS(WIDTH)                                                                                     \
            /* What the blocks left, or met. */                                                                        \
            for (const TYPE *stop = end - p > 16 ? p + 16 : end; p < stop; p++) {                                      \
                uint32_t rune = *p;                                                                                    \
                if (JSON_UNLIKELY(rune < 0x20 || rune == '"' || rune == '\\')) {                                       \
                    out = json_put_escape(out, (unsigned char)rune);                                                   \
                } else if (rune < 0x80) {                                                                              \
                    *out++ = (char)rune;                                                                               \
                } else if (JSON_UNLIKELY(rune - 0xD800 < 0x800)) {                                                     \
                    return NULL;                                                                                       \
                } else {                                                                                               \
                    out = json_put_high_rune(out, rune);                                                               \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        return out;                                                                                                    \
    }

JSON_COUNT_RUNES(json_count_runes1, uint8_t)
JSON_COUNT_RUNES(json_count_runes2, uint16_t)
JSON_COUNT_RUNES(json_count_runes4, uint32_t)
JSON_PUT_RUNES(1, uint8_t)
JSON_PUT_RUNES(2, uint16_t)
JSON_PUT_RUNES(4, uint32_t)

/* n characters of `kind` bytes each: 1 (latin-1), 2 or 4. */
static inline ptrdiff_t json_count_body(int kind, const void *p, size_t n) {
    return kind == 1   ? json_count_runes1((const uint8_t *)p, n)
           : kind == 2 ? json_count_runes2((const uint16_t *)p, n)
                       : json_count_runes4((const uint32_t *)p, n);
}

static inline char *json_put_runes(char *out, int kind, const void *p, size_t n, int is_tight) {
    return kind == 1   ? json_put_runes1(out, (const uint8_t *)p, n, is_tight)
           : kind == 2 ? json_put_runes2(out, (const uint16_t *)p, n, is_tight)
                       : json_put_runes4(out, (const uint32_t *)p, n, is_tight);
}

#endif
