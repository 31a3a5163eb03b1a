"""Records that live as long as they are used.

Wanted: a lookup that also moves the idle deadline, in a few nanoseconds; exact expiry, by idleness and by age; the
longest idle out first when the store is full; a cursor that needs no memory and misses nothing; records that may
refer back to the store.

All records have the same idle time and the same age limit, so the order of the last touch is the order of the idle
deadlines, and the order of birth that of the others: two chains give expiry without a timer, exactly and in O(1) a
record. The clock does not go back, and a touch at the time of the last touch moves nothing, so a chain is in order
of time at any moment:

    recency:  longest idle ... touched at t ... touched now (in the order of their first touch at that time)

A session is never moved in memory: the table's key and value point into it, and the slab gives it the number that a
cursor counts through. Dropping an object may run code that comes back here, so objects are dropped when the
structure is whole.
"""

cimport cython
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from erlmcp._core.chain cimport (
    chain_after, chain_check, chain_front, chain_init, chain_move_to_back, chain_node_init, chain_node_t,
    chain_push_back, chain_remove,
)
from erlmcp._core.memory cimport clear_t, hold_objects, mem_alloc, mem_free, traverse_t, visit_t
from erlmcp._core.slab cimport slab_check, slab_free, slab_get, slab_init, slab_put, slab_take
from erlmcp._core.table cimport (
    TABLE_FREE, table_check, table_entry_t, table_free, table_init, table_insert, table_remove, table_reserve,
    table_seed, table_t,
)

from erlmcp.errors import LimitError


cdef extern from "text.h" nogil:
    ctypedef struct text_t:
        const char* data
        size_t size
        uint64_t hash
    void text_of_data(text_t* text, const char* data, size_t size, uint64_t seed) noexcept
    bint text_is_equal(const char* a, const char* b, size_t size) noexcept
    void text_prefetch(const void* address) noexcept
    void text_prefetch_write(const void* address) noexcept

cdef extern from "text.h":
    int text_of_str(text_t* text, object str, uint64_t seed) except -1

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept


cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF
    CHUNK = 32  # ids that get_many has on the way at a time

cdef table_entry_t NO_SLOT  # of a table that has none


@cython.final
cdef class _Owner:
    """An owner and how many sessions it holds. Kept alive by each of them."""

    cdef object owner
    cdef Py_ssize_t count


cdef inline char* id_data(session_t* session) noexcept nogil:
    return <char*>(session + 1)


cdef inline session_t* of_recency(chain_node_t* node) noexcept nogil:
    cdef session_t* session = <session_t*>node
    return <session_t*>(<char*>node - (<char*>&session.recency - <char*>session)) if node != NULL else NULL


cdef inline bint is_idle(SessionStore self, session_t* session) noexcept nogil:
    return <uint64_t>(self.now - session.touched_ns) >= self.idle


cdef inline bint is_old(SessionStore self, session_t* session) noexcept nogil:
    return <uint64_t>(self.now - session.born_ns) >= self.age


cdef inline void touch(SessionStore self, session_t* session) noexcept nogil:
    if session.touched_ns != self.now:
        session.touched_ns = self.now
        chain_move_to_back(&self.recency, &session.recency)


cdef inline int read_text(object id, text_t* text, uint64_t seed) except -1:
    """1; 0 where it has no UTF-8 form, so that it cannot be there; TypeError where it is no str."""
    if not PyUnicode_Check(id):
        raise TypeError(f"an id is a str, not {type(id).__name__}")
    return text_of_str(text, id, seed)


cdef inline session_t* seek_held(const table_t* table, const text_t* text) noexcept nogil:
    """As table_find, with the comparison in line."""
    cdef table_entry_t* slot
    cdef size_t at = <size_t>text.hash
    if table.count == 0:
        return NULL
    while True:
        slot = &table.slots[at & table.mask]
        if slot.hash == text.hash and slot.size == text.size and text_is_equal(slot.key, text.data, text.size):
            return <session_t*>slot.value
        if slot.hash == TABLE_FREE:
            return NULL
        at += 1


cdef inline session_t* seek_live(SessionStore self, const text_t* text) noexcept nogil:
    cdef session_t* session = seek_held(&self.table, text)
    return session if session != NULL and not is_idle(self, session) and not is_old(self, session) else NULL


cdef inline int seek(SessionStore self, object id, session_t** session) except -1:
    """The live session of an id through ``session``, or NULL. TypeError, MemoryError."""
    cdef text_t text
    session[0] = seek_live(self, &text) if read_text(id, &text, self.seed) else NULL
    return 0


cdef PyObject* session_find(SessionStore store, const char* id, Py_ssize_t id_bytes) noexcept nogil:
    cdef text_t text
    cdef session_t* session
    text_of_data(&text, id, <size_t>id_bytes, store.seed)
    session = seek_live(store, &text)
    if session == NULL:
        return NULL
    touch(store, session)
    return session.record


cdef int find_some(SessionStore self, PyObject** ids, Py_ssize_t count, PyObject* default, PyObject** found) except -1:
    """The records of up to CHUNK ids, touched, as new references. Each round asks for the memory that the next one
    reads."""
    cdef text_t texts[CHUNK]
    cdef session_t* sessions[CHUNK]
    cdef session_t* session
    cdef table_t table = self.table  # copies, so that the compiler may keep them in registers
    cdef uint64_t seed = self.seed
    cdef table_entry_t* slot
    cdef Py_ssize_t i
    if table.slots == NULL:
        table.slots = &NO_SLOT
    for i in range(count):
        text_prefetch(ids[i])
    for i in range(count):
        if not read_text(<object>ids[i], &texts[i], seed):
            texts[i].hash = TABLE_FREE
        text_prefetch(&table.slots[texts[i].hash & table.mask])
    for i in range(count):
        slot = &table.slots[texts[i].hash & table.mask]
        text_prefetch(<void*>(slot.value + sizeof(session_t) - 1))  # the hot half, and the id's bytes after it
    for i in range(count):
        session = seek_held(&table, &texts[i]) if texts[i].hash != TABLE_FREE else NULL
        if session != NULL and (is_idle(self, session) or is_old(self, session)):
            session = NULL
        sessions[i] = session
        if session != NULL:
            text_prefetch_write(session.record)
            if session.touched_ns != self.now:
                text_prefetch_write(session.recency.prev)
                text_prefetch_write(session.recency.next)
    for i in range(count):
        session = sessions[i]
        found[i] = default
        if session != NULL:
            touch(self, session)
            found[i] = session.record
        Py_INCREF(<object>found[i])
    return 0


cdef _Owner own(session_t* session, _Owner holder):
    """Gives a session to another owner, or to nobody; the one before, for ``forget``."""
    cdef _Owner before = <_Owner>session.holder if session.holder != NULL else None
    if before is not None:
        before.count -= 1
        Py_DECREF(before)
    if holder is not None:
        holder.count += 1
        Py_INCREF(holder)
    session.holder = <PyObject*>holder if holder is not None else NULL
    return before


cdef void detach(SessionStore self, session_t* session) noexcept:
    """Takes a session out of the structure, and runs no foreign code: for ``hand_over`` next."""
    cdef text_t text
    text_of_data(&text, id_data(session), session.size, self.seed)
    table_remove(&self.table, text.hash, text.data, text.size, NULL)
    slab_take(&self.slab, session.handle)
    chain_remove(&self.recency, &session.recency)
    chain_remove(&self.births, &session.birth)


cdef object hand_over(SessionStore self, session_t* session, list left):
    """Ends a detached session and gives its record; where there is ``left``, its (id, record) pair goes there."""
    cdef object record = <object>session.record
    cdef object id = <object>session.id
    cdef _Owner holder = own(session, None)
    mem_free(session)
    Py_DECREF(id)
    Py_DECREF(record)
    if left is not None:
        left.append((id, record))
    forget(self, holder)
    return record


cdef int forget(SessionStore self, _Owner holder) except -1:
    """Lets go of an owner that has no sessions any more. Comparing owners may run foreign code, so this comes last."""
    if holder is not None and holder.count == 0 and self.owners.get(holder.owner) is holder:
        del self.owners[holder.owner]
        if holder.count:  # that foreign code put a session for this owner meanwhile
            self.owners[holder.owner] = holder
    return 0


cdef _Owner holder_of(SessionStore self, object owner):
    """What counts an owner's sessions, made where it has none yet; None for nobody."""
    cdef _Owner holder
    if owner is None:
        return None
    holder = self.owners.get(owner)
    if holder is None:
        holder = _Owner.__new__(_Owner)
        holder.owner = owner
        holder = self.owners.setdefault(owner, holder)
    return holder


cdef session_t* make(const text_t* text, object id, object record) except NULL:
    """A session of its own, in nothing yet."""
    cdef session_t* session = <session_t*>mem_alloc(sizeof(session_t) + text.size)
    if session == NULL:
        raise MemoryError
    chain_node_init(&session.recency)
    chain_node_init(&session.birth)
    memcpy(id_data(session), text.data, text.size)
    session.size = text.size
    session.handle = 0
    session.holder = NULL
    Py_INCREF(id)
    Py_INCREF(record)
    session.id = <PyObject*>id
    session.record = <PyObject*>record
    return session


cdef int add(
    SessionStore self, const text_t* text, object id, object record, _Owner holder, session_t** leaving
) except -1:
    """A new session, born and touched now; where the store is full the longest idle leaves it, detached.

    MemoryError, and the store is as it was: the table and the slab have one place more than ``count_max``.
    """
    cdef session_t* session = make(text, id, record)
    try:
        table_reserve(&self.table, 1)
        session.handle = slab_put(&self.slab, session)
    except BaseException:
        Py_DECREF(id)
        Py_DECREF(record)
        mem_free(session)
        raise
    leaving[0] = NULL
    if self.table.count + 1 == self.table.count_max:
        leaving[0] = of_recency(chain_front(&self.recency))
        detach(self, leaving[0])
    table_insert(&self.table, text.hash, id_data(session), text.size, <uint64_t>session, NULL)
    session.born_ns = session.touched_ns = self.now
    chain_push_back(&self.recency, &session.recency)
    chain_push_back(&self.births, &session.birth)
    own(session, holder)
    return 0


cdef object replace(SessionStore self, session_t* session, object record, _Owner holder):
    """Another record for an id; one that had expired is born anew, and its record leaves."""
    cdef object old_record = <object>session.record
    cdef object id = <object>session.id
    cdef bint is_expired = is_idle(self, session) or is_old(self, session)
    Py_INCREF(record)
    session.record = <PyObject*>record
    Py_DECREF(old_record)
    touch(self, session)
    if is_expired:
        session.born_ns = self.now
        chain_move_to_back(&self.births, &session.birth)
    forget(self, own(session, holder))
    return [(id, old_record)] if is_expired else ()


cdef object put_text(SessionStore self, const text_t* text, object id, object record, _Owner holder):
    cdef session_t* session = seek_held(&self.table, text)
    cdef session_t* leaving
    cdef PyObject* owned = <PyObject*>holder if holder is not None else NULL
    cdef list left
    if holder is not None and self.quota and holder.count - (session != NULL and session.holder == owned) >= self.quota:
        raise LimitError("owner_count_max", self.quota, "the owner has too many sessions")
    if session != NULL:
        return replace(self, session, record, holder)
    if not PyUnicode_CheckExact(id):
        id = PyUnicode_DecodeUTF8(text.data, <Py_ssize_t>text.size, NULL)
    add(self, text, id, record, holder, &leaving)
    if leaving == NULL:
        return ()
    left = []
    hand_over(self, leaving, left)
    return left


cdef object put(SessionStore self, object id, object record, object owner):
    cdef _Owner holder
    cdef session_t* session
    cdef object old_record
    cdef text_t text
    if not read_text(id, &text, self.seed):
        id.encode()
        raise AssertionError("a str without a UTF-8 form was encoded")
    session = seek_live(self, &text)
    if session != NULL and owner is None and session.holder == NULL:  # ``replace``, without its other cases
        old_record = <object>session.record
        Py_INCREF(record)
        session.record = <PyObject*>record
        touch(self, session)
        Py_DECREF(old_record)
        return ()
    holder = holder_of(self, owner)
    try:
        return put_text(self, &text, id, record, holder)
    except BaseException:
        forget(self, holder)
        raise


cdef int push_clock(SessionStore self, object now_ns) except -1:
    cdef int64_t now = now_ns
    if now < 0:
        raise ValueError(f"now_ns is 0 or more, got {now_ns}")
    if now > self.now:
        self.now = now
    return 0


cdef int drop_sessions(slab_t* slab) noexcept:
    """Lets go of all sessions. Their store must know nothing of them any more."""
    cdef session_t* session
    cdef uint32_t i
    for i in range(slab.capacity):
        session = <session_t*>slab.slots[i].item
        if session != NULL:
            Py_DECREF(<object>session.id)
            Py_DECREF(<object>session.record)
            if session.holder != NULL:
                Py_DECREF(<object>session.holder)
            mem_free(session)
    slab_free(slab)
    return 0


cdef int visit_all(SessionStore self, visit_t visit, void* arg) noexcept:
    cdef session_t* session = of_recency(chain_front(&self.recency))
    cdef int stop = visit(<PyObject*>self.owners, arg) if self.owners is not None else 0
    while session != NULL and not stop:
        stop = visit(session.record, arg)
        if not stop and session.holder != NULL:
            stop = visit(session.holder, arg)
        session = of_recency(chain_after(&self.recency, &session.recency))
    return stop


cdef int clear_all(SessionStore self) noexcept:
    """Takes everything out, then drops it."""
    cdef dict _old_owners = self.owners  # kept until the end
    cdef slab_t slab = self.slab
    cdef table_t table = self.table
    slab_init(&self.slab, slab.capacity_max)
    table_init(&self.table, table.count_max)
    chain_init(&self.recency)
    chain_init(&self.births)
    self.owners = None
    table_free(&table)
    drop_sessions(&slab)
    return 0


cdef class SessionStore:
    def __cinit__(
        self, Py_ssize_t count_max=10_000, *, int64_t idle_ns=1_800_000_000_000, int64_t age_ns=0,
        Py_ssize_t owner_count_max=0, int64_t now_ns=0,
    ):
        if count_max < 1 or count_max > COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if idle_ns < 0 or age_ns < 0 or owner_count_max < 0 or now_ns < 0:
            raise ValueError("idle_ns, age_ns, owner_count_max and now_ns are 0 or more")
        table_init(&self.table, <size_t>count_max + 1)
        slab_init(&self.slab, <uint32_t>count_max + 1)
        chain_init(&self.recency)
        chain_init(&self.births)
        self.seed = table_seed()
        self.now = now_ns
        self.idle = <uint64_t>idle_ns if idle_ns else UINT64_MAX
        self.age = <uint64_t>age_ns if age_ns else UINT64_MAX
        self.quota = owner_count_max
        self.owners = {}

    def __dealloc__(self):
        table_free(&self.table)
        drop_sessions(&self.slab)

    @property
    def count_max(self):
        return self.table.count_max - 1

    @property
    def idle_ns(self):
        return self.idle if self.idle != UINT64_MAX else 0

    @property
    def age_ns(self):
        return self.age if self.age != UINT64_MAX else 0

    @property
    def owner_count_max(self):
        return self.quota

    @property
    def now_ns(self):
        return self.now

    @now_ns.setter
    def now_ns(self, now_ns):
        push_clock(self, now_ns)

    def __len__(self):
        return <Py_ssize_t>self.table.count

    def __contains__(self, id):
        cdef session_t* session = NULL
        if PyUnicode_Check(id):
            seek(self, id, &session)
        return session != NULL

    def __getitem__(self, id):
        cdef session_t* session
        seek(self, id, &session)
        if session == NULL:
            raise KeyError(id)
        touch(self, session)
        return <object>session.record

    def get(self, id, default=None):
        cdef session_t* session
        seek(self, id, &session)
        if session == NULL:
            return default
        touch(self, session)
        return <object>session.record

    def get_many(self, ids, default=None):
        cdef PyObject** found
        cdef PyObject** items
        cdef Py_ssize_t count, part, at = 0
        cdef list records
        if not isinstance(ids, (list, tuple)):
            raise TypeError(f"get_many takes a list or a tuple, not {type(ids).__name__}")
        count = PySequence_Fast_GET_SIZE(ids)
        records = PyList_New(count)
        # Nothing below runs foreign code, so the ids stay where they are. After an error the rest is NULL.
        items = PySequence_Fast_ITEMS(ids)
        found = PySequence_Fast_ITEMS(records)
        while at < count:
            part = count - at if count - at < CHUNK else CHUNK
            find_some(self, items + at, part, <PyObject*>default, found + at)
            at += part
        return records

    def peek(self, id, default=None):
        cdef session_t* session
        seek(self, id, &session)
        return <object>session.record if session != NULL else default

    def put(self, id, record, owner=None, now_ns=None):
        if not PyUnicode_Check(id):
            raise TypeError(f"an id is a str, not {type(id).__name__}")
        if now_ns is not None:
            push_clock(self, now_ns)
        return put(self, id, record, owner)

    def pop(self, id, default=None):
        cdef session_t* session
        seek(self, id, &session)
        if session == NULL:
            return default
        detach(self, session)
        return hand_over(self, session, None)

    def owner_count(self, owner):
        cdef _Owner holder = self.owners.get(owner)
        return holder.count if holder is not None else 0

    def expire(self, now_ns=None):
        cdef session_t* session
        cdef list left = []
        if now_ns is not None:
            push_clock(self, now_ns)
        while True:
            session = of_recency(chain_front(&self.recency))
            if session == NULL or not is_idle(self, session):
                session = <session_t*>chain_front(&self.births)
                if session == NULL or not is_old(self, session):
                    return left
            detach(self, session)
            hand_over(self, session, left)

    def next_deadline_ns(self):
        cdef session_t* session = of_recency(chain_front(&self.recency))
        cdef uint64_t deadline = UINT64_MAX
        if session == NULL:
            return None
        if self.idle != UINT64_MAX:
            deadline = <uint64_t>session.touched_ns + self.idle
        session = <session_t*>chain_front(&self.births)
        if self.age != UINT64_MAX:
            deadline = min(deadline, <uint64_t>session.born_ns + self.age)
        return deadline if deadline != UINT64_MAX else None

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        cdef list found = []
        cdef session_t* session
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        # Making a tuple may start the collector, and that foreign code: nothing is kept over a turn.
        while cursor < <Py_ssize_t>self.slab.capacity:
            session = <session_t*>self.slab.slots[cursor].item
            if session != NULL and not is_idle(self, session) and not is_old(self, session):
                if count == 0:
                    return cursor, found
                count -= 1
                id = <object>session.id
                record = <object>session.record
                found.append((id, record))
            cursor += 1
        return 0, found

    def drain(self):
        cdef session_t* session
        cdef list left = []
        while True:
            session = of_recency(chain_front(&self.recency))
            if session == NULL:
                return left
            detach(self, session)
            hand_over(self, session, left)

    def check(self):
        cdef session_t* session = of_recency(chain_front(&self.recency))
        cdef session_t* after
        cdef text_t text
        cdef Py_ssize_t owned = 0
        cdef _Owner holder
        _expect(table_check(&self.table), "the table is broken")
        _expect(slab_check(&self.slab), "the slab is broken")
        _expect(chain_check(&self.recency) or chain_check(&self.births), "a chain is broken")
        _expect(self.recency.count != self.births.count, "the chains differ")
        _expect(self.table.count != self.slab.count or self.table.count != self.recency.count, "the counts differ")
        while session != NULL:
            text_of_data(&text, id_data(session), session.size, self.seed)
            _expect(seek_held(&self.table, &text) != session, "a session is not found by its id")
            _expect(slab_get(&self.slab, session.handle) != session, "a session has the wrong handle")
            _expect(session.born_ns > session.touched_ns or session.touched_ns > self.now, "a session has a wrong time")
            owned += session.holder != NULL
            after = of_recency(chain_after(&self.recency, &session.recency))
            _expect(after != NULL and after.touched_ns < session.touched_ns, "the order is not that of recency")
            session = after
        for holder in self.owners.values():
            owned -= holder.count
            _expect(holder.count < 1, "an owner without sessions is kept")
        _expect(owned != 0, "the owners' counts and the sessions differ")


cdef int _expect(bint is_broken, str message) except -1:
    if is_broken:
        raise AssertionError(message)
    return 0


hold_objects(SessionStore, <traverse_t>visit_all, <clear_t>clear_all)
