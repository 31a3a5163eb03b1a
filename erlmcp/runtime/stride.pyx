"""The short way of a tool call, compiled: bytes to answers, with only the author's function in Python.

Requests whose answer is ready bytes (ping, the first page of a list) take it too, with nothing in Python at all.

This room is compiled above the core, as it calls user code. What it does is what ``Session.receive``,
``Endpoint.handle`` and ``Tool.begin`` do for a simple tool (an async function without context and dependencies) on
an established conversation; whatever is not simple is handed to them at once, so there is one place for every rule.
Measured on CPython 3.11: a message of a batch costs 0.5 us here and 2.5 us there, a ping of a batch 0.17 and 1.05 us.
Over HTTP it is ``stride_http``.

The first step of a coroutine runs by ``PyIter_Send`` within the carrier's context (see ``erlmcp.runtime.executor``): a
return comes back as a value, without the StopIteration that ``coro.send`` would raise.
"""

from cpython.object cimport PyObject, Py_EQ, Py_NE, PyObject_RichCompareBool, PyObject_SetAttr
from cpython.contextvars cimport PyContextVar_Reset
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t
import asyncio.tasks

from erlmcp._core.corridor cimport Call, Inbound, Meta, call_arguments, call_meta, call_peek_id
from erlmcp._core.corridor_out cimport Outbound, Template, outbound_fill
from erlmcp.runtime.berth cimport Berth
from erlmcp.runtime.budget cimport Budget, budget_begin, budget_end, budget_is_spent, budget_passed
from erlmcp.runtime.entry cimport (
    ANSWERED, HANDED_OVER, Entry, Ready, answer_ready, call_entry, hand_on, timings_of, timings_of_ready,
)
from erlmcp.runtime.watch cimport CROWD, Watch, choose, now_ns, observe
from erlmcp.errors import JsonError, LimitError
from erlmcp.runtime.current import CURRENT as IN_HAND
from erlmcp.runtime.executor import outcome
from erlmcp.runtime.fence cimport fence_enter, fence_leave
from erlmcp.runtime.fence import DEADLINE
from erlmcp.runtime.session import judge

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
    object PyType_GenericAlloc(type kind, Py_ssize_t count)

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


# Run the coroutine to its first wait: PYGEN_RETURN with its value, PYGEN_NEXT with what it yielded.
cdef int step(object coro, PyObject** result) except? -1:
    return <int>PyIter_Send(coro, None, result)


cdef bint is_structured(object peer) except -1:
    return peer.version >= "2025-06-18"


cdef bint speaks_of_session(Meta meta) except -1:
    if meta is None:
        return True
    if meta.tag is None:  # a progress token, say, which is another one each time
        judge(meta)
    return meta.tag is False


cdef class Stride:
    def __init__(self, host, type peer_class not None):
        self.host = host
        self.executor = host.executor
        self.loop = host.loop
        self.peer_class = peer_class
        IN_HAND.strides.add(self)
        self.watch = None if host.recorder is None else Watch(host.recorder, host.routes)

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
        self.task = carrier.task
        self.cancelling, self.woken = self.task.cancelling, carrier.wake.done
        return 0

    cdef tuple enter(self):
        cdef Berth executor = self.executor
        cdef object carrier = executor.spare
        cdef object task
        if carrier is None or executor.carrier is not None or not self.is_clean(carrier):
            return self.executor.enter()
        task = swap_task(self.loop, self.task)  # one is there where a client of this process calls
        executor.spare = None
        executor.carrier = carrier
        return NO_OUTER if task is None else (None, task)

    cdef int leave(self, tuple outer) except -1:
        cdef Berth executor = self.executor
        cdef object carrier = executor.carrier
        if outer[0] is not None or executor.spare is not None:
            self.executor.leave(outer)
            return 0
        swap_task(self.loop, outer[1])
        executor.carrier = None
        executor.spare = carrier
        return 0

    cdef int run(
        self, Entry entry, Call call, object arguments, object peer, Template template, Outbound out, object holder,
        object request, int64_t began_ns,
    ) except -1:
        cdef bint is_sampled = self.watch is not None and self.watch.is_detailed
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
        cdef Call outer_call
        cdef int64_t token = 0
        cdef int state
        if entry.fence is not None:
            token = entry.enter_for(holder, request) if entry.fence.asks_callers else fence_enter(entry.fence)
            if token <= 0:
                self.hand_over(began_ns)
                entry.refused(call, peer, holder if request is None else holder.front_of(request), token)
                return HANDED_OVER
        if carrier is not self.carrier:
            self.keep(carrier)
        # Of this call: a handler may come back here with another carrier, by feeding another link.
        context, pristine, cancelling = self.context, self.pristine, self.cancelling
        if is_sampled:
            self.watch.handler_begins()
        outer_call, self.call = self.call, call
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
                self.call = outer_call
                PyContext_Exit(context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if token:
                entry.fence.failed(token, error)
            if not carrier.is_clean:
                self.executor.replace()
            self.hand_over(began_ns)
            entry.ended(call, peer, holder if request is None else holder.front_of(request), None, error)
            return HANDED_OVER
        value = <object>result
        Py_DECREF(value)  # PyIter_Send gave a reference of ours, and `value` took its own
        if state == <int>PYGEN_NEXT:
            self.hand_over(began_ns)
            entry.waited(call, peer, holder if request is None else holder.front_of(request), coro, value, token)
            return HANDED_OVER
        if token:
            fence_leave(entry.fence, token, True)
        if is_sampled:
            self.watch.handler_ends()
        if PyObject_RichCompareBool(context, pristine, Py_NE) or cancelling():
            self.executor.replace()
        if type(value) is entry.result_class:
            filled = <PyObject*>value
            id = call_peek_id(call, &id_size)
            try:
                outbound_fill(out, id, id_size, template, &filled, 1)
                if is_sampled:
                    self.watch.encoded()
                return ANSWERED
            except (JsonError, LimitError):
                pass  # a value that JSON cannot hold as it is: the general way converts it
        self.hand_over(began_ns)
        entry.ended(call, peer, holder if request is None else holder.front_of(request), value, None)
        return HANDED_OVER

    cdef bint has_place(self, dict inflight, Call call) except -1:
        return not inflight or (call.id not in inflight and len(inflight) < self.host.limits.inflight_count_max)

    cdef int hand_over(self, int64_t began_ns) except -1:
        if self.watch is not None:
            self.watch.recorder.began_ns = began_ns
        return 0

    def lines(
        self, Inbound inbound not None, bytes data not None, link, session, Outbound out not None, Budget budget
    ):
        cdef int64_t read_ns = 0 if self.watch is None else self.watch.begin()
        cdef list calls = inbound.feed(data)
        cdef Py_ssize_t count = len(calls)
        if count == 0:
            return None
        if inbound.critical and (inbound.critical < count or (budget is not None and budget_is_spent(budget))):
            calls = link.overtake(calls, inbound.critical)
            if not calls:
                return None
        return self.spend(calls, link, session, out, budget, read_ns)

    def calls(self, list calls not None, link, session, Outbound out not None, Budget budget):
        return self.spend(calls, link, session, out, budget, 0 if self.watch is None else self.watch.resume())

    cdef object spend(
        self, list calls, object link, object session, Outbound out, Budget budget, int64_t read_ns
    ):
        cdef Py_ssize_t handled
        if budget is None:
            handled = self.handle(calls, link, session, out, None, read_ns)
        else:
            budget_begin(budget)
            if budget_is_spent(budget):
                return calls
            handled = self.handle(calls, link, session, out, budget, read_ns)
            budget.due -= 1  # the last one
            budget_end(budget)
        return None if handled == len(calls) else calls[handled:]

    cdef Py_ssize_t handle(
        self, list calls, object link, object session, Outbound out, Budget budget, int64_t read_ns
    ) except -1:
        cdef object quick = self.host.quick_route
        cdef object connection = session.connection
        cdef dict inflight = session.inflight
        cdef bint is_modern = connection.era == "modern"
        cdef object legacy_peer = None if is_modern else connection.peer
        cdef bint structured = legacy_peer is not None and is_structured(legacy_peer)
        cdef Watch watch = self.watch
        cdef int64_t began_ns = 0
        cdef int slot = 0
        cdef bint is_crowd = False
        cdef Call call
        cdef Entry entry
        cdef Meta meta
        cdef bint is_ready
        cdef Py_ssize_t handled = 0
        cdef bint is_ready_slow = False
        cdef bint* slow = NULL  # what is known of the kind of the call before
        cdef object found
        cdef list timings
        cdef int done
        cdef tuple outer = self.enter()
        if watch is not None:
            began_ns = watch.parsed(read_ns, len(calls))
            is_crowd = len(calls) >= CROWD
            if is_modern or legacy_peer is not None:
                slot = watch.slot_of(link, None if legacy_peer is None else legacy_peer.version)
        try:
            for found in calls:
                if handled and budget is not None and budget_passed(budget, slow):
                    break
                handled += 1
                call = <Call>found
                if is_crowd:
                    began_ns = choose(watch)
                is_ready = type(call.route) is Ready
                if call.kind == REQUEST and (is_ready or call.route is quick) and self.has_place(inflight, call):
                    meta = <Meta>call_meta(call)
                    if is_modern:
                        peer = None if meta is None else meta.tag
                    else:
                        peer = legacy_peer if speaks_of_session(meta) else None
                    if type(peer) is not self.peer_class:
                        pass
                    elif is_ready:
                        if answer_ready(<Ready>call.route, call, peer, is_modern, out) == ANSWERED:
                            slow = &is_ready_slow
                            if watch is not None:
                                timings = timings_of_ready(<Ready>call.route, watch)
                                began_ns = observe(watch, timings, slot, call, began_ns)
                            continue
                    elif call.entry is not None:
                        entry = <Entry>call.entry
                        arguments = call_arguments(call)
                        if budget is not None and entry.lane >= budget.refused_from:
                            pass
                        elif entry.is_simple and type(arguments) is dict:
                            template = entry.modern if is_modern else entry.structured if structured else entry.plain
                            slow = &entry.is_slow
                            done = self.run(entry, call, arguments, peer, template, out, link, None, began_ns)
                            if watch is not None:
                                if done == ANSWERED:
                                    began_ns = observe(watch, timings_of(entry, watch), slot, call, began_ns)
                                elif not is_crowd:
                                    began_ns = now_ns()
                            continue
                slow = NULL
                session.receive(call, link)
                if watch is not None and not is_crowd:
                    began_ns = now_ns()
        finally:
            self.leave(outer)
            if watch is not None:
                watch.end(read_ns, max(handled, 1), link)
        return handled


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
