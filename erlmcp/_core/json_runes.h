/* Characters above ASCII -> UTF-8 by vectors: eight characters at once, of any mixture of lengths, without a branch
 * for each. Each character becomes the bytes of one lane of 32 bits, as many of them as its UTF-8 or its escape of two
 * characters has at the upper end; a shuffle then closes the gaps between four lanes. (The idea of a table of shuffles
 * is that of D. Lemire and W. Mula, "Transcoding billions of Unicode characters per second with SIMD instructions",
 * 2022.)
 */
#ifndef ERLMCP_JSON_RUNES_H
#define ERLMCP_JSON_RUNES_H

#include "json_scan.h"

#if JSON_X86
enum { JSON_RUNES_STEP = 8 };

/* By the lengths of four lanes: bit i of the index and bit 4 + i are the length of lane i less one. */
typedef struct {
    uint8_t from[16];
} json_shuffle_t;

static json_shuffle_t json_shuffles[256];
static uint8_t json_shuffle_sizes[256];
/* By the bits of eight bytes: the ninth is put before each of those whose bit is set. */
static json_shuffle_t json_gaps[256];

/* Called when the room is imported. */
static void json_fill_shuffles(void) {
    for (int index = 0; index < 256; index++) {
        uint8_t *from = json_shuffles[index].from;
        int size = 0;
        memset(from, 0x80, 16);
        for (int lane = 0; lane < 4; lane++) {
            int length = 1 + (index >> lane & 1) + 2 * (index >> (4 + lane) & 1);
            for (int i = 4 - length; i < 4; i++) {
                from[size++] = (uint8_t)(4 * lane + i);
            }
        }
        json_shuffle_sizes[index] = (uint8_t)size;
        from = json_gaps[index].from;
        size = 0;
        memset(from, 0x80, 16);
        for (int i = 0; i < 8; i++) {
            if (index >> i & 1) {
                from[size++] = 8;
            }
            from[size++] = (uint8_t)i;
        }
    }
}

/* Eight characters of each width as lanes. */
__attribute__((target("avx2"))) static inline __m256i json_load_runes1(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

__attribute__((target("avx2"))) static inline __m256i json_load_runes2(const uint16_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

__attribute__((target("avx2"))) static inline __m256i json_load_runes4(const uint32_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Writes eight characters: 8 to 32 bytes, of which 32 may be stored. NULL where one of them needs the escape of six
 * bytes or is a surrogate. */
__attribute__((target("avx2,popcnt"))) static inline char *json_put_lanes(char *out, __m256i v) {
#define JSON_ALL(c) _mm256_set1_epi32(c)
    const __m256i letters = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 'b', 't', 'n', 0, 'f', 'r', 0, 0));
    __m256i two = _mm256_cmpgt_epi32(v, JSON_ALL(0x7F)), three = _mm256_cmpgt_epi32(v, JSON_ALL(0x7FF));
    __m256i four = _mm256_cmpgt_epi32(v, JSON_ALL(0xFFFF)), control = _mm256_cmpgt_epi32(JSON_ALL(0x20), v);
    __m256i quoted = _mm256_or_si256(_mm256_cmpeq_epi32(v, JSON_ALL('"')), _mm256_cmpeq_epi32(v, JSON_ALL('\\')));
    __m256i surrogate = _mm256_cmpeq_epi32(_mm256_and_si256(v, JSON_ALL((int)0xFFFFF800)), JSON_ALL(0xD800));
    __m256i letter = _mm256_and_si256(_mm256_shuffle_epi8(letters, v), control);
    letter = _mm256_and_si256(letter, _mm256_cmpgt_epi32(JSON_ALL(16), v));
    __m256i bad = _mm256_and_si256(control, _mm256_cmpeq_epi32(letter, _mm256_setzero_si256()));
    bad = _mm256_or_si256(bad, surrogate);
    if (JSON_UNLIKELY(!_mm256_testz_si256(bad, bad))) {
        return NULL;
    }
    __m256i escaped = _mm256_or_si256(quoted, control);
    v = _mm256_blendv_epi8(v, letter, control);
    /* The bits, six to a byte; the last byte of ASCII takes seven. */
    __m256i bytes = _mm256_and_si256(_mm256_slli_epi32(v, 24), JSON_ALL(0x7F000000));
    bytes = _mm256_andnot_si256(_mm256_and_si256(two, JSON_ALL(0x40000000)), bytes);
    bytes = _mm256_or_si256(bytes, _mm256_and_si256(_mm256_slli_epi32(v, 10), JSON_ALL(0x3F0000)));
    bytes = _mm256_or_si256(bytes, _mm256_and_si256(_mm256_srli_epi32(v, 4), JSON_ALL(0x3F00)));
    bytes = _mm256_or_si256(bytes, _mm256_srli_epi32(v, 18));
    /* What marks the lead byte and those after it: 110, 1110 and 11110 before 10, each in the place of the former. */
    bytes = _mm256_or_si256(bytes, _mm256_and_si256(two, JSON_ALL((int)0x80C00000)));
    bytes = _mm256_xor_si256(bytes, _mm256_and_si256(three, JSON_ALL(0x0040E000)));
    bytes = _mm256_xor_si256(bytes, _mm256_and_si256(four, JSON_ALL(0x000060F0)));
    bytes = _mm256_blendv_epi8(bytes, JSON_ALL('\\' << 16), _mm256_and_si256(escaped, JSON_ALL(0xFF0000)));
    /* The lengths less one, as two bits: 1 where there are two bytes or four, 2 where there are three or four. */
    __m256i low = _mm256_or_si256(_mm256_xor_si256(_mm256_xor_si256(two, three), four), escaped);
    uint32_t odd = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    uint32_t high = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(three));
    uint32_t first = (odd & 15) | (high & 15) << 4, second = odd >> 4 | (high & 0xF0);
    __m128i a = _mm256_castsi256_si128(bytes), b = _mm256_extracti128_si256(bytes, 1);
    _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(a, _mm_loadu_si128((const __m128i *)json_shuffles[first].from)));
    out += json_shuffle_sizes[first];
    _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(b, _mm_loadu_si128((const __m128i *)json_shuffles[second].from)));
    return out + json_shuffle_sizes[second];
#undef JSON_ALL
}

/* Where the sixteen characters at p are ASCII and none is escaped they are written as they are. */
__attribute__((target("avx2"))) static inline int json_put_ascii1(char *out, const uint8_t *p) {
    _mm_storeu_si128((__m128i *)out, _mm_loadu_si128((const __m128i *)p));
    return json_special16((const char *)p) == 0;
}

__attribute__((target("avx2"))) static inline int json_put_ascii2(char *out, const uint16_t *p) {
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    v = _mm256_permute4x64_epi64(_mm256_packus_epi16(v, v), 0x08); /* what is not a byte becomes 0 or 255 */
    char bytes[16];
    _mm_storeu_si128((__m128i *)bytes, _mm256_castsi256_si128(v));
    memcpy(out, bytes, 16);
    return json_special16(bytes) == 0;
}

__attribute__((target("avx2"))) static inline int json_put_ascii4(char *out, const uint32_t *p) {
    __m128i v[4];
    memcpy(v, p, 64);
    char bytes[16];
    _mm_storeu_si128((__m128i *)bytes, _mm_packus_epi16(_mm_packs_epi32(v[0], v[1]), _mm_packs_epi32(v[2], v[3])));
    memcpy(out, bytes, 16);
    return json_special16(bytes) == 0;
}

/* All of a text but less than sixteen characters at its end, and less where it meets one that it does not write: *from
 * says how far. */
#define JSON_PUT_RUNE_BLOCKS(WIDTH, TYPE)                                                                              \
    __attribute__((target("avx2,popcnt"), noinline)) static char *                                                     \
    json_put_rune_blocks##WIDTH(char *out, const TYPE **from, const TYPE *end) {                                       \
        const TYPE *p = *from;                                                                                         \
        while (end - p >= 16) {                                                                                        \
            if (json_put_ascii##WIDTH(out, p)) {                                                                       \
                out += 16;                                                                                             \
                p += 16;                                                                                               \
                continue;                                                                                              \
            }                                                                                                          \
            char *next = json_put_lanes(out, json_load_runes##WIDTH(p));                                               \
            if (JSON_UNLIKELY(next == NULL)) {                                                                         \
                break;                                                                                                 \
            }                                                                                                          \
            out = next;                                                                                                \
            p += JSON_RUNES_STEP;                                                                                      \
            next = json_put_lanes(out, json_load_runes##WIDTH(p));                                                     \
            if (JSON_UNLIKELY(next == NULL)) {                                                                         \
                break;                                                                                                 \
            }                                                                                                          \
            out = next;                                                                                                \
            p += JSON_RUNES_STEP;                                                                                      \
        }                                                                                                              \
        *from = p;                                                                                                     \
        return out;                                                                                                    \
    }

JSON_PUT_RUNE_BLOCKS(1, uint8_t)
JSON_PUT_RUNE_BLOCKS(2, uint16_t)
JSON_PUT_RUNE_BLOCKS(4, uint32_t)
#else
static void json_fill_shuffles(void) {
}
#endif

#endif
