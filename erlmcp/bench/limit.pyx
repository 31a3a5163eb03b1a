"""A limit, not a server: what C reaches here with the least parsing that still answers each request by its id.

No JSON is read: the id is the ten digits behind the first ``"id":``. No header is read but Content-Length. Sockets stay
in blocking mode, as epoll says when to read and a client that sends one request at a time always takes its answer. A
large answer is written from where it lies, so that what is left is the kernel's own copying.
"""

from libc.errno cimport EINTR, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, memmove, memset
from posix.unistd cimport close, read, write

from erlmcp.bench.stream cimport ID_DIGITS, READ_BYTES, reserve
from erlmcp.transports.linux cimport EPOLL_CTL_ADD, EPOLLIN, epoll_create1, epoll_ctl, epoll_event, epoll_wait

import os
import socket


cdef extern from "<string.h>" nogil:
    void *memmem(const void *hay, size_t hay_bytes, const void *needle, size_t needle_bytes)


cdef extern from "<sys/socket.h>" nogil:
    int accept(int fd, void *address, void *address_bytes)
    int setsockopt(int fd, int level, int name, const void *value, unsigned int value_bytes)


cdef enum:
    IPPROTO_TCP = 6
    TCP_NODELAY = 1
    FD_MAX = 65536
    EVENT_COUNT = 128
    LARGE_BYTES = 1 << 16

TEXT = b'"the quick brown fox"'
BLOB = b'"%s"' % (b"x" * int(os.environ.get("BENCH_BLOB_BYTES", "0")))  # beside the usual text
MORE = b',{"type":"text","text":%s}' % BLOB if len(BLOB) > 2 else b""
SAID = BLOB if MORE else TEXT
RESULT = b'"content":[{"type":"text","text":%s}%s],"structuredContent":{"result":%s}' % (TEXT, MORE, SAID)
BODY = b'{"jsonrpc":"2.0","id":1000000000,"result":{%s,"isError":false,"resultType":"complete"}}' % RESULT
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
LINE = BODY + b"\n"

cdef struct Answer:
    char *text
    size_t size
    size_t id_at


cdef Answer answer_of(bytearray text) noexcept:
    """What is written, and where its id stands; the array must outlive what uses the answer."""
    cdef Answer made
    made.text = <char *>text
    made.size = len(text)
    made.id_at = text.index(b"1000000000")
    return made


cdef int put(Peer *peer, int fd, Answer *answer, const char *request, size_t size) except -1 nogil:
    """Write the answer to the request behind what is there. Returns 1 where the request has no id, or nobody reads."""
    cdef const char *at = <const char *>memmem(request, size, b'"id":', 5)
    if at == NULL or <size_t>(request + size - at) < 5 + ID_DIGITS:
        return 1
    if answer.size >= LARGE_BYTES:
        memcpy(answer.text + answer.id_at, at + 5, ID_DIGITS)
        return not (flush(peer, fd) and write_all(fd, answer.text, answer.size))
    reserve(&peer.wbuf, &peer.wcap, peer.wlen + answer.size)
    memcpy(peer.wbuf + peer.wlen, answer.text, answer.size)
    memcpy(peer.wbuf + peer.wlen + answer.id_at, at + 5, ID_DIGITS)
    peer.wlen += answer.size
    return 0


cdef bint write_all(int fd, const char *data, size_t size) noexcept nogil:
    cdef size_t done = 0
    cdef Py_ssize_t n
    while done < size:
        n = write(fd, data + done, size - done)
        if n < 0 and errno != EINTR:
            return False
        done += max(n, 0)
    return True


cdef bint flush(Peer *peer, int fd) noexcept nogil:
    cdef size_t size = peer.wlen
    peer.wlen = 0
    return write_all(fd, peer.wbuf, size)


cdef bint fill(Peer *peer, int fd) except -1 nogil:
    cdef Py_ssize_t n
    reserve(&peer.rbuf, &peer.rcap, peer.rlen + READ_BYTES)
    n = read(fd, peer.rbuf + peer.rlen, peer.rcap - peer.rlen)
    peer.rlen += max(n, 0)
    return n > 0


cdef size_t body_bytes_of(const char *head, const char *end) noexcept nogil:
    cdef const char *at = <const char *>memmem(head, end - head, b"Content-Length: ", 16)
    cdef size_t size = 0
    if at != NULL:
        at += 16
        while c"0" <= at[0] <= c"9":
            size = size * 10 + (at[0] - 48)
            at += 1
    return size


cdef bint serve_peer(Peer *peer, void *answers) except -1 nogil:
    cdef Answer *answer = <Answer *>answers
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
        if put(peer, peer.fd, answer, end + 4, size):
            return False
        at = end + 4 + size
    peer.rlen -= at - peer.rbuf
    memmove(peer.rbuf, at, peer.rlen)
    return flush(peer, peer.fd)


cdef int serve(int listener, serve_peer_t each, void *answers, Peer *peers) except -1 nogil:
    cdef epoll_event events[EVENT_COUNT]
    cdef epoll_event event
    cdef int epoll = epoll_create1(0)
    cdef int i, n, fd
    cdef int on = 1
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN
    event.data.u64 = listener
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)
    while True:
        n = epoll_wait(epoll, events, EVENT_COUNT, -1)
        for i in range(n):
            fd = <int>events[i].data.u64
            if fd == listener:
                fd = accept(listener, NULL, NULL)
                if 0 <= fd < FD_MAX:
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
                    peers[fd].fd = fd
                    peers[fd].rlen = peers[fd].wlen = 0
                    event.data.u64 = fd
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)
            elif not each(&peers[fd], answers):
                close(fd)


cdef int serve_all(int port, serve_peer_t each, void *answers) except -1:
    cdef int fd
    cdef Peer *peers = <Peer *>calloc(FD_MAX, sizeof(Peer))
    if peers == NULL:
        raise MemoryError
    try:
        with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
            fd = listener.fileno()
            with nogil:
                serve(fd, each, answers, peers)
    finally:
        free(peers)
    return 0


cdef int serve_lines(answer_line_t each, void *answers) except -1:
    cdef Peer peer
    cdef char *at
    cdef char *end
    memset(&peer, 0, sizeof(peer))
    try:
        with nogil:  # for as long as the input lasts
            while fill(&peer, 0):
                at = peer.rbuf
                while True:
                    end = <char *>memchr(at, c"\n", peer.rbuf + peer.rlen - at)
                    if end == NULL:
                        break
                    each(&peer, answers, at, end - at)
                    at = end + 1
                peer.rlen -= at - peer.rbuf
                memmove(peer.rbuf, at, peer.rlen)
                if not flush(&peer, 1):
                    break
    finally:
        free(peer.rbuf)
        free(peer.wbuf)
    return 0


cdef int put_line(Peer *peer, void *answer, const char *line, size_t size) except -1 nogil:
    return put(peer, 1, <Answer *>answer, line, size)


def http(int port):
    cdef bytearray text = bytearray(HTTP)
    cdef Answer answer = answer_of(text)
    serve_all(port, &serve_peer, &answer)


def stdio():
    cdef bytearray text = bytearray(LINE)
    cdef Answer answer = answer_of(text)
    serve_lines(&put_line, &answer)
