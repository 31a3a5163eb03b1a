"""The short way of a tool call, compiled: bytes to answers, with only the author's function in Python.

This is the one compiled room above floor 0, as it calls user code. What it does is what ``Session.receive``,
``Endpoint.handle`` and ``Tool.begin`` do for a simple tool (an async function without context and dependencies) on
an established conversation; whatever is not simple is handed to them at once, so there is one place for every rule.
Measured on CPython 3.11: a message of a batch costs 0.7 us here and 2.5 us there, a request over HTTP 1.8 and 4.4 us.

The first step of a coroutine runs by ``PyIter_Send`` within the carrier's context (see ``erlmcp.runtime.executor``): a
return comes back as a value, without the StopIteration that ``coro.send`` would raise.
"""

from cpython.object cimport PyObject, Py_NE, PyObject_RichCompareBool
from cpython.ref cimport Py_DECREF
from asyncio.tasks import _enter_task, _leave_task

from erlmcp._core.corridor cimport Call, Inbound
from erlmcp._core.corridor_http cimport HttpInbound, HttpRequest
from erlmcp._core.corridor_out cimport Outbound
from erlmcp.errors import JsonError, LimitError
from erlmcp.runtime.executor import outcome

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, object value, PyObject** result) noexcept
    bint PyCoro_CheckExact(object value)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef enum:
    REQUEST = 1
    FULL_MATCH = 7  # all routing headers are there and equal to what the body says
    # What became of a call.
    NOT_SIMPLE = 0
    ANSWERED = 1
    HANDED_OVER = 2

cdef tuple NO_OUTER = (None, None)


cdef class Entry:
    cdef public object invoke
    cdef public object result_class
    cdef public object modern
    cdef public object structured
    cdef public object plain
    cdef public bint is_simple


# Run the coroutine to its first wait: PYGEN_RETURN with its value, PYGEN_NEXT with what it yielded.
cdef int step(object coro, PyObject** result) except? -1:
    return <int>PyIter_Send(coro, None, result)


cdef class Stride:
    cdef readonly object host
    cdef object executor
    cdef object loop
    cdef type peer_class
    cdef object gate  # whose verdicts on heads hold here
    cdef object carrier  # whose context and pristine copy these are, and whether its task is cancelled
    cdef object context
    cdef object pristine
    cdef object cancelling
    cdef public object date  # of the answers' heads; the listener sets it once a second
    cdef bytes prefix  # the head of a 200 for this date and these extra lines
    cdef object prefix_date
    cdef object prefix_extra

    def __init__(self, host, type peer_class not None, gate=None):
        self.host = host
        self.executor = host.executor
        self.loop = host.loop
        self.peer_class = peer_class
        self.gate = gate

    cdef object enter(self):
        cdef object executor = self.executor
        cdef object carrier = executor.spare
        if carrier is None or executor.carrier is not None or not carrier.is_clean:
            return executor.enter()
        try:
            _enter_task(self.loop, carrier.task)
        except RuntimeError:  # within a task: the general way puts that one aside
            return executor.enter()
        executor.spare = None
        executor.carrier = carrier
        return NO_OUTER

    cdef int leave(self, object outer) except -1:
        cdef object executor = self.executor
        cdef object carrier = executor.carrier
        if outer is not NO_OUTER or executor.spare is not None:
            executor.leave(outer)
            return 0
        _leave_task(self.loop, carrier.task)
        executor.carrier = None
        executor.spare = carrier
        return 0

    # One call of a simple tool, within enter and leave: answered into `out`, or handed over to the general way, whose
    # front is the link, or (for a request) what the connection says.
    cdef int run(
        self, Entry entry, Call call, object arguments, object peer, object template, Outbound out, object holder,
        object request,
    ) except -1:
        cdef PyObject* result = NULL
        cdef object carrier = self.executor.carrier
        cdef object context
        cdef object pristine
        cdef object cancelling
        cdef object coro
        cdef object value
        cdef int state
        if carrier is not self.carrier:
            self.carrier, self.context, self.pristine = carrier, carrier.context, carrier.pristine
            self.cancelling = carrier.task.cancelling
        # Of this call: a handler may come back here with another carrier, by feeding another link.
        context, pristine, cancelling = self.context, self.pristine, self.cancelling
        try:
            PyContext_Enter(context)
            try:
                coro = entry.invoke(arguments, None)
                if not PyCoro_CheckExact(coro):
                    coro = outcome(coro)
                state = step(coro, &result)
            finally:
                PyContext_Exit(context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if not carrier.is_clean:
                self.executor.replace()
            entry.ended(call, peer, holder if request is None else holder.front_of(request), None, error)
            return HANDED_OVER
        value = <object>result
        Py_DECREF(value)  # PyIter_Send gave a reference of ours, and `value` took its own
        if state == <int>PYGEN_NEXT:
            entry.waited(call, peer, holder if request is None else holder.front_of(request), coro, value)
            return HANDED_OVER
        if PyObject_RichCompareBool(context, pristine, Py_NE) or cancelling():
            self.executor.replace()
        if type(value) is entry.result_class:
            try:
                out.fill(call.id_raw, template, (value,))
                return ANSWERED
            except (JsonError, LimitError):
                pass  # a value that JSON cannot hold as it is: the general way converts it
        entry.ended(call, peer, holder if request is None else holder.front_of(request), value, None)
        return HANDED_OVER

    def lines(self, Inbound inbound not None, bytes data not None, link, session, Outbound out not None):
        cdef object quick = self.host.quick_route
        cdef object connection = session.connection
        cdef dict inflight = session.inflight
        cdef bint is_modern = connection.era == "modern"
        cdef object legacy_peer = None if is_modern else connection.peer
        cdef bint structured = legacy_peer is not None and legacy_peer.version >= "2025-06-18"
        cdef list calls = inbound.feed(data)
        cdef Call call
        cdef Entry entry
        cdef object found
        cdef object outer
        if not calls:
            return
        outer = self.enter()
        try:
            for found in calls:
                call = <Call>found
                if call.route is quick and call.kind == REQUEST and call.entry is not None and not inflight:
                    entry = <Entry>call.entry
                    found = call.meta
                    if is_modern:
                        peer = None if found is None else found.tag
                    else:
                        peer = legacy_peer if found is None or found.tag is False else None
                    arguments = call.arguments
                    if type(peer) is self.peer_class and entry.is_simple and type(arguments) is dict:
                        template = entry.modern if is_modern else entry.structured if structured else entry.plain
                        self.run(entry, call, arguments, peer, template, out, link, None)
                        continue
                session.receive(call, link)
        finally:
            self.leave(outer)

    def http(self, HttpInbound inbound not None, bytes data not None, connection, Outbound out not None):
        cdef list requests = inbound.feed(data)
        cdef Py_ssize_t count = len(requests)
        cdef Py_ssize_t i
        cdef int done
        cdef HttpRequest request
        cdef object outer
        if count == 0:
            return None
        request = <HttpRequest>requests[0]
        if request.match != FULL_MATCH or request.call.route is not self.host.quick_route:
            return requests
        outer = self.enter()
        try:
            for i in range(count):
                request = <HttpRequest>requests[i]
                done = self.answer(request, connection, out)
                if done == NOT_SIMPLE:
                    return requests if i == 0 else requests[i:]
                if done == HANDED_OVER and connection.is_busy:  # the handler waits
                    return requests[i + 1:]
        finally:
            self.leave(outer)
        return None

    # Answer a request the short way. NOT_SIMPLE: nothing was done.
    cdef int answer(self, HttpRequest request, object connection, Outbound out) except -1:
        cdef Call call = request.call
        cdef Entry entry
        cdef object verdict
        cdef object peer
        cdef object arguments
        if (
            request.status != 0
            or request.match != FULL_MATCH
            or call.route is not self.host.quick_route
            or call.kind != REQUEST
            or call.entry is None
        ):
            return NOT_SIMPLE
        verdict = request.head.tag
        entry = <Entry>call.entry
        peer = call.meta.tag
        if verdict is None or verdict.gate is not self.gate or not verdict.quick:
            return NOT_SIMPLE
        if not entry.is_simple or type(peer) is not self.peer_class:
            return NOT_SIMPLE
        arguments = call.arguments
        if type(arguments) is not dict:
            return NOT_SIMPLE
        extra = verdict.extra
        if out._prefix is not self.prefix or self.prefix_date is not self.date or self.prefix_extra is not extra:
            self.prefix = connection.use_prefix(extra)
            self.prefix_date, self.prefix_extra = self.date, extra
        return self.run(entry, call, arguments, peer, entry.modern, out, connection, request)
