"""The load generator: one thread, raw sockets and pipes, epoll, no Python on the way of a message.

A *stream* is one connection (or a pair of pipes). Each has a table of what it has outstanding: when a message was due,
and its id. Over HTTP answers come in order, so the table is a FIFO; over newline framing they come in any order, so a
message lies at ``id & mask`` (an id whose place is taken is skipped: ids stay unique and increasing, without hashing).

One clock reading serves all answers of a read, one write carries all that is to be sent to a stream. Where the expected
text and the id were found in the last answer is tried first in the next one, as answers of one server look alike. A
connection that fails is opened again under the GIL; everything else runs without it.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, itimerspec
from posix.unistd cimport close, read, write

from erlmcp._core.meter cimport Histogram, histogram_record_alone
from erlmcp.bench.linux cimport (
    CLOCK_THREAD_CPUTIME_ID, TFD_NONBLOCK, TFD_TIMER_ABSTIME, timerfd_create, timerfd_settime,
)
from erlmcp.bench.stream cimport (
    ID_DIGITS, READ_BYTES, UNTIL_CLOSE, Pending, Stream, holds, now_ns, put_id, read_chunks, read_head, read_id,
    reserve,
)
from erlmcp.transports.linux cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, epoll_create1, epoll_ctl, epoll_event, epoll_wait,
)

import os
import socket


cdef extern from "<string.h>" nogil:
    void *memmem(const void *hay, size_t hay_bytes, const void *needle, size_t needle_bytes)


ID_SLOT = b"1000000000"
KIND_NAMES = ("status", "wrong", "closed", "timeout", "malformed")

cdef enum:
    HEAD_BYTES_MAX = 1 << 16
    SAMPLE_BYTES = 512
    EVENT_COUNT = 128
    GRACE_NS = 10_000_000  # fixed rate: what was due within the run is still sent so long after it
    STATUS = 0
    WRONG = 1
    CLOSED = 2
    TIMEOUT = 3
    MALFORMED = 4
    KIND_COUNT = 5

cdef uint64_t TIMER = <uint64_t>-1  # stands for the timer in epoll data
cdef int64_t NEVER = <int64_t>1 << 62


@cython.final
cdef class Engine:
    """A run: streams, their counters, and the loop over them."""

    cdef Stream *streams
    cdef Py_ssize_t stream_count
    cdef object host, kept  # kept: the requests' bytes, which streams point into
    cdef int port, epoll, timer, status
    cdef bint is_http
    cdef uint64_t depth, mask
    cdef const char *expect
    cdef size_t expect_bytes, expect_last, id_last
    cdef double interval  # between two sends at a fixed rate, ns; 0 in a closed loop
    cdef int64_t count_max, deadline, timeout, start, next_due, last_answer, next_id
    cdef int64_t last_sent, sent, due_count, outstanding, in_time, unmatched, notices, reconnects
    cdef int64_t kinds[KIND_COUNT]
    cdef char sample[SAMPLE_BYTES]
    cdef size_t sample_bytes
    cdef Py_ssize_t turn
    cdef bint is_reopened  # a fresh connection has nothing to do yet
    cdef Histogram latencies

    def __cinit__(self, Py_ssize_t stream_count, uint64_t depth):
        cdef Py_ssize_t i
        self.epoll = self.timer = -1
        self.depth = depth
        self.mask = 1
        # Over lines, answers may overtake each other: room for stragglers keeps ids from being skipped.
        while self.mask < 4 * depth:
            self.mask *= 2
        self.mask -= 1
        self.streams = <Stream *>calloc(stream_count, sizeof(Stream))
        if self.streams == NULL:
            raise MemoryError
        self.stream_count = stream_count
        for i in range(stream_count):
            self.streams[i].fd_in = self.streams[i].fd_out = -1
            self.streams[i].slot = -1
            self.streams[i].table = <Pending *>calloc(self.mask + 1, sizeof(Pending))
            if self.streams[i].table == NULL:
                raise MemoryError
        self.latencies = Histogram()

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.stream_count if self.streams != NULL else 0):
            if self.is_http:
                self.drop(&self.streams[i])
            free(self.streams[i].table)
            free(self.streams[i].rbuf)
            free(self.streams[i].wbuf)
        free(self.streams)
        if self.timer >= 0:
            close(self.timer)
        if self.epoll >= 0:
            close(self.epoll)

    # -- connections
    cdef int watch(self, Stream *s, int operation, int fd, uint32_t events, bint is_out) except -1 nogil:
        cdef epoll_event event
        memset(&event, 0, sizeof(event))
        event.events = events
        event.data.u64 = <uint64_t>(s - self.streams) * 2 + is_out
        if epoll_ctl(self.epoll, operation, fd, &event) < 0:
            with gil:
                raise OSError(errno, "epoll_ctl: " + os.strerror(errno))
        return 0

    cdef int attach(self, Stream *s, int fd_in, int fd_out) except -1 nogil:
        """Take over open descriptors, both not blocking."""
        s.fd_in = fd_in
        s.fd_out = fd_out
        s.is_open = True
        s.is_blocked = s.in_body = False
        s.head = s.waiting = 0
        s.rlen = s.rpos = s.scanned = s.wlen = s.wpos = 0
        return self.watch(s, EPOLL_CTL_ADD, fd_in, EPOLLIN, False)

    cdef int open(self, Stream *s) except -1 nogil:
        """Connect. Raises OSError."""
        cdef int fd
        with gil:
            made = socket.create_connection((self.host, self.port), timeout=self.timeout / 1e9)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setblocking(False)
            fd = made.detach()
        return self.attach(s, fd, fd)

    cdef void drop(self, Stream *s) noexcept nogil:
        if s.is_open:
            s.is_open = False
            close(s.fd_in)

    cdef int lose(self, Stream *s) except -1 nogil:
        """The connection is over. What it still owed is an error; it is opened again if there is more to send."""
        self.kinds[CLOSED] += s.waiting
        self.outstanding -= s.waiting
        if not self.is_http:
            s.is_open = False
            s.waiting = 0
            return self.watch(s, EPOLL_CTL_DEL, s.fd_in, 0, False)
        self.drop(s)
        s.waiting = 0
        memset(s.table, 0, (self.mask + 1) * sizeof(Pending))
        if self.may_send(now_ns(CLOCK_MONOTONIC)):
            self.reconnects += 1
            with gil:
                try:
                    self.open(s)
                except OSError:
                    return 0
            self.is_reopened = True
        return 0

    # -- sending
    cdef inline bint may_send(self, int64_t now) noexcept nogil:
        return self.sent < self.count_max and now < self.deadline

    cdef int push(self, Stream *s, int64_t due) except -1 nogil:
        """Put one request into the stream's write buffer."""
        cdef Pending *place
        cdef int64_t id = self.next_id
        cdef char *at
        if self.is_http:
            place = &s.table[(s.head + s.waiting) & self.mask]
        else:
            while s.table[<uint64_t>id & self.mask].due:
                id += 1
            place = &s.table[<uint64_t>id & self.mask]
        reserve(&s.wbuf, &s.wcap, s.wlen + s.request_bytes)
        at = s.wbuf + s.wlen
        memcpy(at, s.request, s.request_bytes)
        if s.slot >= 0:
            put_id(at + s.slot, id)
        s.wlen += s.request_bytes
        place.due = due
        place.id = id
        s.waiting += 1
        self.next_id = id + 1
        self.sent += 1
        self.outstanding += 1
        return 0

    cdef int flush(self, Stream *s) except -1 nogil:
        cdef Py_ssize_t n
        while s.is_open and s.wpos < s.wlen:
            n = write(s.fd_out, s.wbuf + s.wpos, s.wlen - s.wpos)
            if n >= 0:
                s.wpos += n
            elif errno == EAGAIN:
                if not s.is_blocked:
                    s.is_blocked = True
                    if s.fd_out == s.fd_in:
                        return self.watch(s, EPOLL_CTL_MOD, s.fd_out, EPOLLIN | EPOLLOUT, False)
                    return self.watch(s, EPOLL_CTL_ADD, s.fd_out, EPOLLOUT, True)
                return 0
            elif errno != EINTR:
                return self.lose(s)
        s.wpos = s.wlen = 0
        if s.is_blocked and s.is_open:
            s.is_blocked = False
            if s.fd_out == s.fd_in:
                return self.watch(s, EPOLL_CTL_MOD, s.fd_out, EPOLLIN, False)
            return self.watch(s, EPOLL_CTL_DEL, s.fd_out, 0, True)
        return 0

    cdef int top_up(self, Stream *s, int64_t now) except -1 nogil:
        """Closed loop: as many outstanding as there should be."""
        while s.is_open and s.waiting < self.depth and self.may_send(now):
            self.push(s, now)
            self.last_sent = now
        return self.flush(s)

    cdef int send_due(self, int64_t now) except -1 nogil:
        """Fixed rate: send all that is due, as far as connections have room, and set the timer for the next."""
        cdef Py_ssize_t tried
        cdef Stream *s
        cdef itimerspec when
        while self.next_due <= now and self.may_send(self.next_due) and now < self.deadline + GRACE_NS:
            tried = 0
            while tried < self.stream_count:
                s = &self.streams[self.turn]
                self.turn = (self.turn + 1) % self.stream_count
                if s.is_open and s.waiting < self.depth:
                    break
                tried += 1
            else:
                break
            self.push(s, self.next_due)
            self.last_sent = now
            self.due_count += 1
            self.next_due = self.start + <int64_t>(self.due_count * self.interval)
        for tried in range(self.stream_count):
            if self.streams[tried].wlen and not self.streams[tried].is_blocked:
                self.flush(&self.streams[tried])
        if self.next_due > now:
            memset(&when, 0, sizeof(when))
            when.it_value.tv_sec = self.next_due // 1000000000
            when.it_value.tv_nsec = self.next_due % 1000000000
            timerfd_settime(self.timer, TFD_TIMER_ABSTIME, &when, NULL)
        return 0

    # -- answers
    cdef void fail(self, int kind, const char *text, size_t size) noexcept nogil:
        self.kinds[kind] += 1
        if self.sample_bytes == 0:
            self.sample_bytes = min(size, <size_t>SAMPLE_BYTES)
            memcpy(self.sample, text, self.sample_bytes)

    cdef void settle(self, Stream *s, Pending *place, int kind, const char *text, size_t size, int64_t now
                     ) noexcept nogil:
        """An answer to what is outstanding at ``place``: right where kind is -1."""
        if kind < 0:
            histogram_record_alone(&self.latencies.histogram, now - place.due)
            if now <= self.deadline:
                self.in_time += 1
        else:
            self.fail(kind, text, size)
        place.due = 0
        s.waiting -= 1
        self.outstanding -= 1
        self.last_answer = now

    cdef void answer_line(self, Stream *s, const char *line, size_t size, int64_t now) noexcept nogil:
        cdef const char *end = line + size
        cdef const char *at = line + self.id_last
        cdef int64_t id
        cdef Pending *place
        cdef bint is_right
        if self.id_last + 5 > size or memcmp(at, b'"id":', 5) != 0:
            at = <const char *>memmem(line, size, b'"id":', 5)
        while at != NULL:
            id = read_id(at + 5, end)
            place = &s.table[<uint64_t>id & self.mask]
            if id >= 0 and place.due and place.id == id:
                self.id_last = at - line
                is_right = holds(line, size, self.expect, self.expect_bytes, &self.expect_last)
                self.settle(s, place, -1 if is_right else WRONG, line, size, now)
                return
            at = <const char *>memmem(at + 5, end - at - 5, b'"id":', 5)
        if memmem(line, size, b'"method":', 9) != NULL:
            self.notices += 1
        elif size:
            self.unmatched += 1

    cdef int read_lines(self, Stream *s, int64_t now) except -1 nogil:
        cdef char *end
        while True:
            end = <char *>memchr(s.rbuf + s.scanned, c"\n", s.rlen - s.scanned)
            if end == NULL:
                s.scanned = s.rlen
                return 0
            self.answer_line(s, s.rbuf + s.rpos, end - (s.rbuf + s.rpos), now)
            s.rpos = s.scanned = end + 1 - s.rbuf

    cdef int answer_http(self, Stream *s, size_t body_bytes, size_t end, int64_t now) except -1 nogil:
        """The body at body_at is complete, the answer goes up to ``end``. Returns 1 where the connection is over."""
        cdef Pending *place = &s.table[s.head & self.mask]
        cdef const char *body = s.rbuf + s.body_at
        cdef char digits[ID_DIGITS]
        cdef int kind = -1
        s.in_body = False
        if s.waiting == 0:
            self.unmatched += 1
        else:
            put_id(digits, place.id)
            if s.status != self.status:
                kind = STATUS
            elif not holds(body, body_bytes, self.expect, self.expect_bytes, &self.expect_last):
                kind = WRONG
            elif s.slot >= 0 and not holds(body, body_bytes, digits, ID_DIGITS, &self.id_last):
                kind = WRONG
            # The sample begins at the head, which says more about a wrong status than the body does.
            self.settle(s, place, kind, s.rbuf + s.rpos, end - s.rpos, now)
            s.head += 1
        s.rpos = s.scanned = end
        if s.closes:
            self.lose(s)
            return 1
        return 0

    cdef int read_http(self, Stream *s, int64_t now) except -1 nogil:
        cdef char *end
        cdef int done
        while True:
            if not s.in_body:
                end = <char *>memmem(s.rbuf + s.scanned, s.rlen - s.scanned, b"\r\n\r\n", 4)
                if end == NULL:
                    s.scanned = max(s.rpos, s.rlen - 3 if s.rlen > 3 else 0)
                    if s.rlen - s.rpos > HEAD_BYTES_MAX:
                        return self.break_off(s)
                    return 0
                if not read_head(s, end):
                    return self.break_off(s)
                if s.status < 200:
                    s.rpos = s.scanned = end + 4 - s.rbuf
                    continue
                s.in_body = True
                s.body_at = s.chunk_at = end + 4 - s.rbuf
                s.body_bytes = 0
            if s.length >= 0:
                if s.rlen - s.body_at < <size_t>s.length:
                    return 0
                if self.answer_http(s, s.length, s.body_at + s.length, now):
                    return 0
            elif s.length == UNTIL_CLOSE:
                return 0
            else:
                done = read_chunks(s)
                if done < 0:
                    return self.break_off(s)
                if done == 0 or self.answer_http(s, s.body_bytes, s.chunk_at, now):
                    return 0

    cdef int break_off(self, Stream *s) except -1 nogil:
        """What came is not HTTP: the oldest request pays for it, the others are lost with the connection."""
        cdef int64_t now = now_ns(CLOCK_MONOTONIC)
        if s.waiting:
            self.settle(s, &s.table[s.head & self.mask], MALFORMED, s.rbuf + s.rpos, s.rlen - s.rpos, now)
        return self.lose(s)

    cdef int receive(self, Stream *s) except -1 nogil:
        cdef Py_ssize_t n
        cdef int64_t now
        if s.rpos == s.rlen and not s.in_body:
            s.rpos = s.rlen = s.scanned = 0
        elif s.rpos > READ_BYTES:
            memmove(s.rbuf, s.rbuf + s.rpos, s.rlen - s.rpos)
            s.rlen -= s.rpos
            s.scanned -= s.rpos
            s.body_at -= s.rpos
            s.chunk_at -= s.rpos
            s.rpos = 0
        reserve(&s.rbuf, &s.rcap, s.rlen + READ_BYTES)
        n = read(s.fd_in, s.rbuf + s.rlen, s.rcap - s.rlen)
        now = now_ns(CLOCK_MONOTONIC)
        if n > 0:
            s.rlen += n
            if self.is_http:
                self.read_http(s, now)
            else:
                self.read_lines(s, now)
            if not self.interval:
                self.top_up(s, now)
        elif n == 0 and s.in_body and s.length == UNTIL_CLOSE:
            s.closes = True
            self.answer_http(s, s.rlen - s.body_at, s.rlen, now)
        elif n == 0 or (errno != EAGAIN and errno != EINTR):
            self.lose(s)
        return 0

    # -- the run
    cdef int handle(self, epoll_event *event) except -1 nogil:
        cdef uint64_t place = event.data.u64
        cdef uint64_t expirations
        cdef Stream *s
        if place == TIMER:
            read(self.timer, &expirations, sizeof(expirations))
            return 0
        s = &self.streams[place >> 1]
        if s.is_open and (place & 1 or event.events & EPOLLOUT):
            self.flush(s)
        if s.is_open and not place & 1 and event.events & ~<uint32_t>EPOLLOUT:
            self.receive(s)
        return 0

    cdef int run(self) except -1 nogil:
        cdef epoll_event events[EVENT_COUNT]
        cdef int64_t now = now_ns(CLOCK_MONOTONIC)
        cdef int64_t signals_seen = now
        cdef Py_ssize_t i, open_count = self.stream_count
        cdef int n
        self.start = self.last_answer = self.last_sent = self.next_due = now
        if self.deadline < NEVER:
            self.deadline += now
        self.is_reopened = True
        while open_count and (self.outstanding or self.may_send(self.next_due if self.interval else now)):
            if self.interval:
                if now > self.deadline + GRACE_NS and not self.outstanding:
                    break
                self.send_due(now)
            elif self.is_reopened:
                self.is_reopened = False
                for i in range(self.stream_count):
                    self.top_up(&self.streams[i], now)
            n = epoll_wait(self.epoll, events, EVENT_COUNT, 100)
            for i in range(n):
                self.handle(&events[i])
            now = now_ns(CLOCK_MONOTONIC)
            if now - signals_seen > 100_000_000 or n < 0:
                signals_seen = now
                with gil:
                    PyErr_CheckSignals()
                open_count = 0
                for i in range(self.stream_count):
                    open_count += self.streams[i].is_open
            if self.outstanding and now - max(self.last_answer, self.last_sent) > self.timeout:
                self.kinds[TIMEOUT] += self.outstanding
                self.outstanding = 0
                break
        return 0

    def measure(self):
        cdef int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID)
        with nogil:  # the whole run, which waits most of its time
            self.run()
        cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu
        kinds = {KIND_NAMES[i]: self.kinds[i] for i in range(KIND_COUNT) if self.kinds[i]}
        cdef double seconds = (self.last_answer - self.start) / 1e9
        count = self.latencies.count
        if self.deadline < NEVER:
            rate = self.in_time * 1e9 / (self.deadline - self.start)
        else:
            rate = count / seconds if seconds else 0.0
        due = 0
        if self.interval and self.deadline < NEVER:
            due = min(self.count_max, <int64_t>((self.deadline - self.start - 1) / self.interval) + 1)
        p50, p95, p99, p999 = self.latencies.percentiles((50, 95, 99, 99.9))
        return {
            "sent": self.sent,
            "count": count,
            "errors": sum(kinds.values()),
            "error_kinds": kinds,
            "first_error": self.sample[: self.sample_bytes],
            "unmatched": self.unmatched,
            "notices": self.notices,
            "reconnects": self.reconnects,
            "unsent": max(0, due - self.sent),
            "seconds": seconds,
            "rate": rate,
            "cpu_us": cpu / 1e3 / count if count else 0.0,
            "mean_us": self.latencies.mean / 1e3,
            "p50_us": p50 / 1e3,
            "p95_us": p95 / 1e3,
            "p99_us": p99 / 1e3,
            "p999_us": p999 / 1e3,
            "max_us": self.latencies.max / 1e3,
            "latencies": self.latencies,
        }

    cdef int prepare(self, requests, expect, seconds, count, rate, timeout_s) except -1:
        """Everything but the connections. Raises ValueError."""
        cdef epoll_event event
        cdef Stream *s
        cdef Py_ssize_t i
        if seconds is None and count is None:
            raise ValueError("give seconds, count, or both: a run needs an end")
        for name, value in (("seconds", seconds), ("count", count), ("rate", rate), ("timeout_s", timeout_s)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")
        self.kept = (expect, tuple(requests))
        self.expect = <const char *>expect
        self.expect_bytes = len(expect)
        self.count_max = NEVER if count is None else count
        self.deadline = NEVER if seconds is None else <int64_t>(seconds * 1e9)
        self.interval = 0 if rate is None else 1e9 / rate
        self.timeout = <int64_t>(timeout_s * 1e9)
        self.next_id = int(ID_SLOT)
        for i in range(self.stream_count):
            request = self.kept[1][i % len(requests)]
            s = &self.streams[i]
            s.request = <const char *>request
            s.request_bytes = len(request)
            s.slot = request.find(ID_SLOT)
        self.epoll = epoll_create1(0)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1: " + os.strerror(errno))
        if rate is not None:
            self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
            if self.timer < 0:
                raise OSError(errno, "timerfd_create: " + os.strerror(errno))
            memset(&event, 0, sizeof(event))
            event.events = EPOLLIN
            event.data.u64 = TIMER
            epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.timer, &event)
        return 0


def http_load(host, int port, request, *, int connections=1, seconds=None, count=None, bytes expect=b"", int status=200,
              int pipeline=1, rate=None, timeout_s=10.0):
    requests = [request] if isinstance(request, bytes) else list(request)
    if connections < 1 or pipeline < 1 or not requests or not all(isinstance(one, bytes) and one for one in requests):
        raise ValueError("http_load needs connections >= 1, pipeline >= 1 and a request of bytes, or several")
    cdef Engine engine = Engine(connections, pipeline)
    cdef Py_ssize_t i
    engine.is_http = True
    engine.host = host
    engine.port = port
    engine.status = status
    engine.prepare(requests, expect, seconds, count, rate, timeout_s)
    for i in range(connections):
        engine.open(&engine.streams[i])
    return engine.measure()


def lines_load(bytes message not None, *, fds=None, address=None, path=None, int connections=1, int inflight=1,
               seconds=None, count=None, bytes expect=b"", rate=None, timeout_s=10.0):
    if (fds is not None) + (address is not None) + (path is not None) != 1:
        raise ValueError("lines_load needs exactly one of fds, address and path")
    if inflight < 1 or message.count(ID_SLOT) != 1 or b"\n" in message:
        raise ValueError("lines_load needs inflight >= 1 and a message without a newline that holds ID_SLOT once")
    if connections < 1 or (fds is not None and connections > 1):
        raise ValueError("lines_load needs connections >= 1, and one where fds are given")
    cdef Engine engine = Engine(connections, inflight)
    cdef Py_ssize_t i
    engine.prepare([message + b"\n"], expect, seconds, count, rate, timeout_s)
    made, modes = [], {}
    try:
        for i in range(connections):
            made += [] if fds else [line_socket(address, path, timeout_s)]
            ends = fds or (made[i].fileno(), made[i].fileno())
            for fd in ends:
                modes.setdefault(fd, os.get_blocking(fd))
                os.set_blocking(fd, False)
            engine.attach(&engine.streams[i], ends[0], ends[1])
        return engine.measure()
    finally:
        for fd, mode in modes.items():
            os.set_blocking(fd, mode)
        for each in made:
            each.close()


def line_socket(address, path, timeout_s):
    if path is None:
        made = socket.create_connection(address, timeout=timeout_s)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(timeout_s)
    made.connect(path)
    return made
