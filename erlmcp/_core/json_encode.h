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

static char *json_put_value(json_writer_t *writer, char *out, PyObject *value);

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

__attribute__((noinline)) static char *json_w_long_text(json_writer_t *writer, char *out, PyObject *text) {
    size_t n = (size_t)PyUnicode_GET_LENGTH(text);
    if (PyUnicode_IS_COMPACT_ASCII(text)) {
        out = json_w_byte(writer, out, '"');
        out = out == NULL ? NULL : json_w_body(writer, out, (const char *)PyUnicode_DATA(text), n);
        return out == NULL ? NULL : json_w_byte(writer, out, '"');
    }
    ptrdiff_t size = json_count_body((int)PyUnicode_KIND(text), PyUnicode_DATA(text), n);
    if (size < 0) {
        return json_writer_failed(writer, JSON_W_SURROGATE, text);
    }
    size_t used = (size_t)(out - writer->start), wanted = (size_t)size + 2 + 32;
    int is_tight = wanted > writer->room_max || used > writer->room_max - wanted;
    wanted -= is_tight ? 32 : 0;
    if ((size_t)(writer->end - out) < wanted) {
        out = writer->more(writer, out, wanted);
        if (out == NULL) {
            return NULL;
        }
    }
    *out = '"';
    out = json_put_runes(out + 1, (int)PyUnicode_KIND(text), PyUnicode_DATA(text), n, is_tight);
    *out = '"';
    return out + 1;
}

static inline char *json_w_text(json_writer_t *writer, char *out, PyObject *text) {
    size_t n = (size_t)PyUnicode_GET_LENGTH(text);
    if (JSON_UNLIKELY((size_t)(writer->end - out) < n * JSON_ESCAPE_BYTES_MAX + 40)) {
        return json_w_long_text(writer, out, text);
    }
    *out++ = '"';
    if (JSON_LIKELY(PyUnicode_IS_COMPACT_ASCII(text))) {
        out = json_put_body(out, (const char *)PyUnicode_DATA(text), n);
    } else {
        out = json_put_runes(out, (int)PyUnicode_KIND(text), PyUnicode_DATA(text), n, 0);
        if (out == NULL) {
            return json_writer_failed(writer, JSON_W_SURROGATE, text);
        }
    }
    *out = '"';
    return out + 1;
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

static char *json_w_float(json_writer_t *writer, char *out, PyObject *value) {
    char text[JSON_DOUBLE_BYTES_MAX];
    double number = PyFloat_AS_DOUBLE(value);
    if (number - number != 0) {
        return json_writer_failed(writer, JSON_W_FLOAT, value);
    }
    if (JSON_LIKELY(writer->end - out >= JSON_DOUBLE_BYTES_MAX)) {
        return json_put_double(out, number);
    }
    return json_w_bytes(writer, out, text, (size_t)(json_put_double(text, number) - text));
}

static char *json_w_array(json_writer_t *writer, char *out, PyObject *value) {
    PyObject **items = PySequence_Fast_ITEMS(value);
    Py_ssize_t n = PySequence_Fast_GET_SIZE(value);
    if (n == 0) {
        return json_w_bytes(writer, out, "[]", 2);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        out = json_w_byte(writer, out, i ? ',' : '[');
        out = out == NULL ? NULL : json_put_value(writer, out, items[i]);
        if (JSON_UNLIKELY(out == NULL)) {
            return NULL;
        }
    }
    return json_w_byte(writer, out, ']');
}

static char *json_w_dict(json_writer_t *writer, char *out, PyObject *value) {
    Py_ssize_t at = 0;
    PyObject *key, *item;
    char before = '{';
    while (PyDict_Next(value, &at, &key, &item)) {
        out = json_w_byte(writer, out, before);
        before = ',';
        if (JSON_UNLIKELY(!PyUnicode_Check(key))) {
            return out == NULL ? NULL : json_writer_failed(writer, JSON_W_KEY, key);
        }
        out = out == NULL ? NULL : json_w_text(writer, out, key);
        out = out == NULL ? NULL : json_w_byte(writer, out, ':');
        out = out == NULL ? NULL : json_put_value(writer, out, item);
        if (JSON_UNLIKELY(out == NULL)) {
            return NULL;
        }
    }
    return before == '{' ? json_w_bytes(writer, out, "{}", 2) : json_w_byte(writer, out, '}');
}

__attribute__((noinline)) static char *json_w_other(json_writer_t *writer, char *out, PyObject *value) {
    if (PyLong_Check(value)) {
        return json_w_int(writer, out, value);
    }
    if (PyFloat_Check(value)) {
        return json_w_float(writer, out, value);
    }
    if (Py_TYPE(value) == writer->raw) {
        PyObject *bytes = writer->raw_bytes(value);
        return json_w_bytes(writer, out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    }
    return json_writer_failed(writer, JSON_W_TYPE, value);
}

static char *json_put_value(json_writer_t *writer, char *out, PyObject *value) {
    if (PyUnicode_Check(value)) {
        return json_w_text(writer, out, value);
    }
    int is_dict = PyDict_Check(value);
    if (is_dict || PyList_Check(value) || PyTuple_Check(value)) {
        if (JSON_UNLIKELY(writer->depth >= writer->depth_max)) {
            return json_writer_failed(writer, JSON_W_DEPTH, value);
        }
        writer->depth++;
        out = is_dict ? json_w_dict(writer, out, value) : json_w_array(writer, out, value);
        writer->depth--;
        return out;
    }
    if (value == Py_None) {
        return json_w_bytes(writer, out, "null", 4);
    }
    if (value == Py_True) {
        return json_w_bytes(writer, out, "true", 4);
    }
    if (value == Py_False) {
        return json_w_bytes(writer, out, "false", 5);
    }
    return json_w_other(writer, out, value);
}

#endif
