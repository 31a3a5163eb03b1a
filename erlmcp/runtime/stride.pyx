"""The short way of a tool call, compiled: bytes to answers, with only the author's function in Python.

Requests whose answer is ready bytes (ping, the first page of a list) take it too, with nothing in Python at all.

This room is compiled above the core, as it calls user code. What it does is what ``Session.receive``,
``Endpoint.handle`` and ``Tool.begin`` do for a simple tool (an async function without context and dependencies) on
an established conversation; whatever is not simple is handed to them at once, so there is one place for every rule.
Measured on CPython 3.11: a message of a batch costs 0.5 us here and 2.5 us there, a request over HTTP 1.6 and 4.4 us,
a ping of a batch 0.17 and 1.05 us.

The first step of a coroutine runs by ``PyIter_Send`` within the carrier's context (see ``erlmcp.runtime.executor``): a
return comes back as a value, without the StopIteration that ``coro.send`` would raise.
"""

from cpython.object cimport PyObject, Py_EQ, Py_NE, PyObject_RichCompareBool, PyObject_SetAttr
from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t
import asyncio.tasks

from erlmcp._core.corridor cimport Call, Inbound, Meta, call_arguments, call_is_bare, call_meta, call_peek_id
from erlmcp._core.corridor_http cimport HttpInbound, HttpRequest
from erlmcp._core.corridor_out cimport Outbound, Template, outbound_fill
from erlmcp.runtime.budget cimport Budget, budget_begin, budget_end, budget_is_spent, budget_passed
from erlmcp.errors import JsonError, LimitError
from erlmcp.runtime.executor import outcome
from erlmcp.runtime.fence cimport Fence, fence_enter, fence_leave, fence_until
from erlmcp.runtime.fence import DEADLINE

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, object value, PyObject** result) noexcept
    bint PyCoro_CheckExact(object value)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    PyObject* PyDict_GetItemWithError(object dict, object key) except? NULL
    Py_ssize_t PyDict_GET_SIZE(object dict) noexcept
    PyObject* PyTuple_GET_ITEM(object tuple, Py_ssize_t index) noexcept
    PyObject* Py_TYPE(PyObject* object) noexcept
    object PyType_GenericAlloc(type kind, Py_ssize_t count)
    object PyObject_Vectorcall(object callable, PyObject** args, size_t count, PyObject* names)

cdef enum:
    REQUEST = 1
    FULL_MATCH = 7  # all routing headers are there and equal to what the body says
    NAMELESS_MATCH = 5  # the same for a method that names nothing
    # What became of a call.
    NOT_SIMPLE = 0
    ANSWERED = 1
    HANDED_OVER = 2
    DIRECT_MAX = 16  # arguments of a direct call

cdef tuple NO_OUTER = (None, None)
# Of the loop that they run on: loop -> current task (CPython 3.11), or the function that replaces it (3.12).
cdef dict CURRENT = getattr(asyncio.tasks, "_current_tasks", None)
cdef object SWAP = getattr(asyncio.tasks, "_swap_current_task", None)


# Make `task` (None: no task) the current one of the loop; the one that was it.
cdef object swap_task(object loop, object task):
    cdef PyObject* found
    cdef object before
    if SWAP is not None:
        return SWAP(loop, task)
    found = PyDict_GetItemWithError(CURRENT, loop)
    before = None if found == NULL else <object>found
    if task is not None:
        CURRENT[loop] = task
    elif before is not None:
        del CURRENT[loop]
    return before


cdef class Entry:
    cdef public object invoke
    cdef public object result_class
    cdef public object modern
    cdef public object structured
    cdef public object plain
    cdef public bint is_simple
    cdef public Fence fence  # what a call has to pass; None: nothing
    cdef public int64_t span_ns  # how long a call may take, where it hands that on; the fence's own goes before it
    cdef public int lane
    cdef bint is_slow  # the last call of it that was looked at by itself took a good part of a turn
    # Of a call that needs no plan: the function, and what it takes by position.
    cdef object function
    cdef tuple keys
    cdef tuple classes
    cdef tuple defaults
    cdef bint strict
    cdef object missing
    cdef Py_ssize_t count

    def set_direct(
        self, function, tuple keys not None, tuple classes not None, tuple defaults not None, missing, strict
    ):
        if not len(keys) == len(classes) == len(defaults) <= DIRECT_MAX:
            raise ValueError(f"keys, classes and defaults go together, at most {DIRECT_MAX} of them")
        self.function, self.keys, self.classes, self.defaults = function, keys, classes, defaults
        self.missing, self.strict, self.count = missing, bool(strict), len(keys)


# The coroutine of a call: straight from the function where each argument is there and of its class, else by the plan,
# which converts and explains.
cdef object call_entry(Entry entry, dict arguments):
    cdef PyObject* values[DIRECT_MAX]
    cdef PyObject* value
    cdef PyObject* wanted
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i
    if entry.function is None:
        return entry.invoke(arguments, None)
    for i in range(entry.count):
        value = PyDict_GetItemWithError(arguments, <object>PyTuple_GET_ITEM(entry.keys, i))
        if value == NULL:
            value = PyTuple_GET_ITEM(entry.defaults, i)
            if value == <PyObject*>entry.missing:
                return entry.invoke(arguments, None)
        else:
            found += 1
            wanted = PyTuple_GET_ITEM(entry.classes, i)
            if wanted != <PyObject*>None and <PyObject*>Py_TYPE(value) != wanted:
                return entry.invoke(arguments, None)
        values[i] = value
    if entry.strict and found != PyDict_GET_SIZE(arguments):
        return entry.invoke(arguments, None)
    return PyObject_Vectorcall(entry.function, values, <size_t>entry.count, NULL)


cdef class Ready:
    cdef readonly object general
    cdef readonly object find
    cdef readonly bint is_modern
    cdef readonly bint is_legacy

    def __init__(self, general, find, *, bint is_modern=True, bint is_legacy=True):
        self.general = general
        self.find = find
        self.is_modern = is_modern
        self.is_legacy = is_legacy

    def __call__(self, exchange):
        return self.general(exchange)


# Answers a request without params from ready bytes. NOT_SIMPLE: nothing was done.
cdef int answer_ready(Ready ready, Call call, object peer, bint is_modern, Outbound out) except -1:
    cdef Template template
    cdef size_t size
    cdef const char* id
    if not call_is_bare(call) or not (ready.is_modern if is_modern else ready.is_legacy):
        return NOT_SIMPLE
    template = ready.find(peer)
    id = call_peek_id(call, &size)
    try:
        outbound_fill(out, id, size, template, NULL, 0)
    except LimitError:
        return NOT_SIMPLE
    return ANSWERED


# Let what is called within know how long it may take; the token to undo it by.
cdef object hand_on(Entry entry):
    cdef int64_t span = entry.span_ns
    if entry.fence is not None and entry.fence.span_ns:
        span = entry.fence.span_ns
    return None if span == 0 else PyContextVar_Set(DEADLINE, fence_until(span))


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
    cdef object woken  # whether it is parked no more
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

    # Carrier.is_clean, of the carrier that is nearly always the same one.
    cdef bint is_clean(self, carrier) except -1:
        if carrier is not self.carrier:
            self.keep(carrier)
        return (
            PyObject_RichCompareBool(self.context, self.pristine, Py_EQ)
            and not self.woken()
            and not self.cancelling()
        )

    cdef int keep(self, carrier) except -1:
        self.carrier, self.context, self.pristine = carrier, carrier.context, carrier.pristine
        self.cancelling, self.woken = carrier.task.cancelling, carrier.wake.done
        return 0

    cdef tuple enter(self):
        cdef object executor = self.executor
        cdef object carrier = executor.spare
        cdef object task
        if carrier is None or executor.carrier is not None or not self.is_clean(carrier):
            return executor.enter()
        task = swap_task(self.loop, carrier.task)  # one is there where a client of this process calls
        executor.spare = None
        executor.carrier = carrier
        return NO_OUTER if task is None else (None, task)

    cdef int leave(self, tuple outer) except -1:
        cdef object executor = self.executor
        cdef object carrier = executor.carrier
        if outer[0] is not None or executor.spare is not None:
            executor.leave(outer)
            return 0
        swap_task(self.loop, outer[1])
        executor.carrier = None
        executor.spare = carrier
        return 0

    # One call of a simple tool, within enter and leave: answered into `out`, or handed over to the general way, whose
    # front is the link, or (for a request) what the connection says.
    cdef int run(
        self, Entry entry, Call call, object arguments, object peer, Template template, Outbound out, object holder,
        object request,
    ) except -1:
        cdef PyObject* result = NULL
        cdef PyObject* filled
        cdef const char* id
        cdef size_t id_size
        cdef object carrier = self.executor.carrier
        cdef object context
        cdef object pristine
        cdef object cancelling
        cdef object coro
        cdef object value
        cdef object mark
        cdef int64_t token = 0
        cdef int state
        if entry.fence is not None:
            token = entry.enter_for(holder, request) if entry.fence.asks_callers else fence_enter(entry.fence)
            if token <= 0:
                entry.refused(call, peer, holder if request is None else holder.front_of(request), token)
                return HANDED_OVER
        if carrier is not self.carrier:
            self.keep(carrier)
        # Of this call: a handler may come back here with another carrier, by feeding another link.
        context, pristine, cancelling = self.context, self.pristine, self.cancelling
        try:
            PyContext_Enter(context)
            try:
                mark = hand_on(entry)
                coro = call_entry(entry, <dict>arguments)
                if not PyCoro_CheckExact(coro):
                    coro = outcome(coro)
                state = step(coro, &result)
                if mark is not None and state == <int>PYGEN_RETURN:
                    PyContextVar_Reset(DEADLINE, mark)
            finally:
                PyContext_Exit(context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if token:
                entry.fence.failed(token, error)
            if not carrier.is_clean:
                self.executor.replace()
            entry.ended(call, peer, holder if request is None else holder.front_of(request), None, error)
            return HANDED_OVER
        value = <object>result
        Py_DECREF(value)  # PyIter_Send gave a reference of ours, and `value` took its own
        if state == <int>PYGEN_NEXT:
            entry.waited(call, peer, holder if request is None else holder.front_of(request), coro, value, token)
            return HANDED_OVER
        if token:
            fence_leave(entry.fence, token, True)
        if PyObject_RichCompareBool(context, pristine, Py_NE) or cancelling():
            self.executor.replace()
        if type(value) is entry.result_class:
            filled = <PyObject*>value
            id = call_peek_id(call, &id_size)
            try:
                outbound_fill(out, id, id_size, template, &filled, 1)
                return ANSWERED
            except (JsonError, LimitError):
                pass  # a value that JSON cannot hold as it is: the general way converts it
        entry.ended(call, peer, holder if request is None else holder.front_of(request), value, None)
        return HANDED_OVER

    def lines(
        self, Inbound inbound not None, bytes data not None, link, session, Outbound out not None, Budget budget
    ):
        cdef list calls = inbound.feed(data)
        cdef Py_ssize_t count = len(calls)
        if count == 0:
            return None
        if inbound.critical and (inbound.critical < count or (budget is not None and budget_is_spent(budget))):
            calls = link.overtake(calls, inbound.critical)
            if not calls:
                return None
        return self.spend(calls, link, session, out, budget)

    def calls(self, list calls not None, link, session, Outbound out not None, Budget budget):
        return self.spend(calls, link, session, out, budget)

    # Handle calls; those that the budget did not reach, or None.
    cdef object spend(self, list calls, object link, object session, Outbound out, Budget budget):
        cdef Py_ssize_t handled
        if budget is None:
            handled = self.handle(calls, link, session, out, None)
        else:
            budget_begin(budget)
            if budget_is_spent(budget):
                return calls
            handled = self.handle(calls, link, session, out, budget)
            budget.due -= 1  # the last one
            budget_end(budget)
        return None if handled == len(calls) else calls[handled:]

    # Handle calls until the budget is spent; how many it were.
    cdef Py_ssize_t handle(self, list calls, object link, object session, Outbound out, Budget budget) except -1:
        cdef object quick = self.host.quick_route
        cdef object connection = session.connection
        cdef dict inflight = session.inflight
        cdef bint is_modern = connection.era == "modern"
        cdef object legacy_peer = None if is_modern else connection.peer
        cdef bint structured = legacy_peer is not None and legacy_peer.version >= "2025-06-18"
        cdef Call call
        cdef Entry entry
        cdef Meta meta
        cdef bint is_ready
        cdef Py_ssize_t handled = 0
        cdef bint is_ready_slow = False
        cdef bint* slow = NULL  # what is known of the kind of the call before
        cdef object found
        cdef tuple outer = self.enter()
        try:
            for found in calls:
                if handled and budget is not None and budget_passed(budget, slow):
                    break
                handled += 1
                call = <Call>found
                is_ready = type(call.route) is Ready
                if call.kind == REQUEST and (is_ready or call.route is quick) and not inflight:
                    meta = <Meta>call_meta(call)
                    if is_modern:
                        peer = None if meta is None else meta.tag
                    else:
                        peer = legacy_peer if meta is None or meta.tag is False else None
                    if type(peer) is not self.peer_class:
                        pass
                    elif is_ready:
                        if answer_ready(<Ready>call.route, call, peer, is_modern, out) == ANSWERED:
                            slow = &is_ready_slow
                            continue
                    elif call.entry is not None:
                        entry = <Entry>call.entry
                        arguments = call_arguments(call)
                        if budget is not None and entry.lane >= budget.refused_from:
                            pass
                        elif entry.is_simple and type(arguments) is dict:
                            template = entry.modern if is_modern else entry.structured if structured else entry.plain
                            slow = &entry.is_slow
                            self.run(entry, call, arguments, peer, template, out, link, None)
                            continue
                slow = NULL
                session.receive(call, link)
        finally:
            self.leave(outer)
        return handled

    def http(
        self, HttpInbound inbound not None, bytes data not None, connection, Outbound out not None, Budget budget
    ):
        cdef list requests = inbound.feed(data)
        return self.spend_http(requests, connection, out, budget) if requests else None

    def requests(self, list requests not None, connection, Outbound out not None, Budget budget not None):
        return self.spend_http(requests, connection, out, budget)

    cdef object spend_http(self, list requests, object connection, Outbound out, Budget budget):
        cdef Py_ssize_t count = len(requests)
        cdef Py_ssize_t i
        cdef int done
        cdef bint* slow
        cdef HttpRequest request = <HttpRequest>requests[0]
        cdef tuple outer
        if not self.may_answer(request):
            return requests
        budget_begin(budget)
        if budget_is_spent(budget) and not (request.call.is_critical and self.host.flags.priority_messages):
            return requests
        outer = self.enter()
        try:
            for i in range(count):
                request = <HttpRequest>requests[i]
                if i and budget_is_spent(budget):
                    return requests[i:]
                done = self.answer(request, connection, out, budget)
                if done == NOT_SIMPLE:
                    return requests if i == 0 else requests[i:]
                if request.call.is_critical:
                    connection.is_urgent = True
                slow = &(<Entry>request.call.entry).is_slow if request.match == FULL_MATCH else NULL
                budget_passed(budget, slow)
                if done == HANDED_OVER and connection.is_busy:  # the handler waits
                    return requests[i + 1:]
        finally:
            budget_end(budget)
            self.leave(outer)
        return None

    # Answer a request the short way. NOT_SIMPLE: nothing was done.
    cdef int answer(self, HttpRequest request, object connection, Outbound out, Budget budget) except -1:
        cdef Call call
        cdef Entry entry = None
        cdef object verdict
        cdef object peer
        cdef object arguments = None
        if not self.may_answer(request):
            return NOT_SIMPLE
        call = request.call
        verdict = request.head.tag
        peer = (<Meta>call_meta(call)).tag
        if verdict is None or verdict.gate is not self.gate or not verdict.quick or type(peer) is not self.peer_class:
            return NOT_SIMPLE
        if request.match == FULL_MATCH:
            entry = <Entry>call.entry
            arguments = call_arguments(call)
            if not entry.is_simple or type(arguments) is not dict or entry.lane >= budget.refused_from:
                return NOT_SIMPLE
        extra = verdict.extra
        if out._prefix is not self.prefix or self.prefix_date is not self.date or self.prefix_extra is not extra:
            self.prefix = connection.use_prefix(extra)
            self.prefix_date, self.prefix_extra = self.date, extra
        if entry is None:
            return answer_ready(<Ready>call.route, call, peer, True, out)
        return self.run(entry, call, arguments, peer, entry.modern, out, connection, request)

    # Whether it is a call of a tool, or a request with a ready answer, whose headers and body agree.
    cdef bint may_answer(self, HttpRequest request) except -1:
        cdef Call call = request.call
        if call is None or request.status != 0 or call.kind != REQUEST:
            return False
        if request.match == FULL_MATCH:
            return call.entry is not None and call.route is self.host.quick_route
        return request.match == NAMELESS_MATCH and type(call.route) is Ready


cdef str DATA = "data"
cdef str TOOL = "tool"


# What is the same in every language: handed over as it is, it is not changed by either side.
cdef inline bint is_scalar(object value) noexcept:
    return value is None or type(value) in (str, int, float, bool)


cdef class Objects:
    cdef Stride stride
    cdef dict tools
    cdef type result_class
    cdef object waited
    cdef object ended

    def __init__(self, Stride stride not None, dict tools not None, type result_class not None, waited, ended):
        self.stride, self.tools, self.result_class = stride, tools, result_class
        self.waited, self.ended = waited, ended

    def call(self, name, arguments):
        cdef Stride stride = self.stride
        cdef PyObject* found = PyDict_GetItemWithError(self.tools, name)
        cdef PyObject* result = NULL
        cdef Entry entry
        cdef object value
        cdef object coro
        cdef object carrier
        cdef object context
        cdef object made
        cdef tuple outer
        cdef int state
        if found == NULL or stride.host.quick_route is None:
            return None
        entry = <Entry>found
        if not entry.is_simple or entry.fence is not None or entry.result_class not in (str, int, float, bool):
            return None
        if arguments is None:
            arguments = {}
        elif type(arguments) is not dict:
            return None
        for value in (<dict>arguments).values():
            if not is_scalar(value):
                return None
        outer = stride.enter()
        try:
            carrier = stride.executor.carrier
            context = carrier.context
            try:
                PyContext_Enter(context)
                try:
                    coro = call_entry(entry, <dict>arguments)
                    if not PyCoro_CheckExact(coro):
                        coro = outcome(coro)
                    state = step(coro, &result)
                finally:
                    PyContext_Exit(context)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                return self.ended(entry, None, error)
            value = <object>result
            Py_DECREF(value)  # as in Stride.run
            if state == <int>PYGEN_NEXT:
                return self.waited(entry, coro, value)
            if type(value) is not entry.result_class:
                return self.ended(entry, value, None)
            # Nothing but two slots, so without its __init__. A mark that the handler left on the carrier is seen by the
            # next ``enter``.
            made = PyType_GenericAlloc(self.result_class, 0)
            PyObject_SetAttr(made, DATA, value)
            PyObject_SetAttr(made, TOOL, entry)
            return made
        finally:
            stride.leave(outer)
