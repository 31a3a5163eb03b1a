"""Hash table for names: a slot is one cache line, with the bytes of the name in it.

Wanted: the keepers of 100,000 names and more look one up at the price of a single cache miss. So a slot has all that a
lookup needs: the hash, the bytes of a name of up to NAMES_NEAR_MAX, and three words of the owner's:

- ``hot``   what a lookup is for (the entry, the session's object);
- ``cold``  the owner's record, where it keeps the rest; NULL where it has none;
- ``extra`` a number (an index, a time).

A longer name lies where the owner keeps it, and must outlive its slot (usually it lies in the record, or in an object
that the record holds). Linear probing over a power of two; at most half of the slots are in use, which makes 1.5 lines
of an average hit in the fullest table, and the second one lies beside the first. Removing moves the slots behind it
forward, so there are no tombstones, and many removals leave nothing behind. So a slot is borrowed until the next
insert or remove of any name; what has to stay in place belongs into the owner's record.

Hashing is keyed: with a seed that a peer does not know, it cannot choose names that collide. Names are compared whole.

Functions that are nogil may be called without the GIL; whoever looks up must keep everybody else from changing the
table. Where threads do that with Python objects around, a ``names_door_t`` beside the table lets readers in without
the GIL: a change waits at the door until they are out, and while one waits, who comes to read keeps the GIL.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check

from libc.stdint cimport int64_t, uint64_t

from erlmcp._core.memory cimport mem_free


cdef extern from "text.h" nogil:
    ctypedef struct text_t:
        const char* data  # borrowed
        size_t size
        uint64_t hash  # never 0 or 1
    void text_of_data(text_t* text, const char* data, size_t size, uint64_t seed) noexcept
    bint text_is_equal(const char* a, const char* b, size_t size) noexcept
    void text_prefetch(const void* address) noexcept
    void text_prefetch_write(const void* address) noexcept

cdef extern from "text.h":
    # 1; 0 where the str (or instance of a subclass) has no UTF-8 form; MemoryError.
    int text_of_str(text_t* text, object str, uint64_t seed) except -1


cdef extern from "atomic.h" nogil:
    size_t atomic_get_acquire(const size_t* word) noexcept
    size_t atomic_add_ordered(size_t* word, size_t change) noexcept


cdef enum:
    NAMES_FREE = 0  # the hash of a slot that is not in use
    NAMES_NEAR_MAX = 32  # bytes of a name that lies in its slot
    NAMES_ROUND = 32  # lookups that a batch has on the way at a time


ctypedef struct names_far_t:
    const char* data
    size_t size


ctypedef union names_text_t:
    char near[32]
    names_far_t far


ctypedef struct names_slot_t:  # 64 bytes
    uint64_t hash  # the top byte is the size; see text.h
    void* hot
    void* cold
    uint64_t extra
    names_text_t text


ctypedef struct names_t:
    names_slot_t* slots  # NULL until the first insert
    size_t mask
    size_t count
    size_t used_max  # the count that makes the next insert double the slots
    size_t count_max
    uint64_t seed
    const char* limit  # the name of count_max in a LimitError; static text, set by the owner after names_init


ctypedef struct names_door_t:  # all zero is an open door
    size_t readers  # that are inside without the GIL; atomic
    size_t waiting  # changes that wait for them; under the GIL


# An empty table; allocates nothing. ``count_max`` bounds the names.
cdef void names_init(names_t* self, size_t count_max, uint64_t seed) noexcept nogil

# Room for ``more`` names, so that as many inserts cannot fail. LimitError or MemoryError, and the table is as it was.
cdef int names_reserve(names_t* self, size_t more) except -1 nogil

# The slot of a name that is known to be absent. LimitError or MemoryError, and the table is as it was. Moves slots.
cdef names_slot_t* names_insert(
    names_t* self, const text_t* text, void* hot, void* cold, uint64_t extra
) except NULL nogil

# Takes a name out. ``slot`` is one that names_find or names_next gave. Moves slots.
cdef void names_remove(names_t* self, names_slot_t* slot) noexcept nogil

# The ``hot`` of the slots of ``count`` names, NULL for each that is not there. Asks for the memory of many before it
# reads the first.
cdef void names_find_hot_many(
    const names_t* self, const char* const* data, const size_t* sizes, size_t count, void** found
) noexcept nogil

# The ``extra`` of the first slot with each hash, as a signed number, and -1 for each hash that is not there.
# ``extras`` may be ``hashes``.
cdef void names_find_hashes(const names_t* self, const uint64_t* hashes, size_t count, int64_t* extras) noexcept nogil

# The most slots that finding a name looks at.
cdef size_t names_probe_max(const names_t* self) noexcept nogil

# 0, or the number of the first broken invariant. O(n).
cdef int names_check(const names_t* self) noexcept nogil

# With the GIL: waits until no reader is inside. From here to where the GIL is let go next, the table may be changed;
# waiting lets go of the GIL, so nothing that was found before it holds after it. Who is inside must not call it.
cdef void names_settle(names_door_t* door) noexcept

# For tables whose ``hot`` is an object: those of a list or tuple of names, ``default`` for each that is not there.
cdef list names_get_many(const names_t* self, object names, object default)

# The hashes of a list or tuple of names as a numpy array of uint64; 0 for a str without a UTF-8 form.
cdef object names_hashes(const names_t* self, object names)

# names_find_hashes for an array of uint64; gives ``out``, or a new numpy array of int64 where that is None.
cdef object names_find_array(const names_t* self, names_door_t* door, object hashes, object out)

# A seed that differs from process to process (as PYTHONHASHSEED rules it).
cdef uint64_t names_seed() except? 0


cdef inline bint names_is_settled(const names_door_t* door) noexcept nogil:
    """With the GIL: whether no reader is inside."""
    return atomic_get_acquire(&door.readers) == 0


cdef inline bint names_open_read(names_door_t* door) noexcept:
    """With the GIL: 1, and the GIL may be let go until names_close_read; 0 where a change is waiting: read with the
    GIL. What was found is good until the door is closed."""
    if door.waiting:
        return False
    atomic_add_ordered(&door.readers, 1)
    return True


cdef inline void names_close_read(names_door_t* door) noexcept nogil:
    atomic_add_ordered(&door.readers, <size_t>-1)


cdef inline int names_read(object name, text_t* text, uint64_t seed) except -1:
    """The text of a str or bytes object: 1; 0 where it has no UTF-8 form, so that it cannot be there. TypeError where
    it is neither, MemoryError; without an error it has run no foreign code."""
    if PyUnicode_Check(name):
        return text_of_str(text, name, seed)
    if not PyBytes_Check(name):
        raise TypeError(f"a name is a str or bytes, not {type(name).__name__}")
    text_of_data(text, PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name), seed)
    return 1


cdef inline void names_free(names_t* self) noexcept nogil:
    """Tolerates a zeroed struct and a second call. What the slots point to is the owner's."""
    mem_free(self.slots)
    self.slots = NULL
    self.mask = self.count = self.used_max = 0


cdef inline size_t names_bytes(const names_t* self) noexcept nogil:
    """Bytes of the slots."""
    return (self.mask + 1) * sizeof(names_slot_t) if self.slots != NULL else 0


cdef inline size_t names_size(const names_slot_t* slot) noexcept nogil:
    """The number of bytes of a slot's name."""
    cdef size_t size = <size_t>(slot.hash >> 56)
    return size if size <= NAMES_NEAR_MAX else slot.text.far.size


cdef inline const char* names_data(const names_slot_t* slot) noexcept nogil:
    """The bytes of a slot's name; not ended by a zero. Borrowed as the slot is."""
    return &slot.text.near[0] if slot.hash >> 56 <= NAMES_NEAR_MAX else slot.text.far.data


cdef inline bint names_is(const names_slot_t* slot, const char* data, size_t size) noexcept nogil:
    """Whether these bytes, whose hash is the slot's, are its name."""
    if size <= NAMES_NEAR_MAX:
        return text_is_equal(&slot.text.near[0], data, size)
    return slot.text.far.size == size and text_is_equal(slot.text.far.data, data, size)


cdef inline names_slot_t* names_find(const names_t* self, const text_t* text) noexcept nogil:
    """The slot of a name (``text`` with its hash), or NULL."""
    cdef names_slot_t* slot
    cdef size_t at = <size_t>text.hash
    if self.count == 0:
        return NULL
    while True:
        slot = &self.slots[at & self.mask]
        if slot.hash == text.hash and names_is(slot, text.data, text.size):
            return slot
        if slot.hash == NAMES_FREE:
            return NULL
        at += 1


cdef inline names_slot_t* names_find_alone(const names_t* self, const text_t* text) noexcept nogil:
    """names_find for one lookup by itself: asks for the second line of the probe before it waits for the first."""
    if self.count == 0:
        return NULL
    text_prefetch(&self.slots[(<size_t>text.hash + 1) & self.mask])
    return names_find(self, text)


cdef inline names_slot_t* names_find_hash(const names_t* self, uint64_t hash) noexcept nogil:
    """The first slot with this hash, or NULL: for callers to whom 64 keyed bits are enough."""
    cdef names_slot_t* slot
    cdef size_t at = <size_t>hash
    if self.count == 0 or hash == NAMES_FREE:
        return NULL
    while True:
        slot = &self.slots[at & self.mask]
        if slot.hash == hash:
            return slot
        if slot.hash == NAMES_FREE:
            return NULL
        at += 1


cdef inline names_slot_t* names_find_cold(const names_t* self, uint64_t hash, const void* cold) noexcept nogil:
    """The slot of a record whose name has this hash. The name must be there."""
    cdef size_t at = <size_t>hash
    while self.slots[at & self.mask].cold != cold:
        at += 1
    return &self.slots[at & self.mask]


cdef inline void names_prefetch(const names_t* self, uint64_t hash) noexcept nogil:
    """Asks for the line that a name with this hash begins its probe at. The table must have slots."""
    text_prefetch(&self.slots[<size_t>hash & self.mask])


cdef inline void names_prefetch_probe(const names_t* self, uint64_t hash) noexcept nogil:
    """Asks for the second line too. Every third to fifth probe reads it, and waiting for it costs more than asking."""
    text_prefetch(&self.slots[<size_t>hash & self.mask])
    text_prefetch(&self.slots[(<size_t>hash + 1) & self.mask])


cdef inline names_slot_t* names_next(const names_t* self, size_t* cursor) noexcept nogil:
    """The next slot in use, from ``cursor`` = 0 on; NULL at the end. Nothing may be inserted or removed meanwhile."""
    cdef names_slot_t* slot
    if self.slots == NULL:
        return NULL
    while cursor[0] <= self.mask:
        slot = &self.slots[cursor[0]]
        cursor[0] += 1
        if slot.hash != NAMES_FREE:
            return slot
    return NULL


cdef class Names:
    cdef names_t table
    cdef names_door_t door
