"""A server for the benchmarks of clients: what C reaches with as little as any client needs to be answered right.

Each message is scanned (``jsonrpc``), its method looked up among five, and the answer copied with the id's token in it.
Heads are read for their verb and Content-Length alone. There are no sessions and no streams.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memmove, memset

from erlmcp._core.json cimport json_limits_init, json_limits_t
from erlmcp._core.jsonrpc cimport JSONRPC_REQUEST, envelope_t, jsonrpc_scan
from erlmcp.bench.limit cimport Peer, fill, flush, serve_all, serve_lines
from erlmcp.bench.stream cimport reserve

import json


cdef extern from "<string.h>" nogil:
    void *memmem(const void *hay, size_t hay_bytes, const void *needle, size_t needle_bytes)


cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *a, const char *b, size_t size)


cdef enum:
    METHOD_COUNT = 5
    HEAD_BYTES_MAX = 128

# What a method is answered with.
cdef struct Known:
    const char *method
    size_t method_bytes
    const char *result
    size_t result_bytes

cdef struct Answers:
    Known known[METHOD_COUNT]
    json_limits_t limits
    bint is_http

cdef dict TEXT = {"type": "text", "text": "the quick brown fox"}
cdef dict SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
cdef dict OUTPUT = {"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]}
cdef dict KEPT = {"resultType": "complete", "ttlMs": 3600000, "cacheScope": "private"}
cdef dict INFO = {"name": "fixed", "version": "1"}
cdef dict DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **KEPT}
RESULTS = {
    "tools/call": {
        "content": [TEXT],
        "structuredContent": {"result": TEXT["text"]},
        "isError": False,
        "resultType": "complete",
    },
    "tools/list": {"tools": [{"name": "echo", "inputSchema": SCHEMA, "outputSchema": OUTPUT}], **KEPT},
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": INFO},
    "server/discover": {**DISCOVERED, "_meta": {"io.modelcontextprotocol/serverInfo": INFO}},
    "ping": {},
}
# Alive for as long as the process.
cdef list TEXTS = [
    (method.encode(), json.dumps(result, separators=(",", ":")).encode()) for method, result in RESULTS.items()
]


cdef int set_up(Answers *answers, bint is_http) except -1:
    cdef int i
    cdef bytes method, result
    memset(answers, 0, sizeof(Answers))
    json_limits_init(&answers.limits)
    answers.is_http = is_http
    for i in range(METHOD_COUNT):
        method, result = TEXTS[i]
        answers.known[i].method, answers.known[i].method_bytes = PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method)
        answers.known[i].result, answers.known[i].result_bytes = PyBytes_AS_STRING(result), PyBytes_GET_SIZE(result)
    return 0


cdef int put(Peer *peer, const char *data, size_t size) except -1 nogil:
    reserve(&peer.wbuf, &peer.wcap, peer.wlen + size)
    memcpy(peer.wbuf + peer.wlen, data, size)
    peer.wlen += size
    return 0


cdef int put_head(Peer *peer, const char *status, size_t body_bytes) except -1 nogil:
    cdef char head[HEAD_BYTES_MAX]
    cdef int size = snprintf(
        head, HEAD_BYTES_MAX, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status,
        body_bytes,
    )
    return put(peer, head, size)


cdef int put_answer(
    Peer *peer, Answers *answers, const char *id, size_t id_bytes, const char *value, size_t value_bytes, bint is_error
) except -1 nogil:
    cdef const char *kind = b',"error":' if is_error else b',"result":'
    cdef size_t kind_bytes = 9 if is_error else 10
    if answers.is_http:
        put_head(peer, "200 OK", 22 + id_bytes + kind_bytes + value_bytes + 1)
    put(peer, b'{"jsonrpc":"2.0","id":', 22)
    put(peer, id, id_bytes)
    put(peer, kind, kind_bytes)
    put(peer, value, value_bytes)
    return put(peer, b"}" if answers.is_http else b"}\n", 1 if answers.is_http else 2)


cdef int answer(Peer *peer, Answers *answers, const char *message, size_t size) except -1 nogil:
    """To a request its result or an error; to anything else, over HTTP, that it was taken."""
    cdef envelope_t env
    cdef Known *known
    cdef int i
    if jsonrpc_scan(message, size, &answers.limits, NULL, 0, &env) != JSONRPC_REQUEST:
        return put_head(peer, "202 Accepted", 0) if answers.is_http else 0
    for i in range(METHOD_COUNT):
        known = &answers.known[i]
        if env.method.size != known.method_bytes:
            continue
        if memcmp(message + env.method.start, known.method, env.method.size) == 0:
            return put_answer(
                peer, answers, message + env.id.start, env.id.size, known.result, known.result_bytes, False
            )
    return put_answer(
        peer, answers, message + env.id.start, env.id.size, b'{"code":-32601,"message":"Method not found"}', 44, True
    )


cdef size_t body_bytes_of(const char *head, const char *end) noexcept nogil:
    """What Content-Length says, however its name is written."""
    cdef const char *at = head
    cdef size_t size = 0
    while at < end:
        at = <const char *>memmem(at, end - at, b"\r\n", 2)
        if at == NULL:
            return 0
        at += 2
        if end - at > 15 and strncasecmp(at, b"content-length:", 15) == 0:
            at += 15
            while at < end and at[0] == c" ":
                at += 1
            while at < end and c"0" <= at[0] <= c"9":
                size = size * 10 + (at[0] - 48)
                at += 1
            return size
    return 0


cdef bint serve_http(Peer *peer, void *data) except -1 nogil:
    cdef Answers *answers = <Answers *>data
    cdef char *at
    cdef char *end
    cdef size_t size
    if not fill(peer, peer.fd):
        return False
    at = peer.rbuf
    while True:
        end = <char *>memmem(at, peer.rbuf + peer.rlen - at, b"\r\n\r\n", 4)
        if end == NULL:
            break
        size = body_bytes_of(at, end)
        if <size_t>(peer.rbuf + peer.rlen - (end + 4)) < size:
            break
        if memcmp(at, b"POST", 4) == 0:
            answer(peer, answers, end + 4, size)
        else:
            put_head(peer, "405 Method Not Allowed", 0)
        at = end + 4 + size
    peer.rlen -= at - peer.rbuf
    memmove(peer.rbuf, at, peer.rlen)
    return flush(peer, peer.fd)


cdef int answer_line(Peer *peer, void *answers, const char *line, size_t size) except -1 nogil:
    return answer(peer, <Answers *>answers, line, size)


def http(int port):
    cdef Answers answers
    set_up(&answers, True)
    serve_all(port, &serve_http, &answers)


def stdio():
    cdef Answers answers
    set_up(&answers, False)
    serve_lines(&answer_line, &answers)
