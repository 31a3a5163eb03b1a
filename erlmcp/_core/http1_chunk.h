/* The chunked transfer coding (RFC 9112, section 7.1) as a state machine that can stop after any byte. */
#ifndef ERLMCP_HTTP1_CHUNK_H
#define ERLMCP_HTTP1_CHUNK_H

#include "http1_scan.h"

enum {
    HTTP1_CHUNK_DIGITS_MAX = 15, /* so that a size never overflows */
    HTTP1_CHUNK_EXTENSION_BYTES_MAX = 4096, /* over the whole body */
    HTTP1_CHUNK_TRAILER_BYTES_MAX = 8192
};

enum {
    HTTP1_CHUNK_SIZE,
    HTTP1_CHUNK_EXTENSION,
    HTTP1_CHUNK_SIZE_LF,
    HTTP1_CHUNK_DATA,
    HTTP1_CHUNK_DATA_CR,
    HTTP1_CHUNK_DATA_LF,
    HTTP1_CHUNK_TRAILER, /* at the start of a trailer line */
    HTTP1_CHUNK_TRAILER_NAME,
    HTTP1_CHUNK_TRAILER_VALUE,
    HTTP1_CHUNK_TRAILER_LF,
    HTTP1_CHUNK_LAST_LF,
    HTTP1_CHUNK_DONE
};

typedef struct {
    uint64_t left;
    uint64_t body_bytes;
    uint32_t extension_bytes;
    uint32_t trailer_bytes;
    uint32_t phase;
    uint32_t digit_count;
    const char* message;
} http1_chunk_t;

static inline int http1_chunk_is_done(const http1_chunk_t* s) {
    return s->phase == HTTP1_CHUNK_DONE;
}

HTTP1_ALWAYS_INLINE int http1_chunk_refuse(http1_chunk_t* s, int status, const char* message) {
    s->message = message;
    return status;
}

HTTP1_ALWAYS_INLINE int http1_hex(uint8_t c) {
    unsigned digit = (unsigned)c - '0', letter = ((unsigned)c | 0x20u) - 'a';
    return digit < 10 ? (int)digit : letter < 6 ? (int)letter + 10 : -1;
}

/* The byte after the digits of a chunk's size. */
static inline int http1_chunk_end_size(http1_chunk_t* s, uint8_t c, uint64_t body_bytes_max) {
    if (s->digit_count == 0 || (c != '\r' && c != ';')) {
        return http1_chunk_refuse(s, 400, "a chunk's size is not of hexadecimal digits");
    }
    if (s->left > body_bytes_max - s->body_bytes) {
        return http1_chunk_refuse(s, 413, "body_bytes_max exceeded");
    }
    s->digit_count = 0;
    s->phase = c == ';' ? HTTP1_CHUNK_EXTENSION : HTTP1_CHUNK_SIZE_LF;
    return 0;
}

/* One byte of a chunk's first line. */
static inline int http1_chunk_size_byte(http1_chunk_t* s, uint8_t c, uint64_t body_bytes_max) {
    int digit;
    switch (s->phase) {
    case HTTP1_CHUNK_SIZE:
        digit = http1_hex(c);
        if (digit < 0) {
            return http1_chunk_end_size(s, c, body_bytes_max);
        }
        if (s->digit_count == HTTP1_CHUNK_DIGITS_MAX) {
            return http1_chunk_refuse(s, 400, "a chunk's size has more than 15 digits");
        }
        s->left = s->left * 16 + (uint64_t)digit;
        s->digit_count++;
        return 0;
    case HTTP1_CHUNK_EXTENSION:
        if (c == '\r') {
            s->phase = HTTP1_CHUNK_SIZE_LF;
            return 0;
        }
        if (!(http1_class[c] & HTTP1_IS_VALUE)) {
            return http1_chunk_refuse(s, 400, "a chunk extension holds a control character");
        }
        if (++s->extension_bytes > HTTP1_CHUNK_EXTENSION_BYTES_MAX) {
            return http1_chunk_refuse(s, 413, "chunk extensions of more than 4096 bytes");
        }
        return 0;
    default: /* HTTP1_CHUNK_SIZE_LF */
        if (c != '\n') {
            return http1_chunk_refuse(s, 400, "a CR without its LF in a chunk's first line");
        }
        s->phase = s->left ? HTTP1_CHUNK_DATA : HTTP1_CHUNK_TRAILER;
        return 0;
    }
}

/* One byte after the last chunk. Trailer fields are checked and dropped. */
static inline int http1_chunk_trailer_byte(http1_chunk_t* s, uint8_t c) {
    if (s->phase == HTTP1_CHUNK_LAST_LF || s->phase == HTTP1_CHUNK_TRAILER_LF) {
        if (c != '\n') {
            return http1_chunk_refuse(s, 400, "a CR without its LF in a trailer");
        }
        s->phase = s->phase == HTTP1_CHUNK_LAST_LF ? HTTP1_CHUNK_DONE : HTTP1_CHUNK_TRAILER;
        return 0;
    }
    if (c == '\r' && s->phase != HTTP1_CHUNK_TRAILER_NAME) {
        s->phase = s->phase == HTTP1_CHUNK_TRAILER ? HTTP1_CHUNK_LAST_LF : HTTP1_CHUNK_TRAILER_LF;
        return 0;
    }
    if (++s->trailer_bytes > HTTP1_CHUNK_TRAILER_BYTES_MAX) {
        return http1_chunk_refuse(s, 431, "trailers of more than 8192 bytes");
    }
    if (s->phase == HTTP1_CHUNK_TRAILER_NAME && c == ':') {
        s->phase = HTTP1_CHUNK_TRAILER_VALUE;
        return 0;
    }
    if (s->phase == HTTP1_CHUNK_TRAILER) {
        s->phase = HTTP1_CHUNK_TRAILER_NAME;
    }
    if (!(http1_class[c] & (s->phase == HTTP1_CHUNK_TRAILER_NAME ? HTTP1_IS_TCHAR : HTTP1_IS_VALUE))) {
        return http1_chunk_refuse(s, 400, "a trailer holds a byte that is not allowed");
    }
    return 0;
}

static inline ptrdiff_t http1_chunk_next(
    http1_chunk_t* s, const char* p, size_t n, uint64_t body_bytes_max, const char** data, size_t* size, int* status) {
    size_t i = 0;
    *size = 0;
    *status = 0;
    while (i < n && s->phase != HTTP1_CHUNK_DONE) {
        uint8_t c = (uint8_t)p[i];
        if (s->phase == HTTP1_CHUNK_DATA) {
            *data = p + i;
            *size = n - i < s->left ? n - i : (size_t)s->left;
            s->left -= *size;
            s->body_bytes += *size;
            if (s->left == 0) {
                s->phase = HTTP1_CHUNK_DATA_CR;
            }
            return (ptrdiff_t)(i + *size);
        }
        if (s->phase < HTTP1_CHUNK_DATA) {
            *status = http1_chunk_size_byte(s, c, body_bytes_max);
        } else if (s->phase == HTTP1_CHUNK_DATA_CR || s->phase == HTTP1_CHUNK_DATA_LF) {
            int is_cr = s->phase == HTTP1_CHUNK_DATA_CR;
            if (c != (is_cr ? '\r' : '\n')) {
                *status = http1_chunk_refuse(s, 400, "a chunk's data does not end with CRLF");
            }
            s->phase = is_cr ? HTTP1_CHUNK_DATA_LF : HTTP1_CHUNK_SIZE;
        } else {
            *status = http1_chunk_trailer_byte(s, c);
        }
        if (*status) {
            return -1;
        }
        i++;
    }
    return (ptrdiff_t)i;
}

#endif
