/* Numbers and their decimals. Doubles go both ways exactly, by one table of powers of ten.
 *
 * Reading: D. Lemire, "Number parsing at a gigabyte per second", 2021, after M. Eisel: the product of the digits and
 * a truncated 128-bit power decides the nearest double but for rare cases, which it recognises and gives back.
 * Writing: R. Giulietti, "The Schubfach way to render doubles", 2020: the shortest decimal that reads back as the
 * same double, and of several such the closest; that is what repr() writes.
 */
#ifndef ERLMCP_JSON_FLOAT_H
#define ERLMCP_JSON_FLOAT_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#include "json_scan.h"

enum { JSON_POWER_MIN = -342, JSON_POWER_MAX = 324, JSON_INT_BYTES_MAX = 20, JSON_DOUBLE_BYTES_MAX = 32 };

#define JSON_ZEROS 0x3030303030303030u

typedef struct {
    uint64_t high;
    uint64_t low;
} json_power_t;

/* 10**k with its highest bit at bit 127, truncated: exact for k from 0 to 55. Filled when the room is imported. */
static json_power_t json_powers[JSON_POWER_MAX - JSON_POWER_MIN + 1];

static inline uint64_t json_multiply(uint64_t a, uint64_t b, uint64_t *low) {
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (uint32_t)middle;
    *low = a * b;
    return a1 * b1 + (middle >> 32) + (other >> 32);
#endif
}

/* Two exact operands and one rounding (W. D. Clinger, "How to read floating point numbers accurately", 1990): what the
 * product leaves open of short decimals, such as those half way between two doubles. */
static int json_nearest_of_few(uint64_t digits, int power, int negative, double *out) {
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (FLT_EVAL_METHOD != 0 || digits > (uint64_t)1 << 53 || power < -22 || power > 22) {
        return 0;
    }
    double value = power < 0 ? (double)digits / exact[-power] : (double)digits * exact[power];
    *out = negative ? -value : value;
    return 1;
}

/* The double nearest to digits * 10**power, or 0 where that is not certain. */
static int json_nearest_double(const uint64_t given, int power, int negative, double *out) {
    uint64_t digits = given;
    if (power < JSON_POWER_MIN || power > 308) {
        return 0;
    }
    if (digits == 0) {
        *out = negative ? -0.0 : 0.0;
        return 1;
    }
    if (digits < 1000000000000000 && json_nearest_of_few(digits, power, negative, out)) {
        return 1; /* all digits of a random double would be too many, or nearly: a limit there could not be guessed */
    }
    int zeros = __builtin_clzll(digits);
    digits <<= zeros;
    json_power_t ten = json_powers[power - JSON_POWER_MIN];
    int64_t exponent = ((217706 * (int64_t)power) >> 16) + 64 + 1023 - zeros;
    uint64_t low, high = json_multiply(digits, ten.high, &low);
    if ((high & 0x1FF) == 0x1FF && low + digits < digits) {
        uint64_t more_low, more = json_multiply(digits, ten.low, &more_low), sum = low + more;
        high += sum < low;
        low = sum;
        if ((high & 0x1FF) == 0x1FF && low + 1 == 0 && more_low + digits < digits) {
            return json_nearest_of_few(given, power, negative, out);
        }
    }
    uint64_t top = high >> 63, significand = high >> (top + 9);
    exponent -= 1 ^ (int64_t)top;
    if (low == 0 && (high & 0x1FF) == 0 && (significand & 3) == 1) {
        return json_nearest_of_few(given, power, negative, out); /* half way between two */
    }
    significand = (significand + (significand & 1)) >> 1;
    if (significand >> 53) {
        significand >>= 1;
        exponent++;
    }
    if (exponent < 1 || exponent > 0x7FE) {
        return 0; /* subnormal, or beyond the range */
    }
    uint64_t bits = (uint64_t)exponent << 52 | (significand & (((uint64_t)1 << 52) - 1)) | (uint64_t)negative << 63;
    memcpy(out, &bits, 8);
    return 1;
}

/* Eight decimal digits as bytes of 0 to 9, the first one lowest: four, two and one digits, divided lane by lane. */
static inline uint64_t json_digits8(uint32_t value) {
    uint64_t y = value / 10000, q;
    y |= (uint64_t)(value - (uint32_t)y * 10000) << 32;
    q = (y * 10486 >> 20) & 0x0000007F0000007Fu;
    y = q | (y - q * 100) << 16;
    q = (y * 103 >> 10) & 0x000F000F000F000Fu;
    return q | (y - q * 10) << 8;
}

/* Eight bytes, the lowest first. */
static inline void json_store8(char *out, uint64_t word) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(out, &word, 8);
#else
    for (int i = 0; i < 8; i++) {
        out[i] = (char)(word >> 8 * i);
    }
#endif
}

/* Sixteen digits, the first ones of `first`: ASCII in two words, and the place of the last one that is not 0, counted
 * from 1 (0 where there is none). */
static inline int json_digits16(uint64_t value, uint64_t *first, uint64_t *next) {
    uint64_t high = value / 100000000, low = value - high * 100000000;
#if JSON_X86
    __m128i x = _mm_unpacklo_epi64(_mm_cvtsi64_si128((long long)high), _mm_cvtsi64_si128((long long)low));
    __m128i q = _mm_srli_epi64(_mm_mul_epu32(x, _mm_set1_epi64x(0xD1B71759)), 45);
    x = _mm_add_epi64(q, _mm_slli_epi64(_mm_sub_epi64(x, _mm_mul_epu32(q, _mm_set1_epi64x(10000))), 32));
    q = _mm_srli_epi16(_mm_mulhi_epu16(x, _mm_set1_epi16(5243)), 3);
    x = _mm_add_epi32(q, _mm_slli_epi32(_mm_sub_epi32(x, _mm_mullo_epi16(q, _mm_set1_epi16(100))), 16));
    q = _mm_mulhi_epu16(x, _mm_set1_epi16(6554));
    x = _mm_sub_epi16(_mm_slli_epi16(x, 8), _mm_mullo_epi16(q, _mm_set1_epi16(2559)));
    uint32_t zeros = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128()));
    x = _mm_or_si128(x, _mm_set1_epi8('0'));
    *first = (uint64_t)_mm_cvtsi128_si64(x);
    *next = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(x, x));
    return 31 - __builtin_clz((zeros ^ 0xFFFF) << 1 | 1);
#else
    uint64_t a = json_digits8((uint32_t)high), b = json_digits8((uint32_t)low);
    *first = a | JSON_ZEROS;
    *next = b | JSON_ZEROS;
    return b != 0 ? 16 - __builtin_clzll(b) / 8 : a != 0 ? 8 - __builtin_clzll(a) / 8 : 0;
#endif
}

static inline char *json_put_digits8(char *out, uint32_t value) {
    json_store8(out, json_digits8(value) | JSON_ZEROS);
    return out + 8;
}

static const char json_pairs[] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

static inline char *json_put_pair(char *out, uint32_t value) {
    memcpy(out, json_pairs + 2 * value, 2);
    return out + 2;
}

/* One digit or two; stores two bytes all the same. */
static inline char *json_put_first_pair(char *out, uint32_t value) {
    int is_one = value < 10;
    out[0] = json_pairs[2 * value + (uint32_t)is_one];
    out[1] = json_pairs[2 * value + 1];
    return out + 2 - is_one;
}

/* Below 10**8, without leading zeros. The numbers of a list are often of one size, which makes these branches cheap. */
static inline char *json_put_first_digits(char *out, uint32_t value) {
    if (value < 100) {
        return json_put_first_pair(out, value);
    }
    uint32_t high = value / 100, low = value % 100;
    if (high < 100) {
        return json_put_pair(json_put_first_pair(out, high), low);
    }
    uint32_t higher = high / 100;
    high %= 100;
    if (higher < 100) {
        return json_put_pair(json_put_pair(json_put_first_pair(out, higher), high), low);
    }
    out = json_put_pair(json_put_first_pair(out, higher / 100), higher % 100);
    return json_put_pair(json_put_pair(out, high), low);
}

__attribute__((noinline)) static char *json_put_big_digits(char *out, uint64_t value) {
    uint64_t high = value / 100000000;
    if (high < 100000000) {
        out = json_put_first_digits(out, (uint32_t)high);
    } else {
        out = json_put_first_digits(out, (uint32_t)(high / 100000000));
        out = json_put_digits8(out, (uint32_t)(high % 100000000));
    }
    return json_put_digits8(out, (uint32_t)(value % 100000000));
}

/* Decimal digits: up to JSON_INT_BYTES_MAX bytes are stored. */
static inline char *json_put_int64(char *out, int64_t value) {
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    *out = '-';
    out += value < 0;
    return rest < 100000000 ? json_put_first_digits(out, (uint32_t)rest) : json_put_big_digits(out, rest);
}

static inline uint64_t json_round_to_odd(json_power_t g, uint64_t c) {
    uint64_t unused, low, carry = json_multiply(g.low, c, &unused), high = json_multiply(g.high, c, &low);
    low += carry;
    high += low < carry;
    return high | (low > 1);
}

/* A decimal of 17 digits, the first of them not 0, with its point after so many of them. */
typedef struct {
    uint64_t first; /* sixteen */
    uint64_t last;
    int point;
} json_decimal_t;

/* The shortest decimal of a positive finite double, of any and exactly: its digits, and the power of ten to multiply
 * them by. */
static uint64_t json_shortest_exactly(uint64_t bits, int *power) {
    const uint64_t hidden = (uint64_t)1 << 52;
    uint64_t fraction = bits & (hidden - 1), c = fraction;
    int biased = (int)(bits >> 52), q = 1 - 1075;
    if (biased != 0) {
        c |= hidden;
        q = biased - 1075;
    }
    int is_odd = (int)(c & 1), is_closer = fraction == 0 && biased > 1;
    int k = (q * 1262611 - (is_closer ? 524031 : 0)) >> 22;
    int h = q + ((-k * 1741647) >> 19) + 1;
    json_power_t g = json_powers[-k - JSON_POWER_MIN];
    if (-k < 0 || -k > 55) { /* rounded up where it is not exact */
        g.low++;
        g.high += g.low == 0;
    }
    uint64_t lower = json_round_to_odd(g, (4 * c - 2 + (uint64_t)is_closer) << h) + (uint64_t)is_odd;
    uint64_t upper = json_round_to_odd(g, (4 * c + 2) << h) - (uint64_t)is_odd;
    uint64_t middle = json_round_to_odd(g, (4 * c) << h), s = middle / 4;
    *power = k;
    if (s >= 10) {
        uint64_t tens = s / 10;
        int under = lower <= 40 * tens, over = 40 * tens + 40 <= upper;
        if (under != over) {
            *power = k + 1;
            return tens + (uint64_t)over;
        }
    }
    int under = lower <= 4 * s, over = 4 * s + 4 <= upper;
    if (under != over) {
        return s + (uint64_t)over;
    }
    uint64_t half = 4 * s + 2;
    return s + (uint64_t)(middle > half || (middle == half && (s & 1)));
}

__attribute__((noinline)) static void json_any_decimal(uint64_t bits, json_decimal_t *decimal) {
    int power, size = 1;
    uint64_t digits = json_shortest_exactly(bits, &power);
    for (uint64_t rest = digits; rest >= 10; rest /= 10) {
        size++;
    }
    decimal->point = size + power;
    for (; size < 17; size++) {
        digits *= 10;
    }
    decimal->first = digits / 10;
    decimal->last = digits % 10;
}

/* The same by one product, without a branch that random digits would have guessed wrongly. With the exponent k as
 * above, the value is s and a part of one in units of 10**k, 16 or 17 digits; half the distance to the neighbouring
 * doubles is 0.5 to 5 such units. What reads back as the same double is nearer than that: the multiple of ten that is,
 * if there is one, else the nearest whole number. Where the bits kept do not tell (all errors together are below
 * three units of the last one), and where the neighbours are not equally far, the exact way does it. */
static inline void json_shortest(uint64_t bits, json_decimal_t *decimal) {
    const uint64_t hidden = (uint64_t)1 << 52, fraction = bits & (hidden - 1);
    const int biased = (int)(bits >> 52), q = biased - 1075;
    if (JSON_UNLIKELY(biased == 0 || fraction == 0)) {
        json_any_decimal(bits, decimal);
        return;
    }
    int k = (q * 1262611) >> 22, h = q + ((-k * 1741647) >> 19) + 1;
    json_power_t g = json_powers[-k - JSON_POWER_MIN];
    uint64_t c = (fraction | hidden) << (h + 2), unused, low, carry = json_multiply(g.low, c, &unused);
    uint64_t high = json_multiply(g.high, c, &low);
    low += carry;
    high += low < carry;
    uint64_t s = high >> 2, part = high << 62 | low >> 2, ten = s / 10, digit = s - ten * 10;
    uint64_t above = digit << 60 | part >> 4, below = ((uint64_t)10 << 60) - above; /* multiples of ten */
    uint64_t half = g.high >> (5 - h), middle = (uint64_t)1 << 63;
    if (JSON_UNLIKELY((above - half + 4 < 8) | (below - half + 4 < 8) | (part - middle + 32 < 64))) {
        json_any_decimal(bits, decimal);
        return;
    }
    int is_over = below < half, is_long;
    ten += (uint64_t)is_over;
    digit = is_over | (above < half) ? 0 : digit + (part >> 63);
    is_long = ten >= 1000000000000000; /* 17 digits, else 16 */
    decimal->first = is_long ? ten : ten * 10 + digit;
    decimal->last = is_long ? digit : 0;
    decimal->point = k + 16 + is_long;
}

static inline char *json_put_exponent(char *out, int exponent) {
    *out++ = 'e';
    *out++ = exponent < 0 ? '-' : '+';
    exponent = exponent < 0 ? -exponent : exponent;
    if (exponent >= 100) {
        *out++ = (char)('0' + exponent / 100);
    }
    *out++ = (char)('0' + exponent / 10 % 10);
    *out++ = (char)('0' + exponent % 10);
    return out;
}

/* A finite double as repr() writes it. Up to JSON_DOUBLE_BYTES_MAX bytes are stored: the 17 digits that there can be
 * are made and put as whole words, so that no length decides a branch and no byte is read back. */
static char *json_put_double(char *out, double value) {
    json_decimal_t decimal;
    uint64_t bits, first, next, last;
    memcpy(&bits, &value, 8);
    *out = '-';
    out += bits >> 63;
    bits &= ~((uint64_t)1 << 63);
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return out + 3;
    }
    json_shortest(bits, &decimal);
    int point = decimal.point, count = json_digits16(decimal.first, &first, &next);
    count = decimal.last != 0 ? 17 : count; /* without zeros at the end */
    last = decimal.last | '0';
    if (point > 0 && point <= 16) {
        uint64_t before = ((uint64_t)1 << point % 8 * 8) - 1, dot = (uint64_t)'.' << point % 8 * 8;
        json_store8(out + 16, point == 16 ? '.' | last << 8 : next >> 56 | last << 8);
        if (point < 8) {
            json_store8(out, (first & before) | dot | (first & ~before) << 8);
            json_store8(out + 8, first >> 56 | next << 8);
        } else {
            json_store8(out, first);
            json_store8(out + 8, point == 16 ? next : (next & before) | dot | (next & ~before) << 8);
        }
        return out + (count > point ? count : point + 1) + 1;
    }
    if (point > -4 && point <= 0) {
        memcpy(out, "0.000", 5);
        char *start = out + 2 - point;
        json_store8(start, first);
        json_store8(start + 8, next);
        start[16] = (char)last;
        return start + count;
    }
    json_store8(out + 1, first);
    json_store8(out + 9, next);
    out[0] = (char)first;
    out[1] = '.';
    out[17] = (char)last;
    return json_put_exponent(out + (count > 1 ? count + 1 : 1), point - 1);
}

#endif
