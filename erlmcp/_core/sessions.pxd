"""C face of the session store, and the half of it that runs without the GIL: lookups, and the two lazy orders.

Hold the GIL, or keep everybody else from the store; pointers are borrowed and valid until the store is changed next.
"""

from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint64_t

from erlmcp._core.memory cimport mem_realloc
from erlmcp._core.names cimport (
    NAMES_FREE, names_check, names_find, names_find_cold, names_is, names_next, names_prefetch, names_slot_t, names_t,
    text_of_data, text_prefetch, text_t,
)
from erlmcp._core.slab cimport slab_check, slab_get, slab_t


cdef extern from "session_order.h" nogil:
    ctypedef struct order_entry_t:
        int64_t time_ns
        uint64_t serial
        uint64_t handle

    ctypedef struct order_t:
        order_entry_t* entries
        size_t count
        size_t capacity

    void order_push(order_t* order, int64_t time_ns, uint64_t serial, uint64_t handle) noexcept
    void order_delay(order_t* order, int64_t time_ns) noexcept
    void order_pop(order_t* order) noexcept
    void order_heapify(order_t* order) noexcept
    bint order_is_heap(const order_t* order) noexcept


cdef enum:
    SESSIONS_ROUND = 32  # lookups on the way at a time
    SESSIONS_ENTRIES_MIN = 16  # of an order, when it is first used
    SESSIONS_NEAR = 4096  # slots that the cache near the processor has room for: asking ahead would only cost
    SESSIONS_AHEAD = 16  # slots that a walk over the table asks for ahead of its reading


# What a lookup does not need. The rest of a session lies in its slot of the table: ``hot`` is the record, ``cold``
# this struct, ``extra`` the time of the last touch.
ctypedef struct session_t:
    uint64_t hash  # of the slot
    uint64_t handle  # in the slab: the place that scan counts through
    uint64_t serial  # of the birth
    int64_t born_ns
    PyObject* id  # an exact str; a long id's bytes lie in it
    PyObject* holder  # the _Owner, or NULL


cdef class SessionStore:
    cdef names_t names
    cdef int64_t now
    cdef uint64_t idle  # UINT64_MAX for none
    cdef int64_t old_from  # before this time none is too old; INT64_MAX where there is no bound
    cdef uint64_t age  # UINT64_MAX for none
    cdef slab_t slab
    cdef order_t recency
    cdef order_t births  # empty where there is no bound of age
    cdef uint64_t serial  # of the last birth
    cdef Py_ssize_t quota  # 0 for none
    cdef dict owners


# ---- Lookups.

cdef inline session_t* session_of(const names_slot_t* slot) noexcept nogil:
    return <session_t*>slot.cold


cdef inline bint session_is_idle(SessionStore store, const names_slot_t* slot) noexcept nogil:
    return <uint64_t>store.now - slot.extra >= store.idle


cdef inline bint session_is_old(SessionStore store, const names_slot_t* slot) noexcept nogil:
    return store.now >= store.old_from and <uint64_t>store.now - <uint64_t>session_of(slot).born_ns >= store.age


cdef inline bint session_is_live(SessionStore store, const names_slot_t* slot) noexcept nogil:
    return not session_is_idle(store, slot) and not session_is_old(store, slot)


cdef inline PyObject* session_use(SessionStore store, const names_t* names, const text_t* id) noexcept nogil:
    """As session_find, with the hash computed. ``names`` is the store's, or a copy of it."""
    cdef names_slot_t* slot = names_find(names, id)
    if slot == NULL or not session_is_live(store, slot):
        return NULL
    slot.extra = <uint64_t>store.now
    return <PyObject*>slot.hot


cdef inline PyObject* session_use_far(SessionStore store, const names_t* names, const text_t* id) noexcept nogil:
    """As session_use, in a table with slots that is too large for the cache. Which of the first two slots an id is in
    is not guessed there: the processor would learn too late that the guess was wrong."""
    cdef size_t at = <size_t>id.hash
    cdef names_slot_t* slot = &names.slots[(at + (names.slots[at & names.mask].hash != id.hash)) & names.mask]
    if slot.hash != id.hash or not names_is(slot, id.data, id.size):
        return session_use(store, names, id)
    if not session_is_live(store, slot):
        return NULL
    slot.extra = <uint64_t>store.now
    return <PyObject*>slot.hot


cdef inline PyObject* session_find(SessionStore store, const char* id, Py_ssize_t id_bytes) noexcept nogil:
    """The record of the id in these UTF-8 bytes, or NULL where it is not there or has expired. Touches it."""
    cdef text_t text
    text_of_data(&text, id, <size_t>id_bytes, store.names.seed)
    return session_use(store, &store.names, &text)


cdef inline void session_find_many(SessionStore store, text_t* ids, Py_ssize_t count, PyObject** found) noexcept nogil:
    """As session_find for each of many: ``data`` and ``size`` of the ids are given, ``hash`` is computed. In a large
    store it asks for the memory of SESSIONS_ROUND of them before it reads the first."""
    cdef names_t names = store.names  # a copy, so that the compiler may keep it in registers
    cdef Py_ssize_t i, part
    if names.mask < SESSIONS_NEAR:
        for i in range(count):
            text_of_data(&ids[i], ids[i].data, ids[i].size, names.seed)
            found[i] = session_use(store, &names, &ids[i])
        return
    while count > 0:
        part = count if count < SESSIONS_ROUND else SESSIONS_ROUND
        for i in range(part):
            text_of_data(&ids[i], ids[i].data, ids[i].size, names.seed)
            names_prefetch(&names, ids[i].hash)
        for i in range(part):
            found[i] = session_use_far(store, &names, &ids[i])
        ids += part
        found += part
        count -= part


# ---- The two orders. See sessions.pyx.

cdef inline int session_grow(order_t* order) except -1:
    """Room for one more entry. MemoryError, and it is as it was."""
    cdef size_t capacity = order.capacity * 2 if order.capacity else SESSIONS_ENTRIES_MIN
    cdef order_entry_t* entries
    if order.count < order.capacity:
        return 0
    entries = <order_entry_t*>mem_realloc(order.entries, capacity * sizeof(order_entry_t))
    if entries == NULL:
        raise MemoryError
    order.entries = entries
    order.capacity = capacity
    return 0


cdef inline void session_set_old_from(SessionStore store) noexcept nogil:
    """After a change of the births."""
    cdef int64_t born
    store.old_from = INT64_MAX
    if store.births.count:
        born = store.births.entries[0].time_ns
        if born <= 0 or store.age <= <uint64_t>(INT64_MAX - born):
            store.old_from = <int64_t>(<uint64_t>born + store.age)


cdef inline void session_write_orders(SessionStore store) noexcept nogil:
    """Both orders anew from the table: up to date, and without those that are gone."""
    cdef size_t count = store.names.mask + 1 if store.names.slots != NULL else 0
    cdef names_slot_t* slot
    cdef session_t* session
    cdef size_t i
    store.recency.count = store.births.count = 0
    for i in range(count):
        if i + SESSIONS_AHEAD < count:
            text_prefetch(store.names.slots[i + SESSIONS_AHEAD].cold)
        slot = &store.names.slots[i]
        if slot.hash == NAMES_FREE:
            continue
        session = session_of(slot)
        store.recency.entries[store.recency.count].time_ns = <int64_t>slot.extra
        store.recency.entries[store.recency.count].serial = session.serial
        store.recency.entries[store.recency.count].handle = session.handle
        store.recency.count += 1
        if store.age != UINT64_MAX:
            store.births.entries[store.births.count].time_ns = session.born_ns
            store.births.entries[store.births.count].serial = session.serial
            store.births.entries[store.births.count].handle = session.handle
            store.births.count += 1
    order_heapify(&store.recency)
    order_heapify(&store.births)
    session_set_old_from(store)


cdef inline int session_reserve_orders(SessionStore store) except -1:
    """Room for one more entry in each order. MemoryError, and the orders are whole."""
    cdef bint has_births = store.age != UINT64_MAX
    cdef bint is_full = store.recency.count == store.recency.capacity
    cdef size_t capacity = store.recency.capacity
    if has_births:
        is_full = is_full or store.births.count == store.births.capacity
        capacity = min(capacity, store.births.capacity)
    if not is_full:
        return 0
    if store.names.count < capacity // 2:
        session_write_orders(store)
        return 0
    session_grow(&store.recency)
    return session_grow(&store.births) if has_births else 0


cdef inline session_t* session_first_idle(SessionStore store, int64_t until_ns) noexcept nogil:
    """The longest idle session if its last touch was at ``until_ns`` or before, else NULL."""
    cdef session_t* session
    cdef int64_t touched_ns
    cdef size_t mended = 0
    while store.recency.count and store.recency.entries[0].time_ns <= until_ns:
        session = <session_t*>slab_get(&store.slab, store.recency.entries[0].handle)
        if session == NULL:
            order_pop(&store.recency)
            continue
        touched_ns = <int64_t>names_find_cold(&store.names, session.hash, session).extra
        if touched_ns == store.recency.entries[0].time_ns:
            return session
        mended += 1
        if mended > 64 and mended > store.recency.count // 8:
            session_write_orders(store)
        else:
            order_delay(&store.recency, touched_ns)
    return NULL


cdef inline session_t* session_first_born(SessionStore store, int64_t until_ns) noexcept nogil:
    """The oldest session if it was born at ``until_ns`` or before, else NULL; NULL without a bound of age."""
    cdef session_t* session = NULL
    while session == NULL and store.births.count and store.births.entries[0].time_ns <= until_ns:
        session = <session_t*>slab_get(&store.slab, store.births.entries[0].handle)
        if session == NULL:
            order_pop(&store.births)
    session_set_old_from(store)
    return session


cdef inline size_t session_count_in(SessionStore store, const order_t* order, bint is_births) noexcept nogil:
    """How many entries of an order are of live sessions and not ahead of them."""
    cdef order_entry_t* entry
    cdef session_t* session
    cdef int64_t time_ns
    cdef size_t i, count = 0
    for i in range(order.count):
        entry = &order.entries[i]
        session = <session_t*>slab_get(&store.slab, entry.handle)
        if session != NULL and session.serial == entry.serial:
            time_ns = <int64_t>names_find_cold(&store.names, session.hash, session).extra
            count += entry.time_ns == session.born_ns if is_births else entry.time_ns <= time_ns
    return count


cdef inline int session_check(SessionStore store) noexcept nogil:
    """0, or the number of the first broken invariant. O(n)."""
    cdef size_t cursor = 0
    cdef names_slot_t* slot
    if names_check(&store.names) or slab_check(&store.slab):
        return 1
    if store.names.count != store.slab.count or store.names.count >= store.names.count_max:
        return 2
    while True:
        slot = names_next(&store.names, &cursor)
        if slot == NULL:
            break
        if session_of(slot).hash != slot.hash or slab_get(&store.slab, session_of(slot).handle) != slot.cold:
            return 3
        if session_of(slot).born_ns > <int64_t>slot.extra or <int64_t>slot.extra > store.now:
            return 4
        if session_of(slot).serial > store.serial:
            return 5
        if store.now < store.old_from and <uint64_t>store.now - <uint64_t>session_of(slot).born_ns >= store.age:
            return 6
    if not order_is_heap(&store.recency) or session_count_in(store, &store.recency, False) != store.names.count:
        return 7
    if store.age != UINT64_MAX and (
        not order_is_heap(&store.births) or session_count_in(store, &store.births, True) != store.names.count
    ):
        return 8
    return 0
