/* A request's id as JSON text: an integer of 64 bits, or the inside of a string (RFC 8259, sections 6 and 7). */
#ifndef ERLMCP_TOKEN_H
#define ERLMCP_TOKEN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Whether a token is an integer of 64 bits, written as JSON writes it. */
static inline int token_number(const char *token, size_t size, int64_t *number) {
    size_t at = size > 0 && token[0] == '-';
    uint64_t most = INT64_MAX + (uint64_t)at;
    uint64_t value = 0;
    if (at == size || (token[at] == '0' && size > at + 1)) return 0;
    for (size_t i = at; i < size; i++) {
        unsigned char digit = (unsigned char)(token[i] - '0');
        if (digit > 9 || value > (most - digit) / 10) return 0;
        value = value * 10 + digit;
    }
    *number = (int64_t)(at ? 0 - value : value);
    return 1;
}

/* Four hexadecimal digits, or -1. */
static inline int32_t token_hex(const char *data) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char byte = (unsigned char)data[i];
        unsigned char letter = byte | 0x20;
        value <<= 4;
        if (byte >= '0' && byte <= '9') {
            value |= byte - '0';
        } else if (letter >= 'a' && letter <= 'f') {
            value |= letter - 'a' + 10;
        } else {
            return -1;
        }
    }
    return value;
}

static inline char *token_utf8(uint32_t point, char *out) {
    if (point < 0x80) {
        *out++ = (char)point;
        return out;
    }
    if (point < 0x800) {
        *out++ = (char)(0xC0 | point >> 6);
    } else {
        if (point < 0x10000) {
            *out++ = (char)(0xE0 | point >> 12);
        } else {
            *out++ = (char)(0xF0 | point >> 18);
            *out++ = (char)(0x80 | (point >> 12 & 0x3F));
        }
        *out++ = (char)(0x80 | (point >> 6 & 0x3F));
    }
    *out++ = (char)(0x80 | (point & 0x3F));
    return out;
}

/* The inside of a JSON string as UTF-8, never longer than it; how long, or -1 where it is none. */
static ptrdiff_t token_unescape(const char *data, size_t size, char *out) {
    static const char names[] = "\"\\/bfnrt";
    static const char letters[] = "\"\\/\b\f\n\r\t";
    const char *end = data + size;
    char *start = out;
    while (data < end) {
        int32_t point = -1;
        if (*data != '\\') {
            *out++ = *data++;
            continue;
        }
        if (end - data < 2) return -1;
        if (data[1] != 'u') {
            const char *name = (const char *)memchr(names, data[1], sizeof names - 1);
            if (name == NULL) return -1;
            *out++ = letters[name - names];
            data += 2;
            continue;
        }
        if (end - data >= 6) point = token_hex(data + 2);
        if (point < 0) return -1;
        data += 6;
        if (point >= 0xD800 && point < 0xDC00 && end - data >= 6 && data[0] == '\\' && data[1] == 'u') {
            int32_t low = token_hex(data + 2);
            if (low >= 0xDC00 && low < 0xE000) {
                point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
                data += 6;
            }
        }
        if (point >= 0xD800 && point < 0xE000) return -1; /* alone it has no UTF-8 form: nothing waits under it */
        out = token_utf8((uint32_t)point, out);
    }
    return out - start;
}

#endif
