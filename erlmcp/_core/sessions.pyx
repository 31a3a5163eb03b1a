"""Records that live as long as they are used.

Wanted: a lookup that also moves the idle deadline, at the price of one cache miss; exact expiry, by idleness and by
age; the longest idle out first when the store is full; a cursor that needs no memory and misses nothing; records that
may refer back to the store.

A touch writes the time into the slot that the lookup has just read, and nothing else. The order is kept lazily: a heap
by (time of the touch, serial of the birth) whose entries may be behind. An entry is never ahead of its session, so a
top that is not due proves that none is; a top that is due, or wanted as the longest idle, is compared with its slot
first, and sinks to where it belongs if the session was touched since. A session pays for that at most once per idle
time or eviction, however often it is touched. Where one question would mend more than an eighth of the heap, all of it
is written anew from the table, in one walk. An entry of a session that is gone stays until it comes up, or until the
heap is full and written anew.

Births do not change, so the heap of births is exact but for those gone; its top tells from when on a lookup must read
a session's own birth.

A session_t is never moved in memory; the slab gives it the number that a cursor counts through. Dropping an object may
run code that comes back here, so objects are dropped when the structure is whole, and no slot is kept over it.
"""

cimport cython
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, INT64_MIN, UINT64_MAX, int64_t, uint32_t, uint64_t

from erlmcp._core.memory cimport clear_t, hold_objects, mem_alloc, mem_free, traverse_t, visit_t
from erlmcp._core.names cimport (
    NAMES_FREE, names_bytes, names_find, names_find_cold, names_free, names_init, names_insert, names_next,
    names_prefetch, names_remove, names_reserve, names_seed, names_slot_t, names_t, text_of_str, text_prefetch,
    text_prefetch_write, text_t,
)
from erlmcp._core.slab cimport slab_free, slab_init, slab_put, slab_slot_t, slab_t, slab_take

from erlmcp.errors import LimitError


cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept


cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF

cdef int64_t TIME_MIN = -(<int64_t>1 << 62)


@cython.final
cdef class _Owner:
    """An owner and how many sessions it holds. Kept alive by each of them."""

    cdef object owner
    cdef Py_ssize_t count


cdef int refuse(object id) except -1:
    raise TypeError(f"an id is a str, not {type(id).__name__}")


cdef inline int read_text(object id, text_t* text, uint64_t seed) except -1:
    """1; 0 where it has no UTF-8 form, so that it cannot be there; TypeError where it is no str."""
    return text_of_str(text, id, seed) if PyUnicode_Check(id) else refuse(id)


cdef int read_new_text(object id, text_t* text, uint64_t seed) except -1:
    if not read_text(id, text, seed):
        id.encode()
        raise AssertionError("a str without a UTF-8 form was encoded")
    return 0


cdef inline names_slot_t* seek_live(SessionStore self, object id) except? NULL:
    """The slot of an id whose session is live, or NULL. TypeError, MemoryError."""
    cdef text_t text
    cdef names_slot_t* slot
    if not read_text(id, &text, self.names.seed):
        return NULL
    slot = names_find(&self.names, &text)
    return slot if slot != NULL and session_is_live(self, slot) else NULL


cdef inline PyObject* use(SessionStore self, object id) except? NULL:
    """The record of an id, touched, or NULL."""
    cdef text_t text
    return session_use(self, &self.names, &text) if read_text(id, &text, self.names.seed) else NULL


cdef int use_near(SessionStore self, PyObject** ids, Py_ssize_t count, PyObject* default, PyObject** found) except -1:
    """The records of ids, touched, as new references."""
    cdef names_t names = self.names  # a copy, so that the compiler may keep it in registers
    cdef text_t text
    cdef PyObject* record
    cdef Py_ssize_t i
    for i in range(count):
        record = session_use(self, &names, &text) if read_text(<object>ids[i], &text, names.seed) else NULL
        found[i] = record if record != NULL else default
        Py_INCREF(<object>found[i])
    return 0


cdef int use_far(SessionStore self, PyObject** ids, Py_ssize_t count, PyObject* default, PyObject** found) except -1:
    """The same for up to SESSIONS_ROUND ids. Each round asks for the memory that the next one reads."""
    cdef text_t texts[SESSIONS_ROUND]
    cdef names_t names = self.names
    cdef PyObject* record
    cdef Py_ssize_t i
    for i in range(count):
        text_prefetch(ids[i])
    for i in range(count):
        if not read_text(<object>ids[i], &texts[i], names.seed):
            texts[i].hash = NAMES_FREE
        names_prefetch(&names, texts[i].hash)
    for i in range(count):
        record = session_use_far(self, &names, &texts[i]) if texts[i].hash != NAMES_FREE else NULL
        found[i] = record if record != NULL else default
        text_prefetch_write(found[i])
    for i in range(count):
        Py_INCREF(<object>found[i])
    return 0


cdef _Owner own(session_t* session, _Owner holder):
    """Gives a session to another owner, or to nobody; the one before, for ``forget``."""
    cdef _Owner former = <_Owner>session.holder if session.holder != NULL else None
    if former is not None:
        former.count -= 1
        Py_DECREF(former)
    if holder is not None:
        holder.count += 1
        Py_INCREF(holder)
    session.holder = <PyObject*>holder if holder is not None else NULL
    return former


cdef PyObject* detach(SessionStore self, session_t* session) noexcept:
    """Takes a session out of the structure, and runs no foreign code: for ``hand_over`` next. Gives its record."""
    cdef names_slot_t* slot = names_find_cold(&self.names, session.hash, session)
    cdef PyObject* record = <PyObject*>slot.hot
    names_remove(&self.names, slot)
    slab_take(&self.slab, session.handle)
    return record


cdef object hand_over(SessionStore self, session_t* session, PyObject* held, list left):
    """Ends a detached session and gives its record; where there is ``left``, its (id, record) pair goes there."""
    cdef object record = <object>held
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


cdef int check_quota(SessionStore self, _Owner holder, const session_t* held) except -1:
    """LimitError where the owner has no place for one more, besides ``held``."""
    cdef bint is_own = held != NULL and held.holder == <PyObject*>holder
    if self.quota and holder is not None and holder.count - is_own >= self.quota:
        raise LimitError("owner_count_max", self.quota, "the owner has too many sessions")
    return 0


cdef session_t* make(SessionStore self, object id, text_t* text) except NULL:
    """A session with a place in the slab, and room for it everywhere else: for ``add`` next.

    MemoryError, and the store is as it was: the table and the slab have one place more than ``count_max``.
    """
    cdef session_t* session
    if not PyUnicode_CheckExact(id):
        id = PyUnicode_DecodeUTF8(text.data, <Py_ssize_t>text.size, NULL)
        text_of_str(text, id, self.names.seed)  # a long id's bytes lie in the str that the session holds
    session_reserve_orders(self)
    names_reserve(&self.names, 1)
    session = <session_t*>mem_alloc(sizeof(session_t))
    if session == NULL:
        raise MemoryError
    try:
        session.handle = slab_put(&self.slab, session)
    except BaseException:
        mem_free(session)
        raise
    Py_INCREF(id)
    session.id = <PyObject*>id
    session.holder = NULL
    return session


cdef void add(
    SessionStore self, session_t* session, const text_t* text, object record, int64_t born_ns, int64_t touched_ns
) noexcept:
    """Puts a session that ``make`` gave into its place. Its id must be absent."""
    cdef names_slot_t* slot = names_insert(&self.names, text, <void*>record, session, <uint64_t>touched_ns)
    Py_INCREF(record)
    self.serial += 1
    session.hash = slot.hash
    session.serial = self.serial
    session.born_ns = born_ns
    order_push(&self.recency, touched_ns, session.serial, session.handle)
    if self.age != UINT64_MAX:
        order_push(&self.births, born_ns, session.serial, session.handle)
        session_set_old_from(self)


cdef object put_text(SessionStore self, text_t* text, object id, object record, _Owner holder):
    cdef names_slot_t* slot = names_find(&self.names, text)
    cdef session_t* leaving = session_of(slot) if slot != NULL else NULL
    cdef session_t* session
    cdef PyObject* held
    cdef object _old_record  # kept until the end
    cdef list left = []
    check_quota(self, holder, leaving)
    if slot != NULL and session_is_live(self, slot):
        _old_record = <object>slot.hot
        Py_DECREF(_old_record)
        Py_INCREF(record)
        slot.hot = <void*>record
        slot.extra = <uint64_t>self.now
        forget(self, own(leaving, holder))
        return ()
    session = make(self, id, text)
    if leaving == NULL and self.names.count + 1 == self.names.count_max:
        leaving = session_first_idle(self, INT64_MAX)
    held = detach(self, leaving) if leaving != NULL else NULL
    add(self, session, text, record, self.now, self.now)
    own(session, holder)
    if leaving == NULL:
        return ()
    hand_over(self, leaving, held, left)
    return left


cdef object put(SessionStore self, object id, object record, object owner):
    cdef _Owner holder
    cdef names_slot_t* slot
    cdef object old_record
    cdef text_t text
    read_new_text(id, &text, self.names.seed)
    if owner is None:
        slot = names_find(&self.names, &text)
        # ``put_text`` without its other cases.
        if slot != NULL and session_is_live(self, slot) and (not self.owners or session_of(slot).holder == NULL):
            old_record = <object>slot.hot
            Py_INCREF(record)
            slot.hot = <void*>record
            slot.extra = <uint64_t>self.now
            Py_DECREF(old_record)
            return ()
    holder = holder_of(self, owner)
    try:
        return put_text(self, &text, id, record, holder)
    except BaseException:
        forget(self, holder)
        raise


cdef int load_one(SessionStore self, tuple item, object shift_ns) except -1:
    cdef text_t text
    cdef session_t* session
    cdef _Owner holder
    if item is None or len(item) != 5:
        raise TypeError("an item is a tuple: id, record, owner, born_ns, touched_ns")
    id, record, owner, born_ns, touched_ns = item
    read_new_text(id, &text, self.names.seed)
    if not isinstance(born_ns, int) or not isinstance(touched_ns, int) or not isinstance(shift_ns, int):
        raise TypeError("born_ns, touched_ns and shift_ns are int")
    born_ns, touched_ns = born_ns + shift_ns, touched_ns + shift_ns
    if not TIME_MIN <= born_ns <= touched_ns <= self.now:
        raise ValueError(f"born_ns <= touched_ns <= now_ns={self.now} wanted, got {born_ns} and {touched_ns}")
    holder = holder_of(self, owner)
    try:
        if names_find(&self.names, &text) != NULL:
            raise ValueError(f"a session of this id is there already: {id!r}")
        if self.names.count + 1 >= self.names.count_max:
            raise LimitError("count_max", self.names.count_max - 1, "the store is full")
        check_quota(self, holder, NULL)
        session = make(self, id, &text)
    except BaseException:
        forget(self, holder)
        raise
    add(self, session, &text, record, born_ns, touched_ns)
    own(session, holder)
    return 0


cdef int unload(SessionStore self, tuple items, Py_ssize_t count, uint64_t serial) except -1:
    """Takes out what ``load`` put in since ``serial``."""
    cdef Py_ssize_t i
    cdef names_slot_t* slot
    cdef session_t* session
    cdef text_t text
    for i in range(count):
        read_text((<tuple>items[i])[0], &text, self.names.seed)
        slot = names_find(&self.names, &text)
        if slot != NULL and session_of(slot).serial > serial:
            session = session_of(slot)
            hand_over(self, session, detach(self, session), None)
    return 0


cdef inline int64_t ended(SessionStore self, uint64_t span) noexcept nogil:
    """What began at this time or before has lasted for ``span``."""
    return self.now - <int64_t>span if span != UINT64_MAX else INT64_MIN


cdef list take_out(SessionStore self, bint is_all):
    """All sessions, or those whose time is over, as (id, record) pairs. Foreign code may run, and push the clock."""
    cdef session_t* session
    cdef list left = []
    while True:
        session = session_first_idle(self, INT64_MAX if is_all else ended(self, self.idle))
        if session == NULL:
            session = session_first_born(self, ended(self, self.age))
        if session == NULL:
            return left
        hand_over(self, session, detach(self, session), left)


cdef object walk(SessionStore self, Py_ssize_t cursor, Py_ssize_t count, bint with_all):
    cdef list found = []
    cdef session_t* session
    cdef names_slot_t* slot
    if cursor < 0 or count < 1:
        raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
    # Making a tuple may start the collector, and that foreign code: nothing is kept over a turn.
    while cursor < <Py_ssize_t>self.slab.capacity:
        session = <session_t*>self.slab.slots[cursor].item
        slot = names_find_cold(&self.names, session.hash, session) if session != NULL else NULL
        if slot != NULL and session_is_live(self, slot):
            if count == 0:
                return cursor, found
            count -= 1
            id = <object>session.id
            record = <object>slot.hot
            if with_all:
                owner = (<_Owner>session.holder).owner if session.holder != NULL else None
                found.append((id, record, owner, session.born_ns, <int64_t>slot.extra))
            else:
                found.append((id, record))
        cursor += 1
    return 0, found


cdef int push_clock(SessionStore self, object now_ns) except -1:
    cdef int64_t now = now_ns
    if now < 0:
        raise ValueError(f"now_ns is 0 or more, got {now_ns}")
    self.now = max(self.now, now)
    return 0


cdef int drop_all(names_t* names, slab_t* slab, order_t* recency, order_t* births) noexcept:
    """Lets go of all sessions. Their store must know nothing of them any more."""
    cdef size_t cursor = 0
    cdef names_slot_t* slot = names_next(names, &cursor)
    cdef session_t* session
    mem_free(recency.entries)
    mem_free(births.entries)
    slab_free(slab)
    while slot != NULL:
        session = session_of(slot)
        Py_DECREF(<object>slot.hot)
        if session.holder != NULL:
            Py_DECREF(<object>session.holder)
        Py_DECREF(<object>session.id)
        mem_free(session)
        slot = names_next(names, &cursor)
    names_free(names)
    return 0


cdef int visit_all(SessionStore self, visit_t visit, void* arg) noexcept:
    cdef size_t cursor = 0
    cdef names_slot_t* slot = names_next(&self.names, &cursor)
    cdef int stop = visit(<PyObject*>self.owners, arg) if self.owners is not None else 0
    while slot != NULL and not stop:
        stop = visit(<PyObject*>slot.hot, arg)
        if not stop and session_of(slot).holder != NULL:
            stop = visit(session_of(slot).holder, arg)
        slot = names_next(&self.names, &cursor)
    return stop


cdef int clear_all(SessionStore self) noexcept:
    """Takes everything out, then drops it."""
    cdef dict _old_owners = self.owners  # kept until the end
    cdef names_t names = self.names
    cdef slab_t slab = self.slab
    cdef order_t recency = self.recency
    cdef order_t births = self.births
    names_init(&self.names, names.count_max, names.seed)
    slab_init(&self.slab, slab.capacity_max)
    self.recency.entries = self.births.entries = NULL
    self.recency.count = self.recency.capacity = self.births.count = self.births.capacity = 0
    self.old_from = INT64_MAX
    self.owners = None
    drop_all(&names, &slab, &recency, &births)
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
        names_init(&self.names, <size_t>count_max + 1, names_seed())
        slab_init(&self.slab, <uint32_t>count_max + 1)
        self.now = now_ns
        self.idle = <uint64_t>idle_ns if idle_ns else UINT64_MAX
        self.age = <uint64_t>age_ns if age_ns else UINT64_MAX
        self.old_from = INT64_MAX
        self.quota = owner_count_max
        self.owners = {}

    def __dealloc__(self):
        drop_all(&self.names, &self.slab, &self.recency, &self.births)

    @property
    def count_max(self):
        return self.names.count_max - 1

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
    def memory_bytes(self):
        cdef size_t orders = (self.recency.capacity + self.births.capacity) * sizeof(order_entry_t)
        cdef size_t places = self.slab.capacity * sizeof(slab_slot_t)
        return names_bytes(&self.names) + self.names.count * sizeof(session_t) + orders + places

    @property
    def now_ns(self):
        return self.now

    @now_ns.setter
    def now_ns(self, now_ns):
        push_clock(self, now_ns)

    def __len__(self):
        return <Py_ssize_t>self.names.count

    def __contains__(self, id):
        return PyUnicode_Check(id) and seek_live(self, id) != NULL

    def __getitem__(self, id):
        cdef PyObject* record = use(self, id)
        if record == NULL:
            raise KeyError(id)
        return <object>record

    def get(self, id, default=None):
        cdef PyObject* record = use(self, id)
        return <object>record if record != NULL else default

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
        if self.names.mask < SESSIONS_NEAR:
            use_near(self, items, count, <PyObject*>default, found)
            return records
        while at < count:
            part = count - at if count - at < SESSIONS_ROUND else SESSIONS_ROUND
            use_far(self, items + at, part, <PyObject*>default, found + at)
            at += part
        return records

    def peek(self, id, default=None):
        cdef names_slot_t* slot = seek_live(self, id)
        return <object>slot.hot if slot != NULL else default

    def touch(self, id):
        return use(self, id) != NULL

    def put(self, id, record, owner=None, now_ns=None):
        if not PyUnicode_Check(id):
            refuse(id)
        if now_ns is not None:
            push_clock(self, now_ns)
        return put(self, id, record, owner)

    def pop(self, id, default=None):
        cdef names_slot_t* slot = seek_live(self, id)
        cdef session_t* session = session_of(slot) if slot != NULL else NULL
        if session == NULL:
            return default
        return hand_over(self, session, detach(self, session), None)

    def owner_count(self, owner):
        cdef _Owner holder = self.owners.get(owner)
        return holder.count if holder is not None else 0

    def expire(self, now_ns=None):
        if now_ns is not None:
            push_clock(self, now_ns)
        return take_out(self, False)

    def next_deadline_ns(self):
        cdef session_t* session = session_first_idle(self, INT64_MAX) if self.idle != UINT64_MAX else NULL
        deadlines = []
        if session != NULL:
            deadlines.append(self.recency.entries[0].time_ns + <object>self.idle)
        session = session_first_born(self, INT64_MAX)
        if session != NULL:
            deadlines.append(session.born_ns + <object>self.age)
        return min(deadlines, default=None)

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        return walk(self, cursor, count, False)

    def dump(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        return walk(self, cursor, count, True)

    def load(self, items, shift_ns=0):
        cdef uint64_t serial = self.serial
        cdef Py_ssize_t done = 0
        if not isinstance(items, (list, tuple)):
            raise TypeError(f"load takes a list or a tuple, not {type(items).__name__}")
        items = tuple(items)  # owners' code may run
        try:
            for item in items:
                load_one(self, item, shift_ns)
                done += 1
        except BaseException:
            unload(self, items, done, serial)
            raise
        return done

    def drain(self):
        return take_out(self, True)

    def check(self):
        cdef int broken = session_check(self)
        cdef size_t owned = 0
        cdef size_t cursor = 0
        cdef names_slot_t* slot = names_next(&self.names, &cursor)
        cdef _Owner holder
        if broken:
            raise AssertionError(f"sessions: invariant {broken} is broken")
        while slot != NULL:
            owned += session_of(slot).holder != NULL
            slot = names_next(&self.names, &cursor)
        for holder in self.owners.values():
            if holder.count < 1:
                raise AssertionError("an owner without sessions is kept")
            owned -= holder.count
        if owned:
            raise AssertionError("the owners' counts and the sessions differ")


hold_objects(SessionStore, <traverse_t>visit_all, <clear_t>clear_all)
