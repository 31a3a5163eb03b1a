"""Sockets read and written straight, by an epoll of their own that the loop looks at; ``poller.pyi`` says what it does.

Operations wanted: give what came on one of thousands of sockets to its protocol, and send what a protocol writes before
it goes on, with nothing between the two and the kernel but the two system calls; and give the loop its turn.

Plan: the loop hears of one descriptor, that of the epoll, and calls ``turn``, which takes EVENT_COUNT_MAX events at
most. They are edges, and come in the order in which the bytes did: a socket that was served goes to the end. A read of
less than READ_BYTES took all there was, and what comes next is an edge again. Where there may be more than an edge told
(the buffer was full, the other side has ended, reading was paused), the epoll is told to look once more, at the end.

Invariants:
1. A transport is in ``live`` from its registration until its ``connection_lost`` was called, which the loop does, never
   a turn. So the events of a turn point to what lives, and its descriptors are not given out again meanwhile.
2. EPOLLOUT is asked for exactly while something waits, but for the moment between two steps of one function.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EPROTO, errno
from libc.stdint cimport uint32_t
from libc.string cimport memset
from posix.unistd cimport close

from erlmcp.transports.linux cimport (
    AF_INET,
    AF_INET6,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    INET6_ADDRSTRLEN,
    SHUT_WR,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    erlmcp_accept,
    erlmcp_address_t,
    erlmcp_error_of,
    erlmcp_name,
    erlmcp_no_delay,
    erlmcp_receive,
    erlmcp_send,
    erlmcp_send_parts,
    iovec,
    shutdown,
)

import os
import socket
import warnings
from asyncio.trsock import TransportSocket
from collections import deque


cdef enum:
    EVENT_COUNT_MAX = 64  # in a turn: what 64 quick calls take, 0.4 ms
    ACCEPT_COUNT_MAX = 64  # in a turn
    READ_BYTES = 256 * 1024
    PART_COUNT_MAX = 64  # in one system call
    HIGH_BYTES = 64 * 1024  # where asyncio and uvloop pause a writer
    LARGE_BYTES = 64 * 1024  # sent without the GIL: 9 us and more


cdef object error_of(int number):
    return OSError(number, os.strerror(number))


cdef class Poller:
    cdef readonly object loop
    cdef readonly set live
    cdef char *buffer
    cdef int epoll
    cdef bint is_leaving

    def __cinit__(self, loop):
        self.epoll = -1
        self.loop = loop
        self.live = set()
        self.buffer = <char *>PyMem_Malloc(READ_BYTES)
        if self.buffer == NULL:
            raise MemoryError
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise error_of(errno)

    def __init__(self, loop):
        loop.add_reader(self.epoll, self.turn)

    def __dealloc__(self):
        if self.epoll >= 0:
            close(self.epoll)
        PyMem_Free(self.buffer)

    def turn(self):
        cdef epoll_event events[EVENT_COUNT_MAX]
        cdef int count = epoll_wait(self.epoll, events, EVENT_COUNT_MAX, 0)
        cdef int at = 0
        try:
            while at < count:
                at += 1
                serve(<SocketTransport>events[at - 1].data.ptr, events[at - 1].events)
        finally:
            while at < count:  # Broken off by what ends the program, or not: no edge comes again by itself.
                watch(<SocketTransport>events[at].data.ptr, EPOLL_CTL_MOD)
                at += 1

    def accept(self, int fd, make):
        cdef erlmcp_address_t address
        cdef int found, _attempt
        memset(&address, 0, sizeof(address))
        for _attempt in range(ACCEPT_COUNT_MAX):
            found = erlmcp_accept(fd, &address)
            if found >= 0:
                admit(self, found, &address, make)
            elif found == -EAGAIN:
                return
            elif found != -EINTR and found != -ECONNABORTED and found != -EPROTO:
                raise error_of(-found)

    def finish(self):
        self.is_leaving = True
        leave_if_empty(self)


cdef int leave_if_empty(Poller self) except -1:
    if self.is_leaving and not self.live and self.epoll >= 0:
        self.loop.remove_reader(self.epoll)
        close(self.epoll)
        self.epoll = -1
    return 0


cdef int admit(Poller self, int fd, erlmcp_address_t *address, object make) except -1:
    cdef SocketTransport transport = SocketTransport.__new__(SocketTransport)
    cdef object protocol
    transport.fd = fd
    transport.poller = self
    transport.address = address[0]
    erlmcp_no_delay(fd)  # a socket of another family has no such option, and says so
    try:
        protocol = make()
        watch(transport, EPOLL_CTL_ADD)
        self.live.add(transport)
        set_protocol(transport, protocol)
        protocol.connection_made(transport)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        fail(transport, error, "a connection could not be made")
    return 0


cdef int watch(SocketTransport self, int action) except -1:
    """Ask the epoll for this one's edges; for those, too, that it told already."""
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET
    if self.waits is not None:
        event.events |= EPOLLOUT
    event.data.ptr = <void *>self
    if epoll_ctl(self.poller.epoll, action, self.fd, &event):
        raise error_of(errno)
    return 0


cdef int serve(SocketTransport self, uint32_t events) except -1:
    assert self.fd >= 0 and self in self.poller.live
    assert (self.waiting_bytes > 0) == (self.waits is not None)
    if self.waits is not None and events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
        write_on(self)
    if self.is_leaving or self.is_paused or not events & ~EPOLLOUT:
        return 0
    if not self.has_ended:
        receive(self, events)
    elif events & EPOLLERR:
        lose(self, error_of(erlmcp_error_of(self.fd)))
    return 0


cdef int receive(SocketTransport self, uint32_t events) except -1:
    cdef Py_ssize_t size = erlmcp_receive(self.fd, self.poller.buffer, READ_BYTES)
    if size <= 0:
        if size == 0:
            end(self)
        elif size == -EINTR:
            watch(self, EPOLL_CTL_MOD)
        elif size != -EAGAIN:
            lose(self, error_of(<int>-size))
        return 0
    if size == READ_BYTES or events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        watch(self, EPOLL_CTL_MOD)
    try:
        self.received(PyBytes_FromStringAndSize(self.poller.buffer, size))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        fail(self, error, "data_received() failed")
    return 0


cdef int end(SocketTransport self) except -1:
    cdef bint is_kept = False
    self.has_ended = True
    try:
        is_kept = self.protocol.eof_received()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        fail(self, error, "eof_received() failed")
    if not is_kept:
        self.close()
    return 0


cdef int report(SocketTransport self, object error, str what) except -1:
    self.poller.loop.call_exception_handler(
        {"message": what, "exception": error, "transport": self, "protocol": self.protocol}
    )
    return 0


cdef int fail(SocketTransport self, object error, str what) except -1:
    """The protocol raised: this connection is lost, and none of its neighbours."""
    report(self, error, what)
    return lose(self, error)


cdef int lose(SocketTransport self, object error) except -1:
    if not self.is_over:
        self.is_over = self.is_leaving = True
        self.waits = None
        self.waiting_bytes = 0
        self.poller.loop.call_soon(self._finish, error)
    return 0


cdef int set_protocol(SocketTransport self, object protocol) except -1:
    self.received = protocol.data_received
    self.protocol = protocol
    return 0


cdef Py_ssize_t send_bytes(int fd, const char *data, Py_ssize_t size) noexcept:
    cdef Py_ssize_t sent
    if size < LARGE_BYTES:
        return erlmcp_send(fd, data, size)
    with nogil:
        sent = erlmcp_send(fd, data, size)
    return sent


cdef int put(SocketTransport self, object data, const char *start, Py_ssize_t size) except -1:
    cdef Py_ssize_t sent
    if self.has_written_eof:
        raise RuntimeError("nothing can be written after write_eof()")
    if self.is_over or size == 0:
        return 0
    if self.waits is not None:
        self.waits.append(lasting(data))
        self.waiting_bytes += size
    else:
        sent = send_bytes(self.fd, start, size)
        if sent == size:
            return 0
        if sent < 0:
            if sent != -EAGAIN and sent != -EINTR:
                return lose(self, error_of(<int>-sent))
            sent = 0
        self.waits = deque((lasting(data),))
        self.first_at = sent
        self.waiting_bytes = size - sent
        watch(self, EPOLL_CTL_MOD)
    return pause_if_full(self)


cdef object lasting(object data):
    """What stays as it is until it is sent."""
    if PyBytes_CheckExact(data) or (isinstance(data, memoryview) and data.readonly):
        return data
    return bytes(data)


cdef int pause_if_full(SocketTransport self) except -1:
    if self.waiting_bytes <= self.high_bytes or self.has_paused_writer:
        return 0
    self.has_paused_writer = True
    try:
        self.protocol.pause_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report(self, error, "pause_writing() failed")
    return 0


cdef int resume_if_low(SocketTransport self) except -1:
    if self.waiting_bytes > self.low_bytes or not self.has_paused_writer:
        return 0
    self.has_paused_writer = False
    try:
        self.protocol.resume_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report(self, error, "resume_writing() failed")
    return 0


cdef Py_ssize_t send_waiting(SocketTransport self, bint *is_all) except? -1:
    """Send of what waits what the socket takes at once: how many bytes, or -errno."""
    cdef Py_buffer views[PART_COUNT_MAX]
    cdef iovec parts[PART_COUNT_MAX]
    cdef Py_ssize_t sent, asked = 0
    cdef int count = 0
    cdef object data
    try:
        for data in self.waits:
            if count == PART_COUNT_MAX:
                break
            PyObject_GetBuffer(data, &views[count], PyBUF_SIMPLE)
            parts[count].iov_base = views[count].buf
            parts[count].iov_len = views[count].len
            asked += views[count].len
            count += 1
        parts[0].iov_base = <char *>parts[0].iov_base + self.first_at
        parts[0].iov_len -= self.first_at
        asked -= self.first_at
        with nogil:  # 70 us for 1 MiB
            sent = erlmcp_send_parts(self.fd, parts, count)
        forget_sent(self, views, count, max(0, sent))
    finally:
        while count:
            count -= 1
            PyBuffer_Release(&views[count])
    is_all[0] = sent == asked
    return sent


cdef int forget_sent(SocketTransport self, Py_buffer *views, int count, Py_ssize_t sent) except -1:
    cdef int at = 0
    self.waiting_bytes -= sent
    sent += self.first_at
    while at < count and sent >= views[at].len:
        sent -= views[at].len
        self.waits.popleft()
        at += 1
    self.first_at = sent
    assert self.waiting_bytes >= 0 and (self.waiting_bytes > 0) == bool(self.waits)
    return 0


cdef int flush(SocketTransport self) except -1:
    """Send what waits, as far as the socket takes it."""
    cdef bint is_all = True
    cdef Py_ssize_t sent
    while is_all and self.waits:
        sent = send_waiting(self, &is_all)
        if sent < 0 and sent != -EAGAIN and sent != -EINTR:
            return lose(self, error_of(<int>-sent))
    if not self.waits:
        self.waits = None
    return 0


cdef int write_on(SocketTransport self) except -1:
    flush(self)
    if self.is_over:
        return 0
    if self.waits is None:
        watch(self, EPOLL_CTL_MOD)
    resume_if_low(self)
    if self.waits is None and self.is_leaving:
        return lose(self, None)
    if self.waits is None and self.has_written_eof:
        shutdown(self.fd, SHUT_WR)
    return 0


cdef class SocketTransport:
    writes_at_once = True

    cdef Poller poller
    cdef object protocol
    cdef object received  # the protocol's data_received
    cdef object waits  # what the socket did not take yet; None where that is nothing
    cdef object sock  # as Python knows it, once somebody asked
    cdef Py_ssize_t first_at  # from where on the first of what waits is still to be sent
    cdef Py_ssize_t waiting_bytes
    cdef Py_ssize_t high_bytes
    cdef Py_ssize_t low_bytes
    cdef int fd
    cdef bint is_leaving  # nothing is read any more; it ends once what waits was sent
    cdef bint is_over  # connection_lost was called, or is about to be
    cdef bint is_paused
    cdef bint has_ended  # the other side writes no more
    cdef bint has_written_eof
    cdef bint has_paused_writer
    cdef erlmcp_address_t address

    def __cinit__(self):
        self.fd = -1
        self.high_bytes = HIGH_BYTES
        self.low_bytes = HIGH_BYTES // 4

    def __del__(self):
        if self.fd >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            release(self)

    def __repr__(self):
        return f"<SocketTransport fd={self.fd}{' closing' if self.is_leaving else ''}>"

    def write(self, data):
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            put(self, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes, a bytearray or a memoryview is expected, not {type(data).__name__}")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            put(self, data, <const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def writelines(self, parts):
        cdef list held = [lasting(data) for data in parts if memoryview(data).nbytes]
        cdef object data
        if self.has_written_eof:
            raise RuntimeError("nothing can be written after write_eof()")
        if self.is_over or not held:
            return
        for data in held:
            self.waiting_bytes += memoryview(data).nbytes
        if self.waits is not None:
            self.waits.extend(held)
        else:
            self.first_at = 0
            self.waits = deque(held)
            flush(self)
            if self.waits is not None:
                watch(self, EPOLL_CTL_MOD)
        pause_if_full(self)

    def can_write_eof(self):
        return True

    def write_eof(self):
        if self.is_leaving or self.has_written_eof:
            return
        self.has_written_eof = True
        if self.waits is None:
            shutdown(self.fd, SHUT_WR)

    def close(self):
        if not self.is_leaving:
            self.is_leaving = True
            if self.waits is None:
                lose(self, None)

    def abort(self):
        lose(self, None)

    def is_closing(self):
        return self.is_leaving

    def is_reading(self):
        return not (self.is_leaving or self.is_paused)

    def pause_reading(self):
        self.is_paused = self.is_paused or not self.is_leaving

    def resume_reading(self):
        if self.is_paused and not self.is_leaving:
            self.is_paused = False
            watch(self, EPOLL_CTL_MOD)

    def set_protocol(self, protocol):
        set_protocol(self, protocol)

    def get_protocol(self):
        return self.protocol

    def set_write_buffer_limits(self, high=None, low=None):
        if high is None:
            high = HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be at least low ({low!r}), and that 0")
        self.high_bytes = high
        self.low_bytes = low
        pause_if_full(self)

    def get_write_buffer_limits(self):
        return self.low_bytes, self.high_bytes

    def get_write_buffer_size(self):
        return self.waiting_bytes

    def get_extra_info(self, name, default=None):
        if name == "peername":
            return peer_name(self)
        if name != "socket" and name != "sockname" or self.fd < 0:
            return default
        return TransportSocket(sock_of(self)) if name == "socket" else sock_of(self).getsockname()

    def _finish(self, error):
        assert self.fd >= 0
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(error)
        finally:
            self.protocol = self.received = None
            epoll_ctl(self.poller.epoll, EPOLL_CTL_DEL, self.fd, NULL)
            release(self)
            self.poller.live.discard(self)
            leave_if_empty(self.poller)


cdef int release(SocketTransport self) except -1:
    if self.sock is not None:
        self.sock.detach()
    close(self.fd)
    self.fd = -1
    return 0


cdef object sock_of(SocketTransport self):
    if self.sock is None:
        self.sock = socket.socket(family_of(self), socket.SOCK_STREAM, 0, fileno=self.fd)
    return self.sock


cdef int family_of(SocketTransport self) noexcept:
    cdef char text[INET6_ADDRSTRLEN]
    cdef unsigned int numbers[3]
    return erlmcp_name(&self.address, text, numbers)


cdef object peer_name(SocketTransport self):
    cdef char text[INET6_ADDRSTRLEN]
    cdef unsigned int numbers[3]
    cdef int family = erlmcp_name(&self.address, text, numbers)
    if family == AF_INET:
        return text.decode(), numbers[0]
    if family == AF_INET6:
        return text.decode(), numbers[0], numbers[1], numbers[2]
    return "" if self.fd < 0 else sock_of(self).getpeername()
