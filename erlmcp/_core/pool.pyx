"""Things that are expensive to make, lent and taken back.

Wanted: a loan and its return in a few nanoseconds, with everything a careful owner writes down: who has it, since when,
under which number, so that a number kept too long opens nothing; bounds on how many there are, how long they idle and
how old they get; a face for C threads without the GIL. Nothing here waits or calls user code: None from ``lend`` means
"make one if ``reserve`` lets you, else wait".

Idle members are a stack of indices in the order of their return, so the longest idle lie at the bottom: who has to go
for idleness is a prefix. Everything else about a member is in its place.

A Lease is one loan's handle as an object. Making one costs more than the loan, so a place keeps its last two: where
nobody else refers to one (its reference count is 1) nobody can return it any more, and it serves again. A count of 1
while the member is lent says, for the same reason, that the borrower lost it.

The lock is held for a few loads and stores. Making or dropping an object may run foreign code that comes back here,
so neither happens under it.
"""

cimport cython
from cpython.list cimport PyList_New, PyList_SetSlice
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF

from erlmcp._core.memory cimport clear_t, hold_objects, mem_free, mem_realloc, traverse_t, visit_t

from erlmcp.errors import LimitError, StaleHandleError


cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define lease_is_ours(lease) 0
    #define lease_is_lost(lease) 0
    #else
    #define lease_is_ours(lease) ((lease) != NULL && Py_REFCNT((PyObject *)(lease)) == 1)
    #define lease_is_lost(lease) (Py_REFCNT((PyObject *)(lease)) == 1)
    #endif
    #define pass_on(owned) (owned)
    """
    bint lease_is_ours(void* lease) noexcept
    bint lease_is_lost(void* lease) noexcept
    object pass_on(PyObject* owned)  # the same reference, from then on counted by Cython

cdef extern from "Python.h":
    void Py_XINCREF(PyObject* o) noexcept
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept


cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF
    CAPACITY_MIN = 16

cdef int64_t NS_LIMIT = 0x3FFFFFFFFFFFFFFF


cdef void pool_free(pool_t* self) noexcept nogil:
    mem_free(self.idle)
    mem_free(self.places)
    pool_forget(self)


cdef int locked_grow(pool_t* self) noexcept nogil:
    """Makes the free list not empty: 1, or 0 where there is no memory."""
    cdef uint64_t capacity = <uint64_t>self.capacity * 2
    cdef pool_place_t* places
    cdef uint32_t* idle
    if capacity < CAPACITY_MIN:
        capacity = CAPACITY_MIN
    if capacity > self.count_max:
        capacity = self.count_max
    idle = <uint32_t*>mem_realloc(self.idle, capacity * sizeof(uint32_t))
    if idle == NULL:
        return 0
    self.idle = idle
    places = <pool_place_t*>mem_realloc(self.places, capacity * sizeof(pool_place_t))
    if places == NULL:
        return 0
    locked_adopt(self, places, <uint32_t>capacity)
    return 1


cdef int pool_add(pool_t* self, void* member, bint is_reserved, uint64_t* handle) noexcept nogil:
    cdef int answer
    pool_lock(self)
    answer = locked_may_add(self, is_reserved)
    if answer and self.free_first == PLACE_NONE and not locked_grow(self):
        answer = -1
    if answer == 1:
        self.opening_count -= is_reserved
        locked_add(self, member, handle)
    pool_unlock(self)
    return answer


cdef object stale(uint64_t handle):
    return StaleHandleError(f"nothing is lent under the handle {handle:#x}; it was taken back or reclaimed")


cdef object end_loan(pool_t* pool, uint64_t handle, uint64_t* total):
    """Ends a loan by its handle, counts it in ``total``, and gives the member, which is out. StaleHandleError."""
    cdef pool_place_t* place
    cdef PyObject* who
    cdef PyObject* member
    pool_lock(pool)
    place = locked_find(pool, handle)
    if place == NULL:
        pool_unlock(pool)
        raise stale(handle)
    if place.lease != NULL and (<Lease>place.lease).number == handle:
        (<Lease>place.lease).pool = NULL
    who = <PyObject*>place.who
    place.who = NULL
    member = <PyObject*>locked_take(pool, <uint32_t>handle, total)
    pool_unlock(pool)
    Py_XDECREF(who)  # may run foreign code; the pool may be gone after it
    return pass_on(member)


cdef inline int give_back(Lease lease) except -1:
    """1 where the member is idle again, 0 where it is leaving. StaleHandleError."""
    cdef pool_t* pool = lease.pool
    cdef pool_place_t* place
    cdef PyObject* who
    cdef int is_idle
    if pool == NULL:
        raise stale(lease.number)
    pool_lock(pool)
    place = locked_find(pool, lease.number)
    if place == NULL:
        pool_unlock(pool)
        raise stale(lease.number)
    lease.pool = NULL
    who = <PyObject*>place.who
    place.who = NULL
    is_idle = locked_return(pool, place, <uint32_t>lease.number)
    pool_unlock(pool)
    if who != NULL:
        Py_DECREF(<object>who)  # may run foreign code; the pool may be gone after it
    return is_idle


cdef inline PyObject* lease_of(pool_t* pool, pool_place_t* place, uint64_t handle) noexcept:
    """Under the lock: a new reference to a lease that nobody else has, now of this loan; NULL where there is none."""
    cdef void* lease = place.lease
    if not lease_is_ours(lease):
        place.lease = place.spare
        place.spare = lease
        lease = place.lease
        if not lease_is_ours(lease):
            return NULL
    (<Lease>lease).pool = pool
    (<Lease>lease).number = handle
    Py_INCREF(<Lease>lease)
    return <PyObject*>lease


cdef inline void drop_lease(PyObject* lease) noexcept:
    """NULL is allowed. It is stale from now on, whoever else has it."""
    if lease != NULL:
        (<Lease>lease).pool = NULL
        Py_DECREF(<Lease>lease)


cdef Lease write_lease(Pool self, uint64_t handle, PyObject* who, PyObject* owned):
    """Gives a loan its Lease (``owned``, or a new one where that is NULL) and its borrower. Where there is no memory,
    the member is taken back."""
    cdef pool_place_t* place
    cdef PyObject* old_lease = NULL
    cdef PyObject* old_who = NULL
    cdef Lease lease
    if owned == NULL:
        try:
            lease = Lease.__new__(Lease)
        except BaseException:
            pool_return(&self.pool, handle)
            raise
    else:
        lease = <Lease>owned
        Py_DECREF(lease)
    lease.number = handle
    pool_lock(&self.pool)
    place = locked_find(&self.pool, handle)
    if place != NULL:  # else foreign code reclaimed it while the Lease was made, which is born stale then
        if place.lease != <void*>lease:
            old_lease = <PyObject*>place.lease
            Py_INCREF(lease)
            place.lease = <void*>lease
        lease.pool = &self.pool
        old_who = <PyObject*>place.who
        Py_XINCREF(who)
        place.who = <void*>who
    pool_unlock(&self.pool)
    drop_lease(old_lease)
    Py_XDECREF(old_who)
    return lease


cdef inline object lend(Pool self, PyObject* who):
    """None where nothing is idle; ``who`` may be NULL. MemoryError."""
    cdef pool_t* pool = &self.pool
    cdef pool_place_t* place
    cdef PyObject* lease
    cdef uint64_t handle
    pool_lock(pool)
    handle = locked_lend(pool)
    if handle == 0:
        pool_unlock(pool)
        return None
    place = &pool.places[<uint32_t>handle]
    lease = lease_of(pool, place, handle)
    if lease != NULL and place.who == NULL:
        if who != NULL:
            Py_INCREF(<object>who)
            place.who = <void*>who
        pool_unlock(pool)
        return pass_on(lease)
    pool_unlock(pool)
    return write_lease(self, handle, who, lease)


cdef Py_ssize_t lend_some(pool_t* pool, PyObject** leases, Py_ssize_t count) noexcept:
    """How many were lent to nobody in one go; stops at a place that needs more care."""
    cdef Py_ssize_t done = 0
    cdef pool_place_t* place
    cdef PyObject* lease
    cdef uint32_t index
    pool_lock(pool)
    while done < count and pool.idle_count:
        index = pool.idle[pool.idle_count - 1]
        place = &pool.places[index]
        if pool.now_ns >= place.old_at_ns or place.who != NULL:
            break
        lease = lease_of(pool, place, <uint64_t>(place.generation + 1) << 32 | index)
        if lease == NULL:
            break
        locked_lend(pool)
        leases[done] = lease
        done += 1
    pool_unlock(pool)
    return done


cdef Py_ssize_t take_some(pool_t* pool, PyObject** leases, Py_ssize_t count, Py_ssize_t* idle) noexcept:
    """How many were taken back in one go, of them idle again ``idle`` more; stops at what needs more care."""
    cdef Py_ssize_t done = 0
    cdef pool_place_t* place
    cdef Lease lease
    pool_lock(pool)
    while done < count and type(<object>leases[done]) is Lease:
        lease = <Lease>leases[done]
        place = locked_find(pool, lease.number) if lease.pool == pool else NULL
        if place == NULL or place.who != NULL:
            break
        lease.pool = NULL
        idle[0] += locked_return(pool, place, <uint32_t>lease.number)
        done += 1
    pool_unlock(pool)
    return done


cdef int64_t read_ns(str name, object value) except -1:
    if value < 0 or value > NS_LIMIT:
        raise ValueError(f"{name} is from 0 to {NS_LIMIT}, got {value}")
    return value


cdef int push_clock(Pool self, object now_ns) except -1:
    pool_push_clock(&self.pool, read_ns("now_ns", now_ns))
    return 0


cdef object read_place(Pool self, uint32_t index, bint is_leak):
    """What is in a place, as ``scan`` or ``leaks`` gives it; None where it is free, and for ``leaks`` not lent."""
    cdef pool_place_t* place
    cdef Leak leak = Leak.__new__(Leak) if is_leak else None
    cdef object member
    cdef object who = None
    cdef str state = "idle"
    cdef int64_t age_ns
    pool_lock(&self.pool)
    place = &self.pool.places[index] if index < self.pool.capacity else NULL
    if place == NULL or place.state == PLACE_FREE or (is_leak and not place.generation & 1):
        pool_unlock(&self.pool)
        return None
    member = <object>place.member
    if place.generation & 1:
        state = "lent"
        if place.who != NULL:
            who = <object>place.who
    elif place.state == PLACE_LEAVING:
        state = "leaving"
    age_ns = self.pool.now_ns - place.since_ns
    if is_leak:
        leak.handle = <uint64_t>place.generation << 32 | index
        leak.age_ns = age_ns
        leak.is_lost = (
            place.lease != NULL and (<Lease>place.lease).number == leak.handle and lease_is_lost(place.lease)
        )
    pool_unlock(&self.pool)
    if not is_leak:
        return member, state, who, age_ns
    leak.member = member
    leak.who = who
    return leak


cdef int visit_all(Pool self, visit_t visit, void* arg) noexcept:
    cdef pool_place_t* place
    cdef uint32_t i
    cdef int stop = 0
    for i in range(self.pool.capacity):
        place = &self.pool.places[i]
        if place.state != PLACE_FREE:
            stop = visit(<PyObject*>place.member, arg)
        if not stop and place.who != NULL:
            stop = visit(<PyObject*>place.who, arg)
        if stop:
            return stop
    return 0


cdef int clear_all(Pool self) noexcept:
    """Takes everything out, then drops it. Every lease that is still about becomes stale."""
    cdef pool_t gone = self.pool
    cdef pool_place_t* place
    cdef uint32_t i
    pool_forget(&self.pool)
    for i in range(gone.capacity):
        place = &gone.places[i]
        drop_lease(<PyObject*>place.lease)
        drop_lease(<PyObject*>place.spare)
        Py_XDECREF(<PyObject*>place.who)
        Py_XDECREF(<PyObject*>place.member)
    pool_free(&gone)
    return 0


@cython.final
@cython.freelist(64)
cdef class Lease:
    def __init__(self):
        raise TypeError("a Lease comes from Pool.lend")

    @property
    def handle(self):
        return self.number

    @property
    def member(self):
        return member_of(self)

    def __enter__(self):
        return member_of(self)

    def __exit__(self, kind, error, traceback):
        give_back(self)


cdef object member_of(Lease lease):
    cdef pool_t* pool = lease.pool
    cdef pool_place_t* place
    cdef object member = None
    if pool == NULL:
        raise stale(lease.number)
    pool_lock(pool)
    place = locked_find(pool, lease.number)
    if place != NULL:
        member = <object><PyObject*>place.member
    pool_unlock(pool)
    if place == NULL:
        raise stale(lease.number)
    return member


@cython.final
cdef class Leak:
    def __repr__(self):
        return f"<Leak of {self.member!r} by {self.who!r} for {self.age_ns / 1e9:.3f} s>"


cdef class Pool:
    def __cinit__(self, count_max=64, *, count_min=0, idle_ns=0, age_ns=0, now_ns=0):
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if not 0 <= count_min <= count_max:
            raise ValueError(f"count_min is from 0 to count_max={count_max}, got {count_min}")
        pool_init(&self.pool, count_max)
        self.pool.count_min = count_min
        self.pool.idle_ns = read_ns("idle_ns", idle_ns)
        self.pool.age_ns = read_ns("age_ns", age_ns)
        self.pool.now_ns = read_ns("now_ns", now_ns)

    def __dealloc__(self):
        clear_all(self)

    @property
    def count_max(self):
        return self.pool.count_max

    @property
    def count_min(self):
        return self.pool.count_min

    @property
    def idle_ns(self):
        return self.pool.idle_ns

    @property
    def age_ns(self):
        return self.pool.age_ns

    @property
    def now_ns(self):
        return self.pool.now_ns

    @now_ns.setter
    def now_ns(self, now_ns):
        push_clock(self, now_ns)

    def __len__(self):
        return self.pool.count

    @property
    def idle_count(self):
        return self.pool.idle_count

    @property
    def lent_count(self):
        return pool_lent_count(&self.pool)

    @property
    def room(self):
        return pool_room(&self.pool)

    @property
    def shortage(self):
        return pool_shortage(&self.pool)

    def stats(self):
        return {
            "count": self.pool.count,
            "idle_count": self.pool.idle_count,
            "lent_count": pool_lent_count(&self.pool),
            "leaving_count": self.pool.leaving_count,
            "opening_count": self.pool.opening_count,
            "added_total": self.pool.added_total,
            "lent_total": self.pool.lent_total,
            "retired_total": self.pool.retired_total,
            "reclaimed_total": self.pool.reclaimed_total,
        }

    def reserve(self):
        return bool(pool_reserve(&self.pool))

    def unreserve(self):
        if not pool_unreserve(&self.pool):
            raise ValueError("nothing is reserved")

    def add(self, member, *, is_reserved=False):
        add(self, member, is_reserved, NULL)

    def lend_new(self, member, who=None):
        cdef uint64_t handle
        add(self, member, True, &handle)
        return write_lease(self, handle, <PyObject*>who if who is not None else NULL, NULL)

    def lend(self):
        return lend(self, NULL)

    def lend_to(self, who):
        return lend(self, <PyObject*>who if who is not None else NULL)

    def lend_many(self, Py_ssize_t count, who=None):
        cdef PyObject** items
        cdef PyObject* borrower = <PyObject*>who if who is not None else NULL
        cdef list leases
        cdef object lease
        cdef Py_ssize_t done = 0
        if count < 0:
            raise ValueError(f"count is 0 or more, got {count}")
        if count > <Py_ssize_t>self.pool.idle_count:
            count = self.pool.idle_count
        leases = PyList_New(count)  # nobody knows it yet: its items stay where they are
        items = PySequence_Fast_ITEMS(leases)
        while done < count:
            if borrower == NULL:
                done += lend_some(&self.pool, items + done, count - done)
            if done < count:
                lease = lend(self, borrower)
                if lease is None:
                    break
                Py_INCREF(lease)
                items[done] = <PyObject*>lease
                done += 1
        if done < count:
            PyList_SetSlice(leases, done, count, [])
        return leases

    def take_back(self, Lease lease not None):
        if lease.pool != &self.pool and lease.pool != NULL:
            raise StaleHandleError("the lease is of another pool")
        return give_back(lease) != 0

    def take_back_many(self, leases):
        cdef Py_ssize_t count
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t idle = 0
        if not isinstance(leases, (list, tuple)):
            raise TypeError(f"a list or a tuple of leases is wanted, not {type(leases).__name__}")
        while True:
            # Foreign code of a borrower that goes may have changed the list.
            count = PySequence_Fast_GET_SIZE(leases)
            if done < count:
                done += take_some(&self.pool, PySequence_Fast_ITEMS(leases) + done, count - done, &idle)
            if done >= count:
                return idle
            idle += self.take_back(leases[done])
            done += 1

    def retire(self, Lease lease not None):
        return take_out(self, lease, &self.pool.retired_total)

    def reclaim(self, handle):
        if isinstance(handle, Lease):
            return take_out(self, <Lease>handle, &self.pool.reclaimed_total)
        return end_loan(&self.pool, handle, &self.pool.reclaimed_total)

    def retire_all(self):
        pool_retire_all(&self.pool)

    def expire(self, now_ns=None):
        cdef list left = []
        cdef void* member
        if now_ns is not None:
            push_clock(self, now_ns)
        pool_expire(&self.pool)
        while pool_take_leaving(&self.pool, &member):
            left.append(pass_on(<PyObject*>member))
        return left

    def leaks(self, older_than_ns=0):
        cdef list found = []
        cdef Leak leak
        cdef uint32_t i = 0
        while i < self.pool.capacity:
            leak = read_place(self, i, True)
            if leak is not None and leak.age_ns >= older_than_ns:
                found.append(leak)
            i += 1
        found.sort(key=lambda leak: -leak.age_ns)
        return found

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        cdef list found = []
        cdef object seen
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        while cursor < <Py_ssize_t>self.pool.capacity:
            seen = read_place(self, <uint32_t>cursor, False)
            if seen is not None:
                if count == 0:
                    return cursor, found
                count -= 1
                found.append(seen)
            cursor += 1
        return 0, found

    def check(self):
        cdef int broken = pool_check(&self.pool)
        if broken:
            raise AssertionError(f"pool: invariant {broken} is broken")


cdef int add(Pool self, object member, bint is_reserved, uint64_t* handle) except -1:
    """ValueError, LimitError, MemoryError, and the pool is as it was."""
    cdef int answer
    Py_INCREF(member)
    answer = pool_add(&self.pool, <void*>member, is_reserved, handle)
    if answer == 1:
        return 0
    Py_DECREF(member)
    if answer < 0:
        raise MemoryError
    if is_reserved:
        raise ValueError("nothing is reserved")
    raise LimitError("count_max", self.pool.count_max, "the pool is full")


cdef object take_out(Pool self, Lease lease, uint64_t* total):
    """Ends the loan of a lease; its member, which is out of the pool. StaleHandleError."""
    if lease.pool == NULL:
        raise stale(lease.number)
    if lease.pool != &self.pool:
        raise StaleHandleError("the lease is of another pool")
    return end_loan(&self.pool, lease.number, total)


hold_objects(Pool, <traverse_t>visit_all, <clear_t>clear_all)
