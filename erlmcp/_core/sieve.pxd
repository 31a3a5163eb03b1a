"""C face of the sieve, a bounded map that forgets. Hold the GIL; pointers are borrowed and valid until it is changed.

``Sieve`` has the two budgets, one time to live and recency. A class below it may hang an ``extra`` on single entries:
see ``let_go`` and ``expire_others``.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "sieve.h" nogil:
    enum:
        SIEVE_FREE
        SIEVE_LEAVING
        SIEVE_ENDLESS
        SIEVE_BORN
    ctypedef struct sieve_entry_t:  # described in sieve.h
        PyObject* key
        PyObject* value
        int64_t deadline
        uint64_t size_bytes
        void* extra
        uint32_t older
        uint32_t newer
        uint32_t sooner
        uint32_t later
        uint32_t hash
        uint8_t state
        uint8_t is_used
        uint8_t is_negative
        uint8_t is_text
    ctypedef struct sieve_t:
        uint64_t* slots
        size_t mask
        sieve_entry_t* entries
        size_t count
        uint64_t bytes_held
        uint32_t capacity
        uint32_t first_free
        uint32_t hand


# What left the structure and is still to be dropped.
ctypedef struct sieve_left_t:
    uint32_t entries  # linked by ``newer``
    PyObject* value  # that another one replaced; NULL for none


# What is to be stored under a key.
ctypedef struct sieve_item_t:
    PyObject* value  # borrowed
    uint64_t size_bytes
    int64_t ttl_ns  # 0 for no end
    void* extra
    bint is_negative


cdef class Sieve:
    cdef sieve_t sieve
    cdef int64_t now
    cdef uint64_t seed
    cdef readonly uint64_t hit_count
    cdef readonly uint64_t miss_count
    cdef readonly uint64_t eviction_count
    cdef readonly uint64_t expired_count
    cdef size_t count_limit
    cdef uint64_t bytes_limit  # INT64_MAX for none
    cdef readonly int64_t ttl_ns
    cdef readonly int64_t stale_ns
    cdef void* block  # that holds the entries
    cdef size_t leaving_count
    cdef object _tracked  # None; see memory.hold_objects

    # An entry with an extra leaves, or its value is replaced: frees the extra. Runs no foreign code.
    cdef int let_go(self, sieve_entry_t* entry) except -1

    # Detaches the entries that have expired and do not have the default time to live.
    cdef int expire_others(self, sieve_left_t* left) except -1


# The value of the key in these UTF-8 bytes, or NULL where it is not there, has expired or is negative. Counts as a hit
# or a miss, and marks the entry as used.
cdef PyObject* sieve_ask(Sieve self, const char* key, Py_ssize_t key_bytes) noexcept nogil

# The entry of a key (str or bytes) until ``grace_ns`` after its deadline, or NULL. Neither counted nor marked as used.
cdef sieve_entry_t* sieve_look(Sieve self, object key, int64_t grace_ns) except? NULL

# Stores an item, whose extra is the sieve's then. The number of entries that left to make room; -1 where the item is
# too large to be stored, and nothing is under the key any more; ``at`` is its entry, 0 then. MemoryError or TypeError,
# and the sieve is as it was. ``sieve_bury`` must follow.
cdef Py_ssize_t sieve_store(
    Sieve self, object key, const sieve_item_t* item, sieve_left_t* left, uint32_t* at
) except -2

# The whole of a put with the default time to live and without an extra; gives and raises as ``sieve_store``.
cdef Py_ssize_t sieve_put(Sieve self, object key, object value, uint64_t size_bytes) except -2

# Takes an entry out of the structure, for ``sieve_bury``. Runs no foreign code.
cdef int sieve_take_out(Sieve self, uint32_t at, sieve_left_t* left) except -1

# The same for the entry of a key; 0 where there is none.
cdef int sieve_take_out_key(Sieve self, object key, sieve_left_t* left) except -1

# Drops what left. That may run foreign code, so nothing borrowed is valid afterwards.
cdef int sieve_bury(Sieve self, sieve_left_t* left) except -1

# ValueError where the time is negative; one before the last is the last.
cdef int sieve_push_clock(Sieve self, object now_ns) except -1

# Takes everything out and drops it. A class with ``let_go`` calls this in its own __dealloc__.
cdef int sieve_drop_all(Sieve self) except -1
