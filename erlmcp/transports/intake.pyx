"""The way in of an HTTP connection, compiled: from the bytes of a read to the bytes of its answers.

What it does is what the plain ``Intake`` of ``http1`` does. Measured on CPython 3.11: a request costs 0.1 us less.
"""

from erlmcp._core.corridor_http cimport HttpInbound
from erlmcp._core.corridor_out cimport Outbound, outbound_count, outbound_is_large, outbound_take
from erlmcp.runtime.budget cimport Budget
from erlmcp.runtime.stride_http cimport HttpStride


cdef class Intake:
    cdef public HttpStride _stride
    cdef public Budget _budget
    cdef public Outbound _out
    cdef public object _inbound
    cdef public object _queue
    cdef public object transport
    cdef public Py_ssize_t served
    cdef public bint _busy
    cdef public bint _draining
    cdef public bint is_urgent

    def data_received(self, bytes data not None):
        cdef object inbound = self._inbound
        cdef object requests
        if self._stride is None or self._busy or self._draining or self._queue:
            requests = inbound.feed(data)
        else:
            requests = self._stride.read(<HttpInbound?>inbound, data, self, self._out, self._budget)
        if requests:
            self._take(requests)
        if inbound.wants_continue:
            self._invite()
        if outbound_count(self._out) == 0 or self.transport is None:
            return
        self.served += 1
        if outbound_is_large(self._out):
            self._write()
        elif self.is_urgent:
            self.is_urgent = False
            self._write_now(outbound_take(self._out))
        else:
            self.transport.write(outbound_take(self._out))
