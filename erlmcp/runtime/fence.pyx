"""What stands before a guarded call, compiled; see ``erlmcp.runtime.guard`` for what it promises.

Measured on CPython 3.11: ``enter`` and ``leave`` around a call cost 15-40 ns from C, and a function wrapped by ``wrap``
costs 60-90 ns more than the bare one; of that, reading the clock precisely instead of coarsely is twice 20 ns. That is
why durations are coarse (1 to 4 ms) unless somebody goes by short ones.
"""

cimport cython
import contextvars

from cpython.dict cimport PyDict_Size
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX, int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from erlmcp._core.gate cimport (
    BREAKER_CLOSED, TokenBucket, breaker_allow, breaker_record, bucket_take, inflight_enter, inflight_leave,
)
from erlmcp._core.meter cimport histogram_record

cdef extern from *:
    """
    #include <time.h>
    #ifdef CLOCK_MONOTONIC_COARSE
    #define ERLMCP_COARSE CLOCK_MONOTONIC_COARSE
    #else
    #define ERLMCP_COARSE CLOCK_MONOTONIC
    #endif
    """
    const int ERLMCP_COARSE

cdef extern from "Python.h":
    int PyContextVar_Get(object var, PyObject* default, PyObject** value) except -1
    object PyContextVar_Set(object var, object value)
    int PyContextVar_Reset(object var, object token) except -1
    bint PyCoro_CheckExact(object)
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(PyObject* iterator, PyObject* value, PyObject** result) except PYGEN_ERROR

cdef enum:
    TICKET_MASK = 255

DEADLINE = contextvars.ContextVar("erlmcp_deadline", default=None)


cdef int64_t fence_now(bint is_precise) noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC if is_precise else ERLMCP_COARSE, &time)
    return <int64_t>time.tv_sec * 1_000_000_000 + time.tv_nsec


cdef inline bint take_token(TokenBucket bucket, int64_t now) noexcept nogil:
    if bucket_take(&bucket.rule, &bucket.bucket, bucket.rule.cost, now):
        bucket.allowed_count += 1
        return True
    bucket.refused_count += 1
    return False


# By whom a call is not let in for its rate; 1 where it is let in.
cdef inline int take_rates(Fence self, int64_t now) noexcept:
    if self.bucket is not None and not take_token(self.bucket, now):
        return BY_RATE
    if self.total is not None and not take_token(self.total, now):
        return BY_TOTAL_RATE
    return 1


cdef int leave_place(Fence self) except -1:
    if self.line is not None and PyDict_Size(self.line):
        self.hand_over()
    else:
        inflight_leave(&self.places.inflight)
    return 0


cdef int64_t fence_enter(Fence self) except? -9:
    cdef int64_t now = fence_now(self.is_precise)
    cdef int ticket = 1
    cdef int verdict
    if self.window is not None:
        if self.window.stands == BREAKER_CLOSED:
            ticket = breaker_allow(self.window, now)
        else:
            ticket = self.breaker.allow(now)
            if ticket == 0:
                return BY_BREAKER
    if self.places is not None and not inflight_enter(&self.places.inflight):
        if self.window is not None:
            self.breaker.cancel(ticket)
        return BY_BULKHEAD
    verdict = take_rates(self, now)
    if verdict != 1:
        if self.places is not None:
            leave_place(self)
        if self.window is not None:
            self.breaker.cancel(ticket)
        return verdict
    return now & ~<int64_t>TICKET_MASK | ticket


cdef int fence_leave(Fence self, int64_t token, bint is_ok) except -1:
    if self.places is not None:
        leave_place(self)
    return fence_settle(self, token, is_ok)


cdef int fence_settle(Fence self, int64_t token, bint is_ok) except -1:
    cdef int64_t now = fence_now(self.is_precise)
    cdef int64_t took = now - (token & ~<int64_t>TICKET_MASK)
    if is_ok:
        self.ok_count += 1
    else:
        self.failure_count += 1
    if self.durations is not None:
        histogram_record(&self.durations.histogram, took)
    if self.window is not None and breaker_record(self.window, is_ok, took, <int>(token & TICKET_MASK), now):
        self.breaker.turned(now)
    if now >= self.due_ns:
        self.adapt(now)
    return 0


cdef int fence_cancel(Fence self, int64_t token) except -1:
    if self.places is not None:
        leave_place(self)
    if self.window is not None:
        self.breaker.cancel(<int>(token & TICKET_MASK))
    return 0


@cython.freelist(64)
cdef class Until:
    def __init__(self, int64_t due_ns):
        self.due_ns = due_ns


def until_after(int64_t span_ns):
    return fence_until(span_ns)


cdef Until fence_until(int64_t span_ns):
    return until_from(fence_now(True), span_ns)


cdef Until until_from(int64_t now, int64_t span_ns):
    cdef Until until = Until.__new__(Until)
    cdef PyObject* outer = NULL
    until.due_ns = now + span_ns
    PyContextVar_Get(DEADLINE, NULL, &outer)
    if outer == NULL:
        return until
    if outer != <PyObject*>None and (<Until?><object>outer).due_ns < until.due_ns:
        until.due_ns = (<Until><object>outer).due_ns
    Py_DECREF(<object>outer)
    return until


cdef object step(object coroutine, object value, bint* is_over):
    """One step of a coroutine: what it waits for, or what it gives."""
    cdef PyObject* found = NULL
    is_over[0] = PyIter_Send(<PyObject*>coroutine, <PyObject*>value, &found) == PYGEN_RETURN
    result = <object>found
    Py_DECREF(result)
    return result


async def awaiting(awaitable):
    return await awaitable


@cython.final
@cython.freelist(64)
cdef class Rest:
    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef bint is_over = False
        if self.is_new:
            self.is_new = False
            found, self.first = self.first, None
            return found
        found = step(self.coroutine, value, &is_over)
        if is_over:
            raise StopIteration(found)
        return found

    def throw(self, *error):
        self.is_new = False
        return self.coroutine.throw(*error)

    def close(self):
        if self.coroutine is not None:
            self.coroutine.close()


cdef class Fence:
    def __cinit__(self, *_args, **_options):
        self.due_ns = INT64_MAX

    cdef int set_parts(self, window, breaker, places, line, bucket, total, durations) except -1:
        self.window, self.breaker, self.places, self.line = window, breaker, places, line
        self.bucket, self.total, self.durations = bucket, total, durations
        return 0

    def set_fence(self, *, breaker, bulkhead, bucket, total, durations, bint is_precise, due_ns):
        cdef object line = None if bulkhead is None or not bulkhead.rule.queue_max else bulkhead.line
        self.set_parts(
            None if breaker is None else breaker.window, breaker, None if bulkhead is None else bulkhead.places, line,
            bucket, total, durations,
        )
        self.is_precise = is_precise
        self.due_ns = INT64_MAX if due_ns is None else due_ns

    def now_ns(self):
        return fence_now(self.is_precise)

    def enter(self):
        return fence_enter(self)

    def leave(self, int64_t token, bint is_ok):
        fence_leave(self, token, is_ok)

    def settle(self, int64_t token, bint is_ok):
        fence_settle(self, token, is_ok)

    def cancel(self, int64_t token):
        fence_cancel(self, token)

    def wrap(self, function):
        cdef Fence fence = self

        @cython.binding(True)  # a function like any other: it has a name, and can be a method
        def guarded(*args, **kwargs):
            cdef int64_t token = fence_enter(fence)
            if token <= 0:
                return fence.otherwise(token, function, args, kwargs)
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                fence.failed(token, error)
                raise
            fence_leave(fence, token, True)
            return value

        return guarded

    def first_step(self, function, tuple args, dict kwargs):
        cdef int64_t token = fence_enter(self)
        cdef int64_t began = 0
        cdef bint is_over = False
        cdef Rest rest
        cdef Until until = None
        cdef object before = None
        if token > 0:
            if self.span_ns:
                began = fence_now(True)
                until = until_from(began, self.span_ns)
                before = PyContextVar_Set(DEADLINE, until)
            try:
                coroutine = function(*args, **kwargs)
                if not PyCoro_CheckExact(coroutine):
                    coroutine = awaiting(coroutine)
                value = step(coroutine, None, &is_over)
            except BaseException as error:
                self.failed_in_time(token, error, until is not None)
                raise
            finally:
                if until is not None:
                    PyContextVar_Reset(DEADLINE, before)
            if is_over:
                fence_leave(self, token, True)
                return value
        rest = Rest.__new__(Rest)
        rest.token, rest.began_ns = token, began
        if token > 0:
            rest.coroutine, rest.first, rest.is_new = coroutine, value, True
        return rest
