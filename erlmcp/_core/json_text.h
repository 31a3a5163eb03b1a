/* Bodies of long strings by vectors: how many characters they have and whether they are valid, then the characters
 * themselves. Neither pass has a branch for each escape or each character above ASCII, which a text of several scripts
 * would have guessed wrongly all the time; what is rare (escapes that are not of two characters, characters beyond the
 * first plane, errors) ends a pass early, and json_read.h takes it from there, one character at a time.
 */
#ifndef ERLMCP_JSON_TEXT_H
#define ERLMCP_JSON_TEXT_H

#include "json_scan.h"

#if JSON_X86

/* Which bytes are escaped, bit by bit, follows from the runs of backslashes (Langdale and Lemire, "Parsing gigabytes of
 * JSON per second", 2019, section 3.1.1). *carry is 1 where the first byte is escaped, and becomes 1 where the byte
 * after the last one is. */
static inline uint64_t json_escaped_bits(uint64_t slash, uint64_t *carry) {
    const uint64_t even = 0x5555555555555555u;
    uint64_t open = slash & ~*carry, follows = open << 1 | *carry, sum;
    *carry = __builtin_add_overflow(open & ~even & ~follows, open, &sum);
    return (even ^ sum << 1) & follows;
}

/* Errors of 32 bytes of UTF-8 after 32 others: not 0 where the byte does not go with the ones before it. Three tables
 * by four bits each say which errors two neighbours can have (Keiser and Lemire, "Validating UTF-8 in less than one
 * instruction per byte", 2020). */
__attribute__((target("avx2"))) static inline __m256i json_utf8_errors(__m256i v, __m256i before) {
    enum {
        SHORT = 1,      /* 11...... 0....... and 11...... 11...... */
        LONG = 2,       /* 0....... 10...... */
        OVER_3 = 4,     /* 11100000 100..... */
        LARGE = 8,      /* 11110100 1001.... and above */
        SURROGATE = 16, /* 11101101 101..... */
        OVER_2 = 32,    /* 1100000. 10...... */
        LARGE_8 = 64,   /* 11110101 1000.... and above */
        OVER_4 = 64,    /* 11110000 1000.... */
        TWO = 128,      /* 10...... 10...... */
        ANY = SHORT | LONG | TWO
    };
#define JSON_TABLE(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
    const __m256i high_1 = JSON_TABLE(LONG, LONG, LONG, LONG, LONG, LONG, LONG, LONG, (char)TWO, (char)TWO, (char)TWO,
                                      (char)TWO, SHORT | OVER_2, SHORT, SHORT | OVER_3 | SURROGATE,
                                      SHORT | LARGE | LARGE_8 | OVER_4);
    const __m256i low_1 = JSON_TABLE(
        (char)(ANY | OVER_2 | OVER_3 | OVER_4), (char)(ANY | OVER_2), (char)ANY, (char)ANY, (char)(ANY | LARGE),
        (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8),
        (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8),
        (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8 | SURROGATE),
        (char)(ANY | LARGE | LARGE_8), (char)(ANY | LARGE | LARGE_8));
    const __m256i high_2 = JSON_TABLE(SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT,
                                      (char)(LONG | TWO | OVER_2 | OVER_3 | LARGE_8 | OVER_4),
                                      (char)(LONG | TWO | OVER_2 | OVER_3 | LARGE),
                                      (char)(LONG | TWO | OVER_2 | SURROGATE | LARGE),
                                      (char)(LONG | TWO | OVER_2 | SURROGATE | LARGE), SHORT, SHORT, SHORT, SHORT);
#undef JSON_TABLE
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i middle = _mm256_permute2x128_si256(before, v, 0x21);
    __m256i one = _mm256_alignr_epi8(v, middle, 15), two = _mm256_alignr_epi8(v, middle, 14);
    __m256i three = _mm256_alignr_epi8(v, middle, 13);
    __m256i pairs = _mm256_and_si256(
        _mm256_and_si256(_mm256_shuffle_epi8(high_1, _mm256_and_si256(_mm256_srli_epi16(one, 4), nibble)),
                         _mm256_shuffle_epi8(low_1, _mm256_and_si256(one, nibble))),
        _mm256_shuffle_epi8(high_2, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble)));
    /* Two continuations in a row are right after the lead byte of three, or of four. */
    __m256i third = _mm256_subs_epu8(two, _mm256_set1_epi8(0xE0 - 0x80));
    __m256i fourth = _mm256_subs_epu8(three, _mm256_set1_epi8((char)(0xF0 - 0x80)));
    __m256i wanted = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8((char)0x80));
    return _mm256_xor_si256(wanted, pairs);
}

/* Past as many blocks of 64 bytes of a string body as hold nothing but valid UTF-8 and escapes of two characters. p is
 * not within an escape nor within a character, nor is what is given back. Adds up the characters and notes the highest
 * lead byte. */
__attribute__((target("avx2,popcnt"), noinline)) static const char *
json_measure_blocks(const char *p, const char *end, size_t *count, uint32_t *lead_max) {
    const char *start = p;
    uint64_t carry = 0;
    __m256i before = _mm256_setzero_si256(), highest = before;
    while (end - p >= 64) {
        uint64_t control = 0, quote = 0, slash = 0, simple = 0, follow = 0, next = carry;
        __m256i v[2];
        for (int half = 0; half < 2; half++) {
            v[half] = _mm256_loadu_si256((const __m256i *)(p + 32 * half));
#define JSON_MASK(x) ((uint64_t)(uint32_t)_mm256_movemask_epi8(x) << 32 * half)
#define JSON_EQUAL(c) _mm256_cmpeq_epi8(v[half], _mm256_set1_epi8(c))
            __m256i above = _mm256_subs_epu8(v[half], _mm256_set1_epi8(0x1F));
            control |= JSON_MASK(_mm256_cmpeq_epi8(above, _mm256_setzero_si256()));
            quote |= JSON_MASK(JSON_EQUAL('"'));
            slash |= JSON_MASK(JSON_EQUAL('\\'));
            simple |= JSON_MASK(_mm256_or_si256(_mm256_or_si256(JSON_EQUAL('n'), JSON_EQUAL('t')),
                                                _mm256_or_si256(JSON_EQUAL('r'), JSON_EQUAL('/'))));
#undef JSON_EQUAL
        }
        uint64_t escaped = json_escaped_bits(slash, &next);
        if (control | (quote & ~escaped) | (escaped & ~(simple | quote | slash))) {
            break;
        }
        if (_mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(v[0], v[1]), before)) != 0) {
            __m256i errors = _mm256_or_si256(json_utf8_errors(v[0], before), json_utf8_errors(v[1], v[0]));
            if (!_mm256_testz_si256(errors, errors)) {
                break;
            }
            for (int half = 0; half < 2; half++) {
                follow |= JSON_MASK(_mm256_cmpgt_epi8(_mm256_set1_epi8((char)0xC0), v[half]));
            }
            highest = _mm256_max_epu8(highest, _mm256_max_epu8(v[0], v[1]));
        }
#undef JSON_MASK
        *count += 64 - (size_t)__builtin_popcountll((slash & ~escaped) | follow);
        before = v[1];
        carry = next;
        p += 64;
    }
    uint8_t bytes[32];
    _mm256_storeu_si256((__m256i *)bytes, highest);
    for (int i = 0; i < 32; i++) {
        *lead_max = bytes[i] > *lead_max ? bytes[i] : *lead_max;
    }
    if (p > start) { /* to the beginning of what the last block left open */
        if (carry) {
            return p - 1; /* a backslash counts for nothing */
        }
        for (int i = 1; i <= 3 && (unsigned char)p[-i] >= 0x80; i++) {
            if ((unsigned char)p[-i] >= 0xC0) {
                int size = (unsigned char)p[-i] < 0xE0 ? 2 : (unsigned char)p[-i] < 0xF0 ? 3 : 4;
                if (size > i) {
                    --*count;
                    p -= i;
                }
                break;
            }
        }
    }
    return p;
}

/* By the bits of eight lanes that are left out: where the others are. */
typedef struct {
    uint8_t from[16]; /* lanes of two bytes */
} json_squeeze_t;

static json_squeeze_t json_squeezes[256];

/* Called when the room is imported. */
static void json_fill_squeezes(void) {
    for (int dropped = 0; dropped < 256; dropped++) {
        json_squeeze_t *squeeze = &json_squeezes[dropped];
        int size = 0;
        memset(squeeze, 0x80, sizeof(*squeeze));
        for (int lane = 0; lane < 8; lane++) {
            if (!(dropped >> lane & 1)) {
                squeeze->from[size++] = (uint8_t)(2 * lane);
                squeeze->from[size++] = (uint8_t)(2 * lane + 1);
            }
        }
    }
}

/* Eight characters of 16 bits, stored in each width. */
__attribute__((target("avx2"))) static inline void json_store_lanes1(uint8_t *out, __m128i lanes) {
    _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(lanes, lanes));
}

__attribute__((target("avx2"))) static inline void json_store_lanes2(uint16_t *out, __m128i lanes) {
    _mm_storeu_si128((__m128i *)out, lanes);
}

__attribute__((target("avx2"))) static inline void json_store_lanes4(uint32_t *out, __m128i lanes) {
    _mm256_storeu_si256((__m256i *)out, _mm256_cvtepu16_epi32(lanes));
}

/* The characters that would begin at each of sixteen bytes, of which `next` and `third` are the ones one and two places
 * on. */
__attribute__((target("avx2"))) static inline __m256i json_lanes_of(__m128i bytes, __m128i next, __m128i third) {
    const __m256i six = _mm256_set1_epi16(0x3F);
    __m256i a = _mm256_cvtepu8_epi16(bytes), b = _mm256_and_si256(_mm256_cvtepu8_epi16(next), six);
    __m256i c = _mm256_and_si256(_mm256_cvtepu8_epi16(third), six);
    __m256i of_two = _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(a, _mm256_set1_epi16(0x1F)), 6), b);
    __m256i of_three = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(a, 12), _mm256_slli_epi16(b, 6)), c);
    __m256i lanes = _mm256_blendv_epi8(a, of_two, _mm256_cmpgt_epi16(a, _mm256_set1_epi16(0x7F)));
    return _mm256_blendv_epi8(lanes, of_three, _mm256_cmpgt_epi16(a, _mm256_set1_epi16(0xDF)));
}

/* The escaped ones of sixteen bytes, which are of the simple escapes, in the place of their letters. */
__attribute__((target("avx2"))) static inline __m128i json_unescape16(__m128i bytes, uint32_t escaped) {
    const __m128i meant = _mm_setr_epi8(0, 0, '\r', 0, '\t', 0, 0, 0, 0, 0, 0, 0, 0, 0, '\n', 0);
    const __m128i bits = _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, (char)128, 1, 2, 4, 8, 16, 32, 64, (char)128);
    const __m128i spread = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m128i is_escaped = _mm_and_si128(_mm_shuffle_epi8(_mm_cvtsi32_si128((int)escaped), spread), bits);
    __m128i is_letter = _mm_and_si128(_mm_cmpeq_epi8(is_escaped, bits), _mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x5F)));
    return _mm_blendv_epi8(bytes, _mm_shuffle_epi8(meant, bytes), is_letter);
}

/* Writes the beginning of a measured string body, sixteen bytes at once, as long as both sides have room for whole
 * blocks: *from says how far, which is at a character. */
#define JSON_FILL_BLOCKS(WIDTH, TYPE)                                                                                  \
    __attribute__((target("avx2,popcnt"), noinline)) static TYPE *                                                     \
    json_fill_blocks##WIDTH(TYPE *out, const TYPE *out_end, const char **from, const char *end) {                      \
        const char *p = *from;                                                                                         \
        uint32_t carry = 0;                                                                                            \
        while (end - p >= 18 && out_end - out >= 16) {                                                                 \
            __m128i v = _mm_loadu_si128((const __m128i *)p);                                                           \
            uint32_t slash = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));                      \
            uint32_t high = (uint32_t)_mm_movemask_epi8(v);                                                            \
            if ((slash | high | carry) == 0) {                                                                         \
                json_store_lanes##WIDTH(out, _mm_cvtepu8_epi16(v));                                                    \
                json_store_lanes##WIDTH(out + 8, _mm_unpackhi_epi8(v, _mm_setzero_si128()));                           \
                out += 16;                                                                                             \
                p += 16;                                                                                               \
                continue;                                                                                              \
            }                                                                                                          \
            uint32_t open = slash & ~carry, follows = open << 1 | carry;                                               \
            uint32_t sum = (open & 0xAAAA & ~follows) + open;                                                          \
            uint32_t escaped = (0x5555 ^ sum << 1) & follows & 0xFFFF, dropped = slash & ~escaped;                     \
            __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('b')), _mm_cmpeq_epi8(v, _mm_set1_epi8('f')));  \
            odd = _mm_or_si128(odd, _mm_cmpeq_epi8(v, _mm_set1_epi8('u')));                                            \
            __m128i four = _mm_cmpeq_epi8(_mm_max_epu8(v, _mm_set1_epi8((char)0xF0)), v);                              \
            if (JSON_UNLIKELY(((uint32_t)_mm_movemask_epi8(odd) & escaped) | (uint32_t)_mm_movemask_epi8(four))) {     \
                break;                                                                                                 \
            }                                                                                                          \
            dropped |= (uint32_t)_mm_movemask_epi8(_mm_cmplt_epi8(v, _mm_set1_epi8((char)0xC0)));                      \
            __m128i next = _mm_loadu_si128((const __m128i *)(p + 1));                                                  \
            __m128i third = _mm_loadu_si128((const __m128i *)(p + 2));                                                 \
            __m256i lanes = json_lanes_of(json_unescape16(v, escaped), next, third);                                   \
            const json_squeeze_t *first = &json_squeezes[dropped & 255], *second = &json_squeezes[dropped >> 8];       \
            json_store_lanes##WIDTH(out, _mm_shuffle_epi8(_mm256_castsi256_si128(lanes),                               \
                                                          _mm_loadu_si128((const __m128i *)first->from)));             \
            out += 8 - __builtin_popcount(dropped & 255);                                                              \
            json_store_lanes##WIDTH(out, _mm_shuffle_epi8(_mm256_extracti128_si256(lanes, 1),                          \
                                                          _mm_loadu_si128((const __m128i *)second->from)));            \
            out += 8 - __builtin_popcount(dropped >> 8);                                                               \
            carry = sum >> 16 & 1;                                                                                     \
            p += 16;                                                                                                   \
        }                                                                                                              \
        p -= carry;                                                                                                    \
        while (p > *from && p < end && ((unsigned char)*p & 0xC0) == 0x80) {                                           \
            p++; /* of a character that was written */                                                                 \
        }                                                                                                              \
        *from = p;                                                                                                     \
        return out;                                                                                                    \
    }

JSON_FILL_BLOCKS(1, uint8_t)
JSON_FILL_BLOCKS(2, uint16_t)
JSON_FILL_BLOCKS(4, uint32_t)

/* The same for ASCII, 64 bytes at once, on processors that close the gaps themselves. */
__attribute__((target("avx512bw,avx512vbmi2,popcnt"), noinline)) static uint8_t *
json_fill_ascii_avx512(uint8_t *out, const uint8_t *out_end, const char **from, const char *end) {
    const __m512i meant = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 0, '\r', 0, '\t', 0, 0, 0, 0, 0, 0, 0, 0, 0, '\n', 0));
    const char *p = *from;
    uint64_t carry = 0;
    while (end - p >= 64 && out_end - out >= 64) {
        uint64_t next = carry;
        __m512i v = _mm512_loadu_si512(p);
        uint64_t slash = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\\')), escaped = json_escaped_bits(slash, &next);
        uint64_t odd = _mm512_mask_cmpeq_epi8_mask(escaped, v, _mm512_set1_epi8('b')) |
                       _mm512_mask_cmpeq_epi8_mask(escaped, v, _mm512_set1_epi8('f')) |
                       _mm512_mask_cmpeq_epi8_mask(escaped, v, _mm512_set1_epi8('u'));
        if (JSON_UNLIKELY(odd)) {
            break;
        }
        uint64_t letters = _mm512_mask_cmpgt_epi8_mask(escaped, v, _mm512_set1_epi8(0x5F));
        uint64_t kept = ~slash | escaped;
        v = _mm512_mask_shuffle_epi8(v, letters, meant, v);
        _mm512_storeu_si512(out, _mm512_maskz_compress_epi8(kept, v));
        out += __builtin_popcountll(kept);
        carry = next;
        p += 64;
    }
    *from = p - carry;
    return out;
}
#else
static void json_fill_squeezes(void) {
}
#endif

#endif
