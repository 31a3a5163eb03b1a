/* Included by json_encode.h more than once: JSON_WAY names the functions of one way to write. */

static char *JSON_WAY(json_put_value)(json_writer_t *writer, char *out, PyObject *value);

static inline char *JSON_WAY(json_w_text)(json_writer_t *writer, char *out, PyObject *text) {
    size_t length = (size_t)PyUnicode_GET_LENGTH(text), n;
    if (JSON_UNLIKELY((size_t)(writer->end - out) < length * JSON_ESCAPE_BYTES_MAX + 40)) {
        return json_w_long_text(writer, out, text);
    }
    const char *p = json_peek_utf8(text, &n);
    *out++ = '"';
    if (JSON_LIKELY(p != NULL)) {
#ifdef JSON_MASKED
        if (JSON_LIKELY(n <= 16)) {
            __mmask16 live = (__mmask16)(((uint32_t)1 << n) - 1);
            __m128i v = _mm_maskz_loadu_epi8(live, p);
            _mm_storeu_si128((__m128i *)out, v);
            uint32_t special = _mm_mask_cmplt_epu8_mask(live, v, _mm_set1_epi8(0x20)) |
                               _mm_cmpeq_epi8_mask(v, _mm_set1_epi8('"')) |
                               _mm_cmpeq_epi8_mask(v, _mm_set1_epi8('\\'));
            out = JSON_LIKELY(special == 0) ? out + n : json_put_body_avx512(out, p, n);
        } else {
            out = json_put_body_avx512(out, p, n);
        }
#else
        out = json_put_body(out, p, n);
#endif
    } else {
        out = json_put_runes(out, (int)PyUnicode_KIND(text), PyUnicode_DATA(text), length, 0);
        if (out == NULL) {
            return json_writer_failed(writer, JSON_W_SURROGATE, text);
        }
    }
    *out = '"';
    return out + 1;
}

/* A bracket or comma, the key with its quotes, and the colon. */
static inline char *JSON_WAY(json_w_key)(json_writer_t *writer, char *out, PyObject *key, char before) {
#ifdef JSON_MASKED
    if (JSON_LIKELY(PyUnicode_IS_COMPACT_ASCII(key) && PyUnicode_GET_LENGTH(key) <= 16 && writer->end - out >= 32)) {
        size_t n = (size_t)PyUnicode_GET_LENGTH(key);
        __mmask16 live = (__mmask16)(((uint32_t)1 << n) - 1);
        __m128i v = _mm_maskz_loadu_epi8(live, (const char *)((PyASCIIObject *)key + 1));
        uint32_t special = _mm_mask_cmplt_epu8_mask(live, v, _mm_set1_epi8(0x20)) |
                           _mm_cmpeq_epi8_mask(v, _mm_set1_epi8('"')) | _mm_cmpeq_epi8_mask(v, _mm_set1_epi8('\\'));
        if (JSON_LIKELY(special == 0)) {
            out[0] = before;
            out[1] = '"';
            _mm_storeu_si128((__m128i *)(out + 2), v);
            out[n + 2] = '"';
            out[n + 3] = ':';
            return out + n + 4;
        }
    }
#endif
    out = json_w_byte(writer, out, before);
    out = out == NULL ? NULL : JSON_WAY(json_w_text)(writer, out, key);
    return out == NULL ? NULL : json_w_byte(writer, out, ':');
}

static char *JSON_WAY(json_w_float)(json_writer_t *writer, char *out, PyObject *value) {
    char text[JSON_DOUBLE_BYTES_MAX];
    double number = PyFloat_AS_DOUBLE(value);
    if (JSON_UNLIKELY(number - number != 0)) {
        return json_writer_failed(writer, JSON_W_FLOAT, value);
    }
    if (JSON_LIKELY(writer->end - out >= JSON_DOUBLE_BYTES_MAX)) {
        return json_put_double(out, number);
    }
    return json_w_bytes(writer, out, text, (size_t)(json_put_double(text, number) - text));
}

static inline char *JSON_WAY(json_w_array)(json_writer_t *writer, char *out, PyObject *value) {
    PyObject **items = PySequence_Fast_ITEMS(value);
    Py_ssize_t n = PySequence_Fast_GET_SIZE(value);
    long long small;
    char before = '[';
    if (n == 0) {
        return json_w_bytes(writer, out, "[]", 2);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = items[i];
        out = json_w_byte(writer, out, before);
        before = ',';
        if (JSON_UNLIKELY(out == NULL)) {
            return NULL;
        }
        if (Py_TYPE(item) == &PyLong_Type && json_small_int(item, &small) && writer->end - out >= JSON_INT_BYTES_MAX) {
            out = json_put_int64(out, small); /* a list of ints makes no call for each */
            continue;
        }
        out = JSON_WAY(json_put_value)(writer, out, item);
        if (JSON_UNLIKELY(out == NULL)) {
            return NULL;
        }
    }
    return json_w_byte(writer, out, ']');
}

static inline char *JSON_WAY(json_w_dict)(json_writer_t *writer, char *out, PyObject *value) {
    Py_ssize_t at = 0;
    PyObject *key, *item;
    char before = '{';
    while (PyDict_Next(value, &at, &key, &item)) {
        if (JSON_UNLIKELY(!PyUnicode_Check(key))) {
            return json_writer_failed(writer, JSON_W_KEY, key);
        }
        out = JSON_WAY(json_w_key)(writer, out, key, before);
        before = ',';
        out = out == NULL ? NULL : JSON_WAY(json_put_value)(writer, out, item);
        if (JSON_UNLIKELY(out == NULL)) {
            return NULL;
        }
    }
    return before == '{' ? json_w_bytes(writer, out, "{}", 2) : json_w_byte(writer, out, '}');
}

static char *JSON_WAY(json_put_value)(json_writer_t *writer, char *out, PyObject *value) {
    if (PyUnicode_Check(value)) {
        return JSON_WAY(json_w_text)(writer, out, value);
    }
    if (Py_TYPE(value) == &PyLong_Type) {
        long long small;
        if (JSON_LIKELY(json_small_int(value, &small) && writer->end - out >= JSON_INT_BYTES_MAX)) {
            return json_put_int64(out, small);
        }
        return json_w_int(writer, out, value);
    }
    int is_dict = PyDict_Check(value);
    if (is_dict || PyList_Check(value) || PyTuple_Check(value)) {
        if (JSON_UNLIKELY(writer->depth >= writer->depth_max)) {
            return json_writer_failed(writer, JSON_W_DEPTH, value);
        }
        writer->depth++;
        out = is_dict ? JSON_WAY(json_w_dict)(writer, out, value) : JSON_WAY(json_w_array)(writer, out, value);
        writer->depth--;
        return out;
    }
    if (Py_TYPE(value) == &PyFloat_Type) {
        return JSON_WAY(json_w_float)(writer, out, value);
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
