/* Python values -> JSON text. Objects are borrowed throughout, and nothing here runs Python code that could drop
 * them, nor raises on its own account: a writer that gives NULL has noted in `error` what was wrong with which
 * object, or `error` is 0 and an exception is set.
 *
 * The place to write at goes through the functions in a register: a store of characters may alias any field, so that
 * a field would be loaded and stored for each. Where the room is short a writer asks for no more than it surely
 * needs, so that a limit on the target is exact; where the room is there anyway, whole blocks are stored before they
 * are looked at.
 */
#ifndef ERLMCP_JSON_ENCODE_H
#define ERLMCP_JSON_ENCODE_H

#include <Python.h>

#include "json_write.h"

enum {
    JSON_W_SURROGATE = 1, /* a str with a lone surrogate */
    JSON_W_KEY,           /* a key that is not a str */
    JSON_W_TYPE,          /* a value of no type that JSON has */
    JSON_W_DEPTH,         /* containers nested deeper than depth_max */
    JSON_W_FLOAT,         /* an infinity or NaN */
    JSON_CHUNK_BYTES = 4096
};

typedef struct json_writer_t json_writer_t;

/* Makes room for `size` more bytes at `out`: where to go on, or NULL with an exception set. */
typedef char *(*json_more_t)(json_writer_t *writer, char *out, size_t size);
/* Writes an int beyond 64 bits. */
typedef char *(*json_big_int_t)(json_writer_t *writer, char *out, PyObject *number);

struct json_writer_t {
    char *start;
    char *end;
    void *target;       /* for `more` */
    size_t room_max;    /* what `more` can be asked for at most, about: above it is not asked for more than is needed */
    json_more_t more;
    json_big_int_t big_int;
    PyTypeObject *raw;  /* the type of pre-encoded text */
    PyObject *(*raw_bytes)(PyObject *raw); /* its bytes, borrowed */
    int depth;
    int depth_max;
    int error;
    PyObject *culprit;  /* borrowed */
};

static inline char *json_writer_failed(json_writer_t *writer, int error, PyObject *culprit) {
    writer->error = error;
    writer->culprit = culprit;
    return NULL;
}

static inline char *json_w_byte(json_writer_t *writer, char *out, char byte) {
    if (JSON_UNLIKELY(out == writer->end)) {
        out = writer->more(writer, out, 1);
        if (out == NULL) {
            return NULL;
        }
    }
    *out = byte;
    return out + 1;
}

static inline char *json_w_bytes(json_writer_t *writer, char *out, const char *data, size_t size) {
    if (JSON_UNLIKELY((size_t)(writer->end - out) < size)) {
        out = writer->more(writer, out, size);
        if (out == NULL) {
            return NULL;
        }
    }
    memcpy(out, data, size);
    return out + size;
}

/* The body of a string of ASCII or UTF-8. */
static char *json_w_body(json_writer_t *writer, char *out, const char *p, size_t n) {
    const char *end = p + n;
    while (p < end) {
        size_t left = (size_t)(end - p);
        size_t chunk = left < JSON_CHUNK_BYTES ? left : JSON_CHUNK_BYTES;
        size_t worst = chunk * JSON_ESCAPE_BYTES_MAX + 32;
        if ((size_t)(writer->end - out) < worst) {
            size_t wanted = left + left / 8 + worst;
            size_t used = (size_t)(out - writer->start);
            if (wanted < writer->room_max && used < writer->room_max - wanted) {
                out = writer->more(writer, out, wanted);
            } else if ((size_t)(writer->end - out) < left) {
                out = writer->more(writer, out, left);
            }
            if (out == NULL) {
                return NULL;
            }
        }
        if (JSON_LIKELY((size_t)(writer->end - out) >= worst)) {
            out = json_put_body(out, p, chunk);
            p += chunk;
            continue;
        }
        char escape[JSON_ESCAPE_BYTES_MAX];
        const char *stop = json_unescaped_run(p, p + chunk);
        out = json_w_bytes(writer, out, p, (size_t)(stop - p));
        if (out != NULL && stop < p + chunk) {
            out = json_w_bytes(writer, out, escape, (size_t)(json_put_escape(escape, (unsigned char)*stop) - escape));
            stop++;
        }
        if (out == NULL) {
            return NULL;
        }
        p = stop;
    }
    return out;
}

/* The UTF-8 of a str, borrowed, where it is there without a copy: that of ASCII, and what the str keeps because it was
 * asked for before. Nothing is asked for here: it would stay as long as the str. */
static inline const char *json_peek_utf8(PyObject *text, size_t *size) {
    if (JSON_LIKELY(PyUnicode_IS_COMPACT_ASCII(text))) {
        *size = (size_t)PyUnicode_GET_LENGTH(text);
        return (const char *)((PyASCIIObject *)text + 1);
    }
#ifndef Py_GIL_DISABLED
    if (PyUnicode_IS_COMPACT(text)) {
        *size = (size_t)((PyCompactUnicodeObject *)text)->utf8_length;
        return ((PyCompactUnicodeObject *)text)->utf8;
    }
#endif
    return NULL;
}

/* n characters of `kind` bytes each that are not all ASCII. */
static char *json_w_runes(json_writer_t *writer, char *out, PyObject *text) {
    const size_t kind = (size_t)PyUnicode_KIND(text);
    const char *p = (const char *)PyUnicode_DATA(text);
    for (size_t left = (size_t)PyUnicode_GET_LENGTH(text), chunk; left > 0; left -= chunk, p += chunk * kind) {
        chunk = left < JSON_CHUNK_BYTES ? left : JSON_CHUNK_BYTES;
        size_t worst = chunk * JSON_ESCAPE_BYTES_MAX + 32, used = (size_t)(out - writer->start);
        int is_tight = 0;
        if ((size_t)(writer->end - out) < worst) {
            size_t wanted = left + left / 4 * kind + worst;
            is_tight = wanted > writer->room_max || used > writer->room_max - wanted;
            if (is_tight) {
                ptrdiff_t size = json_count_body((int)kind, p, left);
                if (size < 0) {
                    return json_writer_failed(writer, JSON_W_SURROGATE, text);
                }
                chunk = left;
                wanted = (size_t)size + 1;
            }
            if ((size_t)(writer->end - out) < wanted) {
                out = writer->more(writer, out, wanted);
                if (out == NULL) {
                    return NULL;
                }
            }
        }
        out = json_put_runes(out, (int)kind, p, chunk, is_tight);
        if (JSON_UNLIKELY(out == NULL)) {
            return json_writer_failed(writer, JSON_W_SURROGATE, text);
        }
    }
    return out;
}

__attribute__((noinline)) static char *json_w_long_text(json_writer_t *writer, char *out, PyObject *text) {
    size_t size;
    const char *utf8 = json_peek_utf8(text, &size);
    out = json_w_byte(writer, out, '"');
    if (out != NULL) {
        out = utf8 != NULL ? json_w_body(writer, out, utf8, size) : json_w_runes(writer, out, text);
    }
    return out == NULL ? NULL : json_w_byte(writer, out, '"');
}

static inline int json_small_int(PyObject *value, long long *small) {
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)value)) {
        *small = (long long)PyUnstable_Long_CompactValue((PyLongObject *)value);
        return 1;
    }
#else
    Py_ssize_t size = Py_SIZE(value);
    if (size >= -1 && size <= 1) {
        *small = size * (long long)((PyLongObject *)value)->ob_digit[0];
        return 1;
    }
#endif
    return 0;
}

static char *json_w_int(json_writer_t *writer, char *out, PyObject *value) {
    char digits[JSON_INT_BYTES_MAX];
    int overflow = 0;
    long long small;
    if (!json_small_int(value, &small)) {
        small = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            return writer->big_int(writer, out, value);
        }
    }
    if (JSON_LIKELY(writer->end - out >= JSON_INT_BYTES_MAX)) {
        return json_put_int64(out, small);
    }
    return json_w_bytes(writer, out, digits, (size_t)(json_put_int64(digits, small) - digits));
}

static char *json_w_other(json_writer_t *writer, char *out, PyObject *value);

/* Strings, containers and the choice by type: once for any processor, and once for those that read and compare up to
 * 16 bytes under a mask, so that no length of a short string decides a branch. */
#define JSON_WAY(name) name##_plain
#include "json_encode_ways.h"
#undef JSON_WAY
#if JSON_X86
#pragma GCC push_options
#pragma GCC target("avx512bw,avx512vl,bmi,bmi2,lzcnt,popcnt")
#define JSON_WAY(name) name##_avx512
#define JSON_MASKED 1
#include "json_encode_ways.h"
#undef JSON_MASKED
#undef JSON_WAY
#pragma GCC pop_options
#endif

/* Subtypes of numbers, text that was encoded before, and what is not JSON. */
__attribute__((noinline)) static char *json_w_other(json_writer_t *writer, char *out, PyObject *value) {
    if (PyLong_Check(value)) {
        return json_w_int(writer, out, value);
    }
    if (PyFloat_Check(value)) {
        return json_w_float_plain(writer, out, value);
    }
    if (Py_TYPE(value) == writer->raw) {
        PyObject *bytes = writer->raw_bytes(value);
        return json_w_bytes(writer, out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    }
    return json_writer_failed(writer, JSON_W_TYPE, value);
}

static char *json_put_value(json_writer_t *writer, char *out, PyObject *value) {
#if JSON_X86
    if (json_has_avx512()) {
        return json_put_value_avx512(writer, out, value);
    }
#endif
    return json_put_value_plain(writer, out, value);
}

#endif
