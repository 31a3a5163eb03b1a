"""The C face of ``stride_http``."""

from libc.stdint cimport int64_t

from erlmcp._core.corridor_http cimport HttpInbound, HttpRequest
from erlmcp._core.corridor_out cimport Outbound
from erlmcp._core.sessions cimport SessionStore
from erlmcp.runtime.budget cimport Budget
from erlmcp.runtime.stride cimport Stride


cdef class HttpStride(Stride):
    cdef object gate  # whose verdicts on heads hold here
    cdef SessionStore sessions
    cdef public object date  # of the answers' heads; the listener sets it once a second
    cdef bytes prefix  # the head of a 200 for this date and these extra lines
    cdef object prefix_date
    cdef object prefix_extra
    cdef object verdict  # of the last call, and what it says
    cdef bint is_modern
    cdef object extra
    cdef object quick_route  # the host's, of the read in hand
    cdef list timings  # of the call that was answered, and its slot there
    cdef int slot
    # Handle a read of an idle connection: simple calls into ``out``; the value are the requests from the first on that
    # is not simple or that the budget did not reach, None where there is none.
    cdef list read(self, HttpInbound inbound, bytes data, object connection, Outbound out, Budget budget)
    cdef list spend_requests(
        self, list requests, object connection, Outbound out, Budget budget, int64_t read_ns
    )
    # Answer a request the short way. NOT_SIMPLE: nothing was done.
    cdef int answer(
        self, HttpRequest request, object connection, Outbound out, Budget budget, int64_t began_ns
    ) except -1
    # The session of a head that is its owner's, where it has not ended; it counts as used now.
    cdef object session_of(self, object verdict)
    # Whether it is a call of a tool, or a request with a ready answer.
    cdef bint may_answer(self, HttpRequest request) noexcept
