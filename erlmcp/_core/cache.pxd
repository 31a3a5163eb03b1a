"""C face of the cache: ``sieve_ask`` (sieve.pxd) is its lookup. Hold the GIL."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from erlmcp._core.chain cimport chain_node_t
from erlmcp._core.sieve cimport Sieve, sieve_entry_t, sieve_left_t
from erlmcp._core.wheel cimport wheel_node_t, wheel_t


ctypedef struct cache_mark_t:
    chain_node_t node  # among the entries of the tag; first, so that its address is the mark's
    PyObject* tag  # the _Tag
    cache_extra_t* extra  # that this lies in


# What few entries have: a time to live of their own, tags.
ctypedef struct cache_extra_t:
    wheel_node_t timer  # first, so that its address is the extra's
    uint32_t at  # the entry
    uint32_t tag_count
    cache_mark_t marks[1]  # as many as tags


cdef class Ticket:
    cdef readonly object key
    cdef readonly bint is_stale
    cdef readonly bint is_done
    cdef readonly bint is_stored
    cdef dict waiters  # id -> waiter
    cdef uint64_t began


cdef class Cache(Sieve):
    cdef readonly int64_t negative_ttl_ns
    cdef readonly Py_ssize_t load_count_max
    cdef size_t extra_bytes
    cdef wheel_t wheel
    cdef dict tags  # str -> _Tag
    cdef dict loads  # bytes -> Ticket
    cdef uint64_t changes  # invalidations of tags so far
    cdef dict marks  # tag -> the change that invalidated it while loads were under way
    cdef uint64_t marks_floor  # the change from which on every tag counts as invalidated
