/* Arrays of 64-bit integers that come from Python: anything with a buffer (numpy, array.array, memoryview). */
#ifndef ERLMCP_ARRAY_H
#define ERLMCP_ARRAY_H

#include <Python.h>

/* Opens a C-contiguous buffer of signed or unsigned 64-bit integers in the machine's order, to be closed with
 * PyBuffer_Release. 0; -1 with TypeError where the elements are others, BufferError or ValueError where the object does
 * not lie in one piece or cannot be written.
 */
static inline int array_open(Py_buffer *view, PyObject *array, int is_signed, int is_written) {
    const char *format;
    int fits;
    if (PyObject_GetBuffer(array, view, PyBUF_ND | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT |
                                            (is_written ? PyBUF_WRITABLE : 0)) < 0) {
        return -1;
    }
    format = view->format == NULL ? "B" : view->format;
    if (*format == '@' || *format == '=' || *format == (PY_LITTLE_ENDIAN ? '<' : '>')) format++;
    fits = view->itemsize == 8 && format[0] != 0 && format[1] == 0;
    fits = fits && strchr(is_signed ? "qln" : "QLN", *format) != NULL;
    if (fits) return 0;
    PyErr_Format(PyExc_TypeError, "expected an array of %s, got elements of %zd bytes and the format '%.20s'",
                 is_signed ? "int64" : "uint64", view->itemsize, view->format == NULL ? "B" : view->format);
    PyBuffer_Release(view);
    return -1;
}

#endif
