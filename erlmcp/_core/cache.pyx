"""The cache: a sieve with tags, negative entries, times to live of single entries, and one load for many that ask.

Wanted: whoever misses learns in the same step whether to load or to wait; a load that ends wakes all who wait, and
its failure is theirs too; what was invalidated while it was loaded is not stored; an entry without tags and with the
default time to live pays nothing for those that have them.

An entry with tags or a time of its own has an extra: a node in a timing wheel, and a mark in the chain of each tag.
A load under way is a ticket in ``loads``. A ticket whose key changes (put, remove, a prefix, clear) leaves ``loads``
at once: those who wait for it still get what it brings, but it is not stored, and who asks next starts a new load.
The tags of a load are known at its end only, so while loads are under way an invalidated tag is noted with the number
of the change, and a load that began before it is as stale. Beyond MARKS_MAX such notes all tags count as changed.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact
from libc.stdint cimport INT64_MAX
from libc.string cimport memcmp

from erlmcp._core.chain cimport (
    chain_check, chain_front, chain_init, chain_node_init, chain_push_back, chain_remove, chain_t,
)
from erlmcp._core.memory cimport mem_alloc, mem_free
from erlmcp._core.sieve cimport (
    SIEVE_LEAVING, sieve_bury, sieve_drop_all, sieve_item_t, sieve_look, sieve_put, sieve_store, sieve_take_out,
    sieve_take_out_key,
)
from erlmcp._core.wheel cimport (
    wheel_add, wheel_advance, wheel_cancel, wheel_check, wheel_init, wheel_is_linked, wheel_node_init,
)

from erlmcp.errors import LimitError, StaleHandleError


cdef extern from "sieve.h" nogil:
    const char* sieve_key_data(PyObject* key, size_t* size) noexcept

cdef extern from "Python.h":
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept


cdef enum:
    TAGS_MAX = 64  # of one entry
    MARKS_MAX = 1024

cdef enum:
    VERDICT_HIT = 0
    VERDICT_NEGATIVE = 1
    VERDICT_LOAD = 2
    VERDICT_WAIT = 3


@cython.final
cdef class _Tag:
    """A tag and the chain of its entries' marks. Kept alive by each of them."""

    cdef str name
    cdef chain_t marks

    def __cinit__(self):
        chain_init(&self.marks)


@cython.final
cdef class Ticket:
    def __cinit__(self):
        self.key = ""
        self.waiters = {}

    @property
    def waiter_count(self):
        return len(self.waiters)


# Tags and times of single entries


cdef str read_tag(object tag):
    if not PyUnicode_Check(tag):
        raise TypeError(f"a tag is a str, not {type(tag).__name__}")
    return tag if PyUnicode_CheckExact(tag) else str.__str__(tag)


cdef list read_tags(object tags):
    """Exact str objects, each once; None where there are no tags."""
    cdef list names
    if not isinstance(tags, (list, tuple)):
        raise TypeError(f"tags are a list or a tuple, not {type(tags).__name__}")
    if PySequence_Fast_GET_SIZE(tags) == 0:
        return None
    if PySequence_Fast_GET_SIZE(tags) > TAGS_MAX:
        raise LimitError("tags_max", TAGS_MAX, f"{len(tags)} tags for one entry")
    names = []
    for tag in tags:
        name = read_tag(tag)
        if name not in names:
            names.append(name)
    return names


cdef int64_t read_ttl(object ttl_ns, int64_t default) except -1:
    cdef int64_t ttl = default if ttl_ns is None else ttl_ns
    if ttl < 0:
        raise ValueError(f"ttl_ns is 0 or more, got {ttl_ns}")
    return ttl


cdef inline size_t extra_size(uint32_t tag_count) noexcept nogil:
    return sizeof(cache_extra_t) + tag_count * sizeof(cache_mark_t)


cdef cache_extra_t* make_extra(Cache self, list names) except NULL:
    """The extra of an entry with these tags (or None) that is yet to come."""
    cdef uint32_t count = <uint32_t>len(names) if names is not None else 0
    cdef cache_extra_t* extra = <cache_extra_t*>mem_alloc(extra_size(count))
    cdef cache_mark_t* mark
    cdef _Tag tag
    if extra == NULL:
        raise MemoryError
    wheel_node_init(&extra.timer)
    extra.at = extra.tag_count = 0
    self.extra_bytes += sizeof(cache_extra_t)
    try:
        for name in names or ():
            tag = self.tags.get(name)
            if tag is None:
                tag = _Tag.__new__(_Tag)
                tag.name = name
                self.tags[name] = tag
            mark = &extra.marks[extra.tag_count]
            chain_node_init(&mark.node)
            mark.extra = extra
            mark.tag = <PyObject*>tag
            Py_INCREF(tag)
            chain_push_back(&tag.marks, &mark.node)
            extra.tag_count += 1
            self.extra_bytes += sizeof(cache_mark_t)
    except BaseException:
        free_extra(self, extra)
        raise
    return extra


cdef int free_extra(Cache self, cache_extra_t* extra) except -1:
    """Runs no foreign code: tags are exact str objects."""
    cdef uint32_t i
    cdef _Tag tag
    wheel_cancel(&self.wheel, &extra.timer)
    self.extra_bytes -= extra_size(extra.tag_count)
    for i in range(extra.tag_count):
        tag = <_Tag>extra.marks[i].tag
        chain_remove(&tag.marks, &extra.marks[i].node)
        if tag.marks.count == 0:
            self.tags.pop(tag.name, None)
        Py_DECREF(tag)
    mem_free(extra)
    return 0


cdef Py_ssize_t store(
    Cache self, object key, object value, bint is_negative, int64_t size_bytes, int64_t ttl, list tags,
    sieve_left_t* left
) except -2:
    """As ``sieve_store``, with tags (or None) and a time to live of its own."""
    cdef cache_extra_t* extra = NULL
    cdef sieve_item_t item
    cdef uint32_t at = 0
    cdef int64_t removal
    cdef Py_ssize_t room
    if tags is not None or (ttl and ttl != self.ttl_ns):
        extra = make_extra(self, tags)
    item.value = <PyObject*>value
    item.size_bytes = <uint64_t>size_bytes
    item.ttl_ns = ttl
    item.extra = extra
    item.is_negative = is_negative
    try:
        room = sieve_store(self, key, &item, left, &at)
    except BaseException:
        if extra != NULL:
            free_extra(self, extra)
        raise
    if extra == NULL:
        return room
    if at == 0:
        free_extra(self, extra)
        return room
    extra.at = at
    removal = self.sieve.entries[at].deadline
    if ttl != self.ttl_ns and removal < INT64_MAX - self.stale_ns:
        wheel_add(&self.wheel, &extra.timer, <uint64_t>(removal + self.stale_ns))
    return room


cdef Py_ssize_t put(
    Cache self, object key, object value, bint is_negative, int64_t size_bytes, int64_t ttl, object tags
) except -2:
    """A put from outside: a load of this key that is under way is stale."""
    cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
    cdef list names = read_tags(tags)
    cdef Py_ssize_t room
    if self.loads:
        retire_key(self, key)
    room = store(self, key, value, is_negative, size_bytes, ttl, names, &left)
    sieve_bury(self, &left)
    return room


# Loads


cdef bytes bytes_of(object key):
    """The UTF-8 bytes of a key. TypeError, UnicodeEncodeError."""
    if PyUnicode_Check(key):
        return str.encode(key)
    if not isinstance(key, bytes):
        raise TypeError(f"a key is a str or bytes, not {type(key).__name__}")
    return key if type(key) is bytes else bytes.__getitem__(key, slice(None))


cdef int retire(Cache self, bytes text) except -1:
    """What a load of this key brings is not stored any more."""
    cdef Ticket ticket = self.loads.pop(text, None)
    if ticket is not None:
        ticket.is_stale = True
        forget_marks(self)
    return 0


cdef int retire_key(Cache self, object key) except -1:
    cdef bytes text
    try:
        text = bytes_of(key)
    except UnicodeEncodeError:
        return 0
    return retire(self, text)


cdef int retire_prefix(Cache self, bytes prefix) except -1:
    for text in list(self.loads):
        if (<bytes>text).startswith(prefix):
            retire(self, text)
    return 0


cdef int forget_marks(Cache self) except -1:
    if self.marks and not self.loads:
        self.marks.clear()
    return 0


cdef bint is_marked(Cache self, Ticket ticket, list tags) except -1:
    """Whether one of the tags was invalidated since the load began."""
    if tags is None:
        return False
    if self.marks_floor > ticket.began:
        return True
    for tag in tags:
        if <uint64_t>self.marks.get(tag, 0) > ticket.began:
            return True
    return False


cdef int expect_open(Ticket ticket) except -1:
    if ticket.is_done:
        raise StaleHandleError(f"the load of {ticket.key!r} has ended already")
    return 0


cdef list end(
    Cache self, Ticket ticket, object value, bint is_negative, int64_t size_bytes, int64_t ttl, list tags
):
    """Ends a load; it is stored unless it is stale or ``ttl`` is negative. Where storing fails it is still open."""
    cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
    cdef bytes text = bytes_of(ticket.key)
    cdef bint is_late = is_marked(self, ticket, tags)
    cdef dict waiters
    if self.loads.get(text) is ticket:
        if not is_late and ttl >= 0:
            ticket.is_stored = store(self, ticket.key, value, is_negative, size_bytes, ttl, tags, &left) >= 0
        del self.loads[text]
    else:
        ticket.is_stale = True
    ticket.is_stale = ticket.is_stale or is_late
    ticket.is_done = True
    forget_marks(self)
    waiters = ticket.waiters
    ticket.waiters = {}
    sieve_bury(self, &left)
    return list(waiters.values())


cdef class Cache(Sieve):
    HIT = VERDICT_HIT
    NEGATIVE = VERDICT_NEGATIVE
    LOAD = VERDICT_LOAD
    WAIT = VERDICT_WAIT

    def __cinit__(
        self, Py_ssize_t count_max=10_000, *, int64_t bytes_max=0, int64_t ttl_ns=5_000_000_000,
        int64_t negative_ttl_ns=0, int64_t stale_ns=0, Py_ssize_t load_count_max=65_536, int64_t now_ns=0,
    ):
        if negative_ttl_ns < 0:
            raise ValueError(f"negative_ttl_ns is 0 or more, got {negative_ttl_ns}")
        if load_count_max < 1:
            raise ValueError(f"load_count_max is 1 or more, got {load_count_max}")
        self.negative_ttl_ns = negative_ttl_ns
        self.load_count_max = load_count_max
        wheel_init(&self.wheel, <uint64_t>now_ns)
        self.tags = {}
        self.loads = {}
        self.marks = {}

    def __dealloc__(self):
        sieve_drop_all(self)

    cdef int let_go(self, sieve_entry_t* entry) except -1:
        cdef cache_extra_t* extra = <cache_extra_t*>entry.extra
        entry.extra = NULL
        return free_extra(self, extra)

    cdef int expire_others(self, sieve_left_t* left) except -1:
        cdef wheel_node_t* node
        cdef wheel_node_t* after
        if self.wheel.count == 0:
            return 0
        node = wheel_advance(&self.wheel, <uint64_t>self.now)
        while node != NULL:
            after = node.next
            sieve_take_out(self, (<cache_extra_t*>node).at, left)
            self.expired_count += 1
            node = after
        return 0

    @property
    def load_count(self):
        return len(self.loads)

    @property
    def memory_bytes(self):
        return Sieve.memory_bytes.__get__(self) + self.extra_bytes

    def __setitem__(self, key, value):
        if self.loads:
            retire_key(self, key)
        sieve_put(self, key, value, 0)

    def put(self, key, value, int64_t size_bytes=0, ttl_ns=None, tags=()):
        if size_bytes < 0:
            raise ValueError(f"size_bytes is 0 or more, got {size_bytes}")
        return put(self, key, value, False, size_bytes, read_ttl(ttl_ns, self.ttl_ns), tags)

    def put_negative(self, key, error=None, ttl_ns=None, tags=()):
        cdef int64_t ttl = read_ttl(ttl_ns, self.negative_ttl_ns)
        if ttl:
            return put(self, key, error, True, 0, ttl, tags)
        read_tags(tags)
        bytes_of(key)
        self.remove(key)
        return 0

    def remove(self, key):
        cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
        if self.loads:
            retire_key(self, key)
        if not sieve_take_out_key(self, key, &left):
            return False
        sieve_bury(self, &left)
        return True

    def invalidate_tag(self, tag):
        cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
        cdef str name = read_tag(tag)
        cdef _Tag holder
        cdef size_t before = self.sieve.count
        self.changes += 1
        if self.loads:
            self.marks[name] = self.changes
            if len(self.marks) > MARKS_MAX:
                self.marks.clear()
                self.marks_floor = self.changes
        holder = self.tags.get(name)
        while holder is not None and holder.marks.count:
            sieve_take_out(self, (<cache_mark_t*>chain_front(&holder.marks)).extra.at, &left)
        before -= self.sieve.count
        sieve_bury(self, &left)
        return before

    def invalidate_prefix(self, prefix):
        cdef sieve_left_t left = sieve_left_t(entries=0, value=NULL)
        cdef bytes text
        cdef sieve_entry_t* entry
        cdef const char* data
        cdef size_t size, before
        cdef uint32_t i
        try:
            text = bytes_of(prefix)
        except UnicodeEncodeError:
            return 0
        retire_prefix(self, text)
        before = self.sieve.count
        for i in range(1, self.sieve.capacity):
            entry = &self.sieve.entries[i]
            if entry.state > SIEVE_LEAVING:
                data = sieve_key_data(entry.key, &size)
                if size >= <size_t>PyBytes_GET_SIZE(text):
                    if memcmp(data, PyBytes_AS_STRING(text), <size_t>PyBytes_GET_SIZE(text)) == 0:
                        sieve_take_out(self, i, &left)
        before -= self.sieve.count
        sieve_bury(self, &left)
        return before

    def clear(self):
        retire_prefix(self, b"")
        sieve_drop_all(self)

    def claim(self, key, waiter=None):
        cdef bytes text
        cdef sieve_entry_t* entry = sieve_look(self, key, 0)
        cdef Ticket ticket
        cdef object value
        cdef int verdict
        if entry != NULL:
            self.hit_count += 1
            entry.is_used = 1
            verdict = VERDICT_NEGATIVE if entry.is_negative else VERDICT_HIT
            value = <object>entry.value
            return verdict, value
        text = bytes_of(key)
        ticket = self.loads.get(text)
        verdict = VERDICT_WAIT
        if ticket is None:
            if len(self.loads) >= self.load_count_max:
                raise LimitError("load_count_max", self.load_count_max, "too many loads under way")
            ticket = Ticket.__new__(Ticket)
            ticket.key = "".join((key,)) if PyUnicode_Check(key) else text
            ticket.began = self.changes
            verdict = VERDICT_LOAD
            if self.loads.setdefault(text, ticket) is not ticket:  # the collector ran code that was quicker
                ticket = self.loads[text]
                verdict = VERDICT_WAIT
        self.miss_count += 1
        if waiter is not None:
            ticket.waiters[<size_t><PyObject*>waiter] = waiter
        return verdict, ticket

    def join(self, Ticket ticket not None, waiter):
        expect_open(ticket)
        if waiter is not None:
            ticket.waiters[<size_t><PyObject*>waiter] = waiter
        return len(ticket.waiters)

    def leave(self, Ticket ticket not None, waiter):
        expect_open(ticket)
        ticket.waiters.pop(<size_t><PyObject*>waiter, None)
        return len(ticket.waiters)

    def finish(self, Ticket ticket not None, value, int64_t size_bytes=0, ttl_ns=None, tags=()):
        expect_open(ticket)
        if size_bytes < 0:
            raise ValueError(f"size_bytes is 0 or more, got {size_bytes}")
        return end(self, ticket, value, False, size_bytes, read_ttl(ttl_ns, self.ttl_ns), read_tags(tags))

    def fail(self, Ticket ticket not None, error=None, ttl_ns=None, tags=()):
        cdef int64_t ttl = read_ttl(ttl_ns, self.negative_ttl_ns)
        cdef list names = read_tags(tags)
        cdef sieve_entry_t* entry
        expect_open(ticket)
        entry = sieve_look(self, ticket.key, self.stale_ns)
        if error is None or ttl == 0 or (entry != NULL and not entry.is_negative):
            ttl = -1
        return end(self, ticket, error, True, 0, ttl, names)

    def check(self):
        cdef sieve_entry_t* entry
        cdef cache_extra_t* extra
        cdef size_t timed = 0
        cdef size_t marked = 0
        cdef uint32_t i
        cdef _Tag tag
        Sieve.check(self)
        _expect(wheel_check(&self.wheel), "the wheel is broken")
        for i in range(1, self.sieve.capacity):
            entry = &self.sieve.entries[i]
            if entry.state > SIEVE_LEAVING and entry.extra != NULL:
                extra = <cache_extra_t*>entry.extra
                _expect(extra.at != i, "an extra is another entry's")
                timed += wheel_is_linked(&extra.timer)
                marked += extra.tag_count
        for tag in self.tags.values():
            _expect(tag.marks.count == 0 or chain_check(&tag.marks), "the entries of a tag are broken")
            marked -= tag.marks.count
        _expect(marked != 0, "tags have entries that are not held")
        _expect(timed != self.wheel.count, "the wheel has entries that are not held")
        for ticket in self.loads.values():
            _expect((<Ticket>ticket).is_done or (<Ticket>ticket).is_stale, "an ended load is kept")
        _expect(self.marks and not self.loads, "tags are noted for no load")


cdef int _expect(bint is_broken, str message) except -1:
    if is_broken:
        raise AssertionError(message)
    return 0
