"""The corridor's way through: pieces of the message that came in, and between them what is to be another.

The scanner has validated the text and noted where its parts lie, so that nothing is read again: a message of a kilobyte
is two or three copies of spans. Strings are replaced with their quotes, whose places are beside the span's.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memcpy

from erlmcp._core.corridor cimport Call, KEY_NAME, KEY_URI
from erlmcp._core.jsonrpc cimport (
    JSONRPC_ERROR, JSONRPC_INVALID, JSONRPC_NOTIFICATION, JSONRPC_RESULT, JSONRPC_TEXT_ESCAPED, JSONRPC_TEXT_PLAIN,
    span_t, text_span_t,
)

cdef enum:
    OPENING = 123
    CLOSING = 125


# Of a message's text: what stands from start to end gives way to other text, which is borrowed.
ctypedef struct edit_t:
    size_t start
    size_t end
    const char* text
    size_t size


cdef inline const char* data_of(Call call) noexcept:
    return PyBytes_AS_STRING(call.data) + call.start


cdef edit_t edit_of(size_t start, size_t end, bytes text) noexcept:
    cdef edit_t edit
    edit.start, edit.end = start, end
    edit.text, edit.size = PyBytes_AS_STRING(text), <size_t>PyBytes_GET_SIZE(text)
    return edit


cdef bytes edited(Call call, size_t start, size_t end, const edit_t* edits, int count):
    """The message's text from start to end, with edits that lie within, in order and apart."""
    cdef size_t size = end - start
    cdef const char* p = data_of(call)
    cdef char* to
    cdef int i
    for i in range(count):
        size += edits[i].size - (edits[i].end - edits[i].start)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    to = PyBytes_AS_STRING(made)
    for i in range(count):
        assert start <= edits[i].start <= edits[i].end <= end
        memcpy(to, p + start, edits[i].start - start)
        to += edits[i].start - start
        memcpy(to, edits[i].text, edits[i].size)
        to += edits[i].size
        start = edits[i].end
    memcpy(to, p + start, end - start)
    return made


cdef bytes text_of(Call call, span_t part):
    return PyBytes_FromStringAndSize(data_of(call) + part.start, part.size)


cdef bytes first_member(Call call, bytes meta):
    """What is put behind the brace that opens params without _meta."""
    cdef const char* p = data_of(call) + call.env.params.start + 1
    while p[0] == 32 or p[0] == 9 or p[0] == 10 or p[0] == 13:
        p += 1
    return b'"_meta":' + meta + (b"" if p[0] == CLOSING else b",")


cdef object relay_params_of(Call call, bytes name, bytes meta):
    cdef span_t params = call.env.params
    cdef text_span_t text
    cdef edit_t[2] edits
    cdef edit_t edit
    cdef bytes member  # borrowed by its edit
    cdef int count = 0
    if call.kind > JSONRPC_NOTIFICATION:
        return None
    if params.size == 0:
        if name is not None:
            raise ValueError("there are no params that name anything")
        return None if meta is None else b'{"_meta":' + meta + b"}"
    if meta is not None:
        if data_of(call)[params.start] != OPENING:
            raise ValueError("params are an array, which has no _meta")
        if call.env.meta.size:
            edits[0] = edit_of(call.env.meta.start, call.env.meta.start + call.env.meta.size, meta)
        else:
            member = first_member(call, meta)
            edits[0] = edit_of(params.start + 1, params.start + 1, member)
        count = 1
    if name is not None:
        text = call.env.uri if call.key_kind == KEY_URI else call.env.name
        if (call.key_kind != KEY_NAME and call.key_kind != KEY_URI) or not (
            text.state == JSONRPC_TEXT_PLAIN or text.state == JSONRPC_TEXT_ESCAPED
        ):
            raise ValueError("params name nothing by the key of their method")
        edit = edit_of(text.start - 1, text.start + text.size + 1, name)
        if count and edits[0].start > edit.start:
            edits[1] = edits[0]
            edits[0] = edit
        else:
            edits[count] = edit
        count += 1
    return edited(call, params.start, params.start + params.size, edits, count)


cdef bytes relay_answer_of(Call call, bytes id_raw):
    cdef edit_t edit
    if call.env.id.size == 0 or call.kind == JSONRPC_INVALID:
        raise ValueError("the message has no id")
    edit = edit_of(call.env.id.start, call.env.id.start + call.env.id.size, id_raw)
    return edited(call, 0, call.size, &edit, 1)


def relay_params(Call call not None, bytes name=None, bytes meta=None):
    return relay_params_of(call, name, meta)


def relay_answer(Call call not None, bytes id_raw not None):
    return relay_answer_of(call, id_raw)


def result_text(Call call not None):
    return text_of(call, call.env.result) if call.kind == JSONRPC_RESULT else None


def error_text(Call call not None):
    return text_of(call, call.env.error) if call.kind == JSONRPC_ERROR and call.env.error.size else None
