"""Open-addressing hash table from borrowed byte strings to 64-bit words (a pointer, an index).

Linear probing over a power of two of 32-byte entries, two to a cache line. ``hash`` 0 is a free slot, 1 a tombstone.
Live entries and tombstones together stay at or below five eighths of the slots, so every probe ends at a free slot.
A tombstone is only left where the slot after it is in use; those before a freed slot are freed with it. The key bytes
belong to the caller and must outlive their entry (usually they lie in the record that ``value`` points to).

Hashing is keyed: with a seed that a peer does not know, it cannot choose keys that collide.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcmp

from erlmcp._core.memory cimport mem_free


cdef extern from "hash.h" nogil:
    # 64 bits of ``size`` bytes, keyed by ``seed``; never 0 or 1, so it can be given to table_* as it is.
    uint64_t hash_bytes(const char* data, size_t size, uint64_t seed) noexcept
    # The same for one 64-bit word.
    uint64_t hash_word(uint64_t word, uint64_t seed) noexcept


cdef enum:
    TABLE_FREE = 0
    TABLE_TOMBSTONE = 1


ctypedef struct table_entry_t:
    uint64_t hash
    const char* key
    size_t size
    uint64_t value


ctypedef struct table_t:
    table_entry_t* slots  # NULL until the first insert
    size_t mask
    size_t count
    size_t tombstones
    size_t used_max  # count + tombstones that make the next insert rebuild
    size_t count_max
    const char* limit  # the name of count_max in a LimitError; static text, set by the owner after table_init


# An empty table; allocates nothing. ``count_max`` bounds the entries.
cdef void table_init(table_t* self, size_t count_max) noexcept nogil

# Room for ``more`` entries, so that as many inserts cannot fail. LimitError or MemoryError, and the table is as it was.
cdef int table_reserve(table_t* self, size_t more) except -1 nogil

# 1 where the key is new, 0 where its entry was there: key pointer and value are replaced, and the old value is put into
# ``replaced`` unless that is NULL. LimitError or MemoryError, and the table is as it was. Moves entries.
cdef int table_insert(
    table_t* self, uint64_t hash, const char* key, size_t size, uint64_t value, uint64_t* replaced
) except -1 nogil

# An entry for a key that is known to be absent, after table_reserve. Moves no entry.
cdef void table_append(table_t* self, uint64_t hash, const char* key, size_t size, uint64_t value) noexcept nogil

# Frees the slot of an entry that table_find or table_next gave. No other entry moves.
cdef void table_remove_entry(table_t* self, table_entry_t* entry) noexcept nogil

# Forgets all entries; keeps the slots.
cdef void table_clear(table_t* self) noexcept nogil

# The longest probe of a live entry, in slots.
cdef size_t table_probe_max(const table_t* self) noexcept nogil

# 0, or the number of the first broken invariant. O(n).
cdef int table_check(const table_t* self) noexcept nogil

# A seed that differs from process to process (as PYTHONHASHSEED rules it).
cdef uint64_t table_seed() except? 0


cdef inline void table_free(table_t* self) noexcept nogil:
    """Tolerates a zeroed struct and a second call."""
    mem_free(self.slots)
    self.slots = NULL
    self.mask = self.count = self.tombstones = self.used_max = 0


cdef inline table_entry_t* table_find(const table_t* self, uint64_t hash, const char* key, size_t size) noexcept nogil:
    """The entry of a key, or NULL. Borrowed until the next insert or remove."""
    cdef table_entry_t* entry
    cdef size_t at = <size_t>hash
    if self.count == 0:
        return NULL
    while True:
        entry = &self.slots[at & self.mask]
        if entry.hash == hash and entry.size == size and memcmp(entry.key, key, size) == 0:
            return entry
        if entry.hash == TABLE_FREE:
            return NULL
        at += 1


cdef inline int table_remove(
    table_t* self, uint64_t hash, const char* key, size_t size, uint64_t* value
) noexcept nogil:
    """1 where the key was there (its value is put into ``value`` unless that is NULL), else 0."""
    cdef table_entry_t* entry = table_find(self, hash, key, size)
    if entry == NULL:
        return 0
    if value != NULL:
        value[0] = entry.value
    table_remove_entry(self, entry)
    return 1


cdef inline table_entry_t* table_next(const table_t* self, size_t* cursor) noexcept nogil:
    """The next live entry, from ``cursor`` = 0 on; NULL at the end. Entries may be removed meanwhile, not inserted."""
    cdef table_entry_t* entry
    if self.slots == NULL:
        return NULL
    while cursor[0] <= self.mask:
        entry = &self.slots[cursor[0]]
        cursor[0] += 1
        if entry.hash > TABLE_TOMBSTONE:
            return entry
    return NULL


cdef class Table:
    cdef table_t table
    cdef uint64_t seed
    cdef size_t additions
    cdef object _tracked  # None; see memory.hold_objects
    cdef table_entry_t* find(self, key) except? NULL
    cdef int insert(self, key, value) except -1
