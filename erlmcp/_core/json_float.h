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

enum { JSON_POWER_MIN = -342, JSON_POWER_MAX = 324, JSON_INT_BYTES_MAX = 20, JSON_DOUBLE_BYTES_MAX = 32 };

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

/* The double nearest to digits * 10**power, or 0 where that is not certain. */
static int json_nearest_double(uint64_t digits, int power, int negative, double *out) {
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (power < JSON_POWER_MIN || power > 308) {
        return 0;
    }
    if (digits == 0) {
        *out = negative ? -0.0 : 0.0;
        return 1;
    }
    if (FLT_EVAL_METHOD == 0 && digits <= (uint64_t)1 << 53 && power >= -22 && power <= 22) {
        /* Two exact operands, one rounding (W. D. Clinger, "How to read floating point numbers accurately", 1990). */
        double value = power < 0 ? (double)digits / exact[-power] : (double)digits * exact[power];
        *out = negative ? -value : value;
        return 1;
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
            return 0;
        }
    }
    uint64_t top = high >> 63, significand = high >> (top + 9);
    exponent -= 1 ^ (int64_t)top;
    if (low == 0 && (high & 0x1FF) == 0 && (significand & 3) == 1) {
        return 0; /* half way between two */
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

/* Decimal digits: up to JSON_INT_BYTES_MAX bytes. */
static inline char *json_put_int64(char *out, int64_t value) {
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
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

static inline uint64_t json_round_to_odd(json_power_t g, uint64_t c) {
    uint64_t unused, low, carry = json_multiply(g.low, c, &unused), high = json_multiply(g.high, c, &low);
    low += carry;
    high += low < carry;
    return high | (low > 1);
}

/* The shortest decimal of a positive finite double: its digits, and the power of ten to multiply them by. */
static uint64_t json_shortest(uint64_t bits, int *power) {
    const uint64_t hidden = (uint64_t)1 << 52;
    uint64_t fraction = bits & (hidden - 1), c = fraction;
    int biased = (int)(bits >> 52), q = 1 - 1075;
    if (biased != 0) {
        c |= hidden;
        q = biased - 1075;
        if (q <= 0 && q > -53 && (c & (((uint64_t)1 << -q) - 1)) == 0) {
            *power = 0;
            return c >> -q;
        }
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

static inline char *json_put_fill(char *out, int count) {
    memset(out, '0', (size_t)count);
    return out + count;
}

/* A finite double as repr() writes it: up to JSON_DOUBLE_BYTES_MAX bytes. */
static char *json_put_double(char *out, double value) {
    uint64_t bits;
    char text[JSON_INT_BYTES_MAX];
    int power;
    memcpy(&bits, &value, 8);
    if (bits >> 63) {
        *out++ = '-';
        bits &= ~((uint64_t)1 << 63);
    }
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return out + 3;
    }
    uint64_t digits = json_shortest(bits, &power);
    if (digits % 100000000 == 0) { /* many zeros: a short decimal */
        digits /= 100000000;
        power += 8;
    }
    const char *p = text, *end = json_put_int64(text, (int64_t)digits);
    while (end[-1] == '0') {
        end--;
        power++;
    }
    int count = (int)(end - p), point = count + power; /* the decimal point is after so many digits */
    if (point > -4 && point <= 0) {
        *out++ = '0';
        *out++ = '.';
        out = json_put_fill(out, -point);
        memcpy(out, p, (size_t)count);
        return out + count;
    }
    if (point > 0 && point <= 16) {
        int whole = count < point ? count : point;
        memcpy(out, p, (size_t)whole);
        out = json_put_fill(out + whole, point - whole);
        *out++ = '.';
        if (whole == count) {
            *out++ = '0';
            return out;
        }
        memcpy(out, p + whole, (size_t)(count - whole));
        return out + count - whole;
    }
    *out++ = *p;
    if (count > 1) {
        *out++ = '.';
        memcpy(out, p + 1, (size_t)count - 1);
        out += count - 1;
    }
    int exponent = point - 1;
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

#endif
