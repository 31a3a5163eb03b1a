/* A str or bytes object seen as UTF-8 bytes with their hash, without a copy: what the keepers look things up by. */
#ifndef ERLMCP_TEXT_H
#define ERLMCP_TEXT_H

#include <Python.h>

#include "hash.h"

typedef struct {
    const char *data; /* borrowed from the object, or from whoever gave the bytes */
    size_t size;
    uint64_t hash; /* never 0 or 1; the top byte is the size, or TEXT_LONG: texts of equal hashes are of one size */
} text_t;

#define TEXT_LONG 255

#define text_prefetch(address) __builtin_prefetch((const void *)(address))
#define text_prefetch_write(address) __builtin_prefetch((const void *)(address), 1)

static inline void text_of_data(text_t *text, const char *data, size_t size, uint64_t seed) {
    text->data = data;
    text->size = size;
    text->hash = hash_usable((hash_bytes(data, size, seed) & UINT64_C(0x00FFFFFFFFFFFFFF)) |
                             (uint64_t)(size < TEXT_LONG ? size : TEXT_LONG) << 56);
}

/* memcmp for short texts, without its call: words that overlap at the end. */
static inline int text_is_equal(const char *a, const char *b, size_t size) {
    size_t at;
    if (size >= 8) {
        for (at = 0; at + 8 < size; at += 8) {
            if (hash_read_8(a + at) != hash_read_8(b + at)) return 0;
        }
        return hash_read_8(a + size - 8) == hash_read_8(b + size - 8);
    }
    if (size >= 4) return hash_read_4(a) == hash_read_4(b) && hash_read_4(a + size - 4) == hash_read_4(b + size - 4);
    return size == 0 || (a[0] == b[0] && a[size >> 1] == b[size >> 1] && a[size - 1] == b[size - 1]);
}

/* Whether a str has a surrogate, which UTF-8 cannot write. */
static inline int text_has_surrogate(PyObject *str) {
    const Py_ssize_t length = PyUnicode_GET_LENGTH(str);
    const int kind = PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    Py_ssize_t i;
    if (kind == PyUnicode_1BYTE_KIND) return 0;
    for (i = 0; i < length; i++) {
        if ((PyUnicode_READ(kind, data, i) & 0xFFFFF800) == 0xD800) return 1;
    }
    return 0;
}

/* 1; 0 where the str cannot be written in UTF-8 (no exception is set); -1 with MemoryError. Looks for surrogates before
 * the encoder does: its complaint is an object that the collector knows, and making one may run foreign code.
 */
static __attribute__((noinline, cold)) int text_of_str_slow(text_t *text, PyObject *str, uint64_t seed) {
    Py_ssize_t size;
    const char *data;
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(str) < 0) return -1;
#endif
    if (((PyCompactUnicodeObject *)str)->utf8 == NULL && text_has_surrogate(str)) return 0;
    data = PyUnicode_AsUTF8AndSize(str, &size);
    if (data == NULL) return -1;
    text_of_data(text, data, (size_t)size, seed);
    return 1;
}

/* The same; ``str`` is a str or of a subclass. Runs no foreign code. */
static inline int text_of_str(text_t *text, PyObject *str, uint64_t seed) {
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        text_of_data(text, (const char *)PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str), seed);
        return 1;
    }
    return text_of_str_slow(text, str, seed);
}

#endif
