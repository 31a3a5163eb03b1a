"""Compiled loops without the GIL: the structures as an embedder's ``cimport`` sees them.

Each loop does its operation ``count`` times, ``rounds`` times over, and gives something that depends on every result,
so that no compiler leaves any of them out. The loops stay without the GIL because that is how an embedder calls them.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from erlmcp._core.batch cimport Batch, batch_put, batch_take_bytes
from erlmcp._core.deque cimport (
    deque_free, deque_init, deque_pop, deque_push, deque_steal as steal_item, deque_t,
)
from erlmcp._core.meter cimport (
    histogram_free, histogram_init, histogram_record as record, histogram_t,
)
from erlmcp._core.gate cimport (
    BreakerWindow, InflightLimit, TokenBucket, breaker_allow, breaker_record, bucket_take as take_tokens,
    inflight_enter, inflight_leave,
)
from erlmcp._core.json cimport json_limits_init, json_limits_t
from erlmcp._core.jsonrpc cimport JSONRPC_REQUEST, envelope_t, jsonrpc_scan
from erlmcp._core.lanes cimport lanes_free, lanes_init, lanes_pop, lanes_push, lanes_t
from erlmcp._core.memory cimport mem_alloc, mem_free
from erlmcp._core.names cimport text_t
from erlmcp._core.pool cimport Pool, pool_add, pool_free, pool_init, pool_lend, pool_return, pool_t
from erlmcp._core.registry cimport (
    Registry, registry_find as find_name, registry_find_many as find_names,
)
from erlmcp._core.ring cimport (
    ring_free, ring_init, ring_mpmc_pop, ring_mpmc_push, ring_pop, ring_pop_many, ring_push, ring_push_many,
    ring_spsc_pop, ring_spsc_push, ring_t,
)
from erlmcp._core.sessions cimport (
    SessionStore, session_find as find_session, session_find_many as find_sessions,
)
from erlmcp._core.sieve cimport Sieve, sieve_ask
from erlmcp._core.slab cimport slab_free, slab_get, slab_init, slab_put, slab_t, slab_take
from erlmcp._core.wheel cimport wheel_add, wheel_cancel, wheel_init, wheel_node_init, wheel_node_t, wheel_t


cdef extern from "atomic.h" nogil:
    size_t atomic_get_relaxed(const size_t* word) noexcept

cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept


cdef enum:
    STEP = 64
    SECOND_TICKS = 1000


@cython.final
cdef class Keys:
    cdef char* data
    cdef const char** texts
    cdef size_t* sizes
    cdef Py_ssize_t count

    def __cinit__(self, names):
        cdef bytes text
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t size
        cdef Py_ssize_t i
        texts = [name.encode() for name in names]
        self.count = len(texts)
        self.data = <char*>mem_alloc(max(sum(map(len, texts)), 1))
        self.texts = <const char**>mem_alloc(max(self.count, 1) * sizeof(char*))
        self.sizes = <size_t*>mem_alloc(max(self.count, 1) * sizeof(size_t))
        if self.data == NULL or self.texts == NULL or self.sizes == NULL:
            raise MemoryError
        for i in range(self.count):
            text = texts[i]
            size = PyBytes_GET_SIZE(text)
            memcpy(self.data + at, PyBytes_AS_STRING(text), size)
            self.texts[i] = self.data + at
            self.sizes[i] = <size_t>size
            at += size

    def __dealloc__(self):
        mem_free(self.sizes)
        mem_free(self.texts)
        mem_free(self.data)

    def __len__(self):
        return self.count


def registry_find(Registry registry not None, Keys keys not None, Py_ssize_t rounds):
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i
    with nogil:
        for _ in range(rounds):
            for i in range(keys.count):
                found += find_name(registry, keys.texts[i], <Py_ssize_t>keys.sizes[i]) != NULL
    return found


def registry_find_many(Registry registry not None, Keys keys not None, Py_ssize_t rounds):
    cdef PyObject* entries[STEP]
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i, at, part
    with nogil:
        for _ in range(rounds):
            at = 0
            while at < keys.count:
                part = min(<Py_ssize_t>STEP, keys.count - at)
                find_names(registry, keys.texts + at, keys.sizes + at, <size_t>part, entries)
                for i in range(part):
                    found += entries[i] != NULL
                at += part
    return found


def session_find(SessionStore store not None, Keys keys not None, Py_ssize_t rounds):
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i
    with nogil:
        for _ in range(rounds):
            for i in range(keys.count):
                found += find_session(store, keys.texts[i], <Py_ssize_t>keys.sizes[i]) != NULL
    return found


def session_find_many(SessionStore store not None, Keys keys not None, Py_ssize_t rounds):
    cdef PyObject* records[STEP]
    cdef text_t ids[STEP]
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i, at, part
    with nogil:
        for _ in range(rounds):
            at = 0
            while at < keys.count:
                part = min(<Py_ssize_t>STEP, keys.count - at)
                for i in range(part):
                    ids[i].data = keys.texts[at + i]
                    ids[i].size = keys.sizes[at + i]
                find_sessions(store, ids, part, records)
                for i in range(part):
                    found += records[i] != NULL
                at += part
    return found


# ---------------------------------------------------------------------------------------------------- rings
def ring_local(Py_ssize_t count, Py_ssize_t rounds):
    cdef ring_t ring
    cdef void* item = NULL
    cdef size_t total = 0
    cdef Py_ssize_t i
    ring_init(&ring, STEP, False)
    with nogil:
        for _ in range(rounds):
            for i in range(count):
                ring_push(&ring, <void*>i)
                ring_pop(&ring, &item)
                total += <size_t>item
    ring_free(&ring)
    return total


def ring_local_many(Py_ssize_t count, Py_ssize_t rounds):
    cdef ring_t ring
    cdef void* items[STEP]
    cdef size_t total = 0
    cdef Py_ssize_t i, _i
    ring_init(&ring, 2 * STEP, False)
    for i in range(STEP):
        items[i] = <void*>i
    with nogil:
        for _ in range(rounds):
            for _i in range(count // STEP):
                total += ring_push_many(&ring, items, STEP)
                ring_pop_many(&ring, items, STEP)
    ring_free(&ring)
    return total


def ring_spsc(Py_ssize_t count, Py_ssize_t rounds):
    cdef ring_t ring
    cdef void* item = NULL
    cdef size_t total = 0
    cdef Py_ssize_t i
    ring_init(&ring, STEP, False)
    with nogil:
        for _ in range(rounds):
            for i in range(count):
                ring_spsc_push(&ring, <void*>i)
                ring_spsc_pop(&ring, &item)
                total += <size_t>item
    ring_free(&ring)
    return total


def ring_mpmc(Py_ssize_t count, Py_ssize_t rounds):
    cdef ring_t ring
    cdef void* item = NULL
    cdef size_t total = 0
    cdef Py_ssize_t i
    ring_init(&ring, STEP, True)
    with nogil:
        for _ in range(rounds):
            for i in range(count):
                ring_mpmc_push(&ring, <void*>i)
                ring_mpmc_pop(&ring, &item)
                total += <size_t>item
    ring_free(&ring)
    return total


# ---------------------------------------------------------------------------------------------------- order
def lanes_cycle(Py_ssize_t count, Py_ssize_t rounds):
    cdef int levels[16]
    cdef lanes_t lanes
    cdef void* item = NULL
    cdef size_t total = 0
    cdef Py_ssize_t i
    for i in range(16):
        levels[i] = 0 if i == 0 else 1 if i < 4 else 2
    try:
        lanes_init(&lanes, <size_t>count, 64)
        with nogil:
            for _ in range(rounds):
                for i in range(count):
                    lanes_push(&lanes, <void*>i, levels[i & 15])
                while lanes_pop(&lanes, &item):
                    total += <size_t>item
    finally:
        lanes_free(&lanes)
    return total


def deque_cycle(Py_ssize_t count, Py_ssize_t rounds):
    cdef deque_t deque
    cdef void* item = NULL
    cdef size_t total = 0
    cdef Py_ssize_t i
    try:
        deque_init(&deque, STEP)
        with nogil:
            for _ in range(rounds):
                for i in range(count):
                    deque_push(&deque, <void*>i)
                    deque_pop(&deque, &item)
                    total += <size_t>item
    finally:
        deque_free(&deque)
    return total


def deque_steal(Py_ssize_t count, Py_ssize_t rounds):
    cdef deque_t deque
    cdef void* item = NULL
    cdef size_t total = 0
    cdef Py_ssize_t i
    try:
        deque_init(&deque, STEP)
        with nogil:
            for _ in range(rounds):
                for i in range(count):
                    deque_push(&deque, <void*>i)
                    steal_item(&deque, &item)
                    total += <size_t>item
    finally:
        deque_free(&deque)
    return total


# ---------------------------------------------------------------------------------------------------- ground
def slab_cycle(Py_ssize_t count, Py_ssize_t rounds):
    cdef slab_t slab
    cdef uint64_t handle
    cdef size_t total = 0
    cdef Py_ssize_t i
    slab_init(&slab, 1024)
    try:
        with nogil:
            for _ in range(rounds):
                for i in range(count):
                    handle = slab_put(&slab, <void*>(i + 1))
                    total += <size_t>slab_get(&slab, handle)
                    slab_take(&slab, handle)
    finally:
        slab_free(&slab)
    return total


def wheel_cycle(Py_ssize_t count, Py_ssize_t rounds):
    cdef wheel_t* wheel = <wheel_t*>mem_alloc(sizeof(wheel_t))
    cdef wheel_node_t* nodes = <wheel_node_t*>mem_alloc(max(count, 1) * sizeof(wheel_node_t))
    cdef size_t cancelled = 0
    cdef Py_ssize_t i
    try:
        if wheel == NULL or nodes == NULL:
            raise MemoryError
        wheel_init(wheel, 0)
        for i in range(count):
            wheel_node_init(&nodes[i])
        with nogil:
            for _ in range(rounds):
                for i in range(count):
                    wheel_add(wheel, &nodes[i], <uint64_t>(i * 7919 % (60 * SECOND_TICKS)))
                for i in range(count):
                    cancelled += wheel_cancel(wheel, &nodes[i])
    finally:
        mem_free(nodes)
        mem_free(wheel)
    return cancelled


def batch_cycle(bytes frame not None, Py_ssize_t count, Py_ssize_t rounds):
    cdef Batch batch = Batch(count, 1 << 30)
    cdef size_t total = 0
    cdef bytes taken
    cdef Py_ssize_t _i
    for _ in range(rounds):
        for _i in range(count):
            batch_put(batch, frame, PyBytes_GET_SIZE(frame))
        taken = batch_take_bytes(batch)
        total += <size_t>PyBytes_GET_SIZE(taken)
    return total


# ---------------------------------------------------------------------------------------------------- keepers
def pool_cycle(Py_ssize_t members, Py_ssize_t count, Py_ssize_t rounds):
    cdef pool_t pool
    cdef void* member = NULL
    cdef size_t total = 0
    cdef uint64_t handle
    cdef Py_ssize_t i
    pool_init(&pool, <uint32_t>members)
    try:
        for i in range(members):
            if pool_add(&pool, <void*>(i + 1), False, NULL) != 1:
                raise MemoryError
        with nogil:
            for _ in range(rounds):
                for _i in range(count):
                    handle = pool_lend(&pool, &member)
                    total += <size_t>member
                    pool_return(&pool, handle)
    finally:
        pool_free(&pool)
    return total


def pool_share(Pool pool not None, bytearray loans not None, Py_ssize_t count):
    cdef uint64_t* counts = <uint64_t*>PyByteArray_AS_STRING(loans)
    cdef Py_ssize_t done = 0
    cdef void* member = NULL
    cdef uint64_t handle
    if <size_t>PyByteArray_GET_SIZE(loans) < pool.pool.count_max * sizeof(uint64_t):
        raise ValueError("loans has fewer than 8 bytes for each member")
    with nogil:
        while done < count:
            handle = pool_lend(&pool.pool, &member)
            if handle == 0:
                sched_yield()
                continue
            counts[<uint32_t>handle] += 1
            pool_return(&pool.pool, handle)
            done += 1


def inflight_share(InflightLimit limit not None, Py_ssize_t count):
    cdef Py_ssize_t entered = 0
    cdef size_t most = 0
    with nogil:
        for _i in range(count):
            if inflight_enter(&limit.inflight):
                most = max(most, atomic_get_relaxed(&limit.inflight.count))
                inflight_leave(&limit.inflight)
                entered += 1
    return entered, most


def histogram_record(Py_ssize_t count, Py_ssize_t rounds):
    cdef histogram_t histogram
    cdef uint64_t total
    cdef Py_ssize_t i
    histogram_init(&histogram, 1 << 44, 7)
    with nogil:
        for _ in range(rounds):
            for i in range(count):
                record(&histogram, <int64_t>(1000 + 977 * i % 50_000))
    total = histogram.sum
    histogram_free(&histogram)
    return total


def cache_find(Sieve cache not None, Keys keys not None, Py_ssize_t rounds):
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i
    with nogil:
        for _ in range(rounds):
            for i in range(keys.count):
                found += sieve_ask(cache, keys.texts[i], <Py_ssize_t>keys.sizes[i]) != NULL
    return found


def bucket_take(Py_ssize_t count, Py_ssize_t rounds):
    cdef TokenBucket bucket = TokenBucket(10 ** 9, 10 ** 6)
    cdef int64_t now = 0
    cdef Py_ssize_t allowed = 0
    cdef Py_ssize_t _i
    with nogil:
        for _ in range(rounds):
            for _i in range(count):
                now += 10
                allowed += take_tokens(&bucket.rule, &bucket.bucket, bucket.rule.cost, now)
    return allowed


def breaker_cycle(Py_ssize_t count, Py_ssize_t rounds):
    cdef BreakerWindow breaker = BreakerWindow()
    cdef int64_t now = 0
    cdef Py_ssize_t allowed = 0
    cdef Py_ssize_t _i
    cdef int ticket
    with nogil:
        for _ in range(rounds):
            for _i in range(count):
                now += 10
                ticket = breaker_allow(breaker, now)
                allowed += ticket != 0
                breaker_record(breaker, True, 10, ticket, now)
    return allowed


# ---------------------------------------------------------------------------------------------------- tongues
def envelope_scan(bytes message not None, Py_ssize_t rounds):
    cdef const char* data = PyBytes_AS_STRING(message)
    cdef size_t size = <size_t>PyBytes_GET_SIZE(message)
    cdef envelope_t envelope
    cdef json_limits_t limits
    cdef Py_ssize_t requests = 0
    json_limits_init(&limits)
    with nogil:
        for _ in range(rounds):
            requests += jsonrpc_scan(data, size, &limits, NULL, 0, &envelope) == JSONRPC_REQUEST
    return requests
