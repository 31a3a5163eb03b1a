"""Names and what they stand for.

Wanted: a lookup by str, bytes or borrowed bytes in a few nanoseconds; a cursor that needs no memory and misses
nothing while names come and go; an owner's names gone at one word; arrays of hashes looked up without the GIL; entries
that may refer back to the registry without leaking.

A lookup reads one slot of the table, which has the name's bytes and the entry. The rest is in a record of the name's
own that never moves; the slab gives it a number that is its own for as long as it lives, which is what a cursor counts
through and what arrays are asked with. The names of an owner are a chain through their records. Dropping an object may
run code that comes back here, so an object is dropped only when the structure is whole again.

A change waits at the door of the table (names.pxd) before it looks anything up: waiting lets go of the GIL.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_Check
from cpython.dict cimport PyDict_Clear
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp

from erlmcp._core.bonds cimport bonds_bind, bonds_clear, bonds_forget, bonds_join, bonds_tell, bonds_text
from erlmcp._core.chain cimport (
    chain_check, chain_front, chain_init, chain_node_init, chain_pop_front, chain_push_back, chain_remove, chain_t,
)
from erlmcp._core.memory cimport clear_t, hold_objects, mem_alloc, mem_free, traverse_t, visit_t
from erlmcp._core.names cimport (
    names_bytes, names_check, names_find, names_find_alone, names_find_array, names_find_cold, names_free,
    names_get_many, names_hashes, names_init, names_insert, names_is_settled, names_read, names_remove, names_seed,
    names_settle, names_slot_t, names_t, text_of_data, text_of_str, text_prefetch, text_prefetch_write, text_t,
)
from erlmcp._core.slab cimport (
    slab_check, slab_free, slab_get, slab_init, slab_put, slab_slot_t, slab_t, slab_take,
)

from erlmcp.errors import ConfigurationError, LimitError

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object o) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object o) noexcept

cdef extern from "array.h":
    int array_open(Py_buffer* view, object array, bint is_signed, bint is_written) except -1

cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF
    ROUND = 32  # names that a batch has on the way at a time

cdef slab_slot_t NO_PLACE

cdef object ABSENT = object()


@cython.final
cdef class _Owner:
    """An owner and the chain of its names. Kept alive by each of their records."""

    cdef object owner
    cdef chain_t names


cdef inline int seek(Registry self, object name, names_slot_t** slot) except -1:
    """The slot of a name through ``slot``, NULL where it is not there. TypeError, MemoryError."""
    cdef text_t text
    slot[0] = NULL
    if names_read(name, &text, self.table.seed):
        slot[0] = names_find_alone(&self.table, &text)
    return 0


cdef int add(Registry self, const text_t* text, str name, object entry, _Owner holder) except -1:
    """A new name. LimitError or MemoryError, and the registry is as it was."""
    cdef name_t* record
    if self.table.count >= self.table.count_max:
        raise LimitError("count_max", self.table.count_max, "the registry is full")
    record = <name_t*>mem_alloc(sizeof(name_t))
    if record == NULL:
        raise MemoryError
    chain_node_init(&record.node)
    record.hash = text.hash
    record.handle = 0
    record.data = text.data
    record.size = text.size
    record.holder = NULL
    record.name = <PyObject*>name
    record.entry = <PyObject*>entry
    try:
        record.handle = slab_put(&self.slab, record)
        names_insert(&self.table, text, record.entry, record, <uint32_t>record.handle)
    except BaseException:
        slab_take(&self.slab, record.handle)
        mem_free(record)
        raise
    Py_INCREF(name)
    Py_INCREF(entry)
    if holder is not None:
        Py_INCREF(holder)
        record.holder = <PyObject*>holder
        chain_push_back(&holder.names, &record.node)
    return 0


cdef object take_out(Registry self, name_t* record):
    """Removes a record and gives its entry; the last step, forgetting its owner, may run foreign code."""
    cdef object entry = <object>record.entry
    cdef str name = <str>record.name
    cdef _Owner holder = None
    names_remove(&self.table, names_find_cold(&self.table, record.hash, record))
    slab_take(&self.slab, record.handle)
    if record.holder != NULL:
        holder = <_Owner>record.holder
        chain_remove(&holder.names, &record.node)
        Py_DECREF(holder)
    mem_free(record)
    Py_DECREF(name)
    Py_DECREF(entry)
    if self.bonds is not None:
        bonds_forget(self.bonds, name)
        bonds_tell(self.bonds, "removed", name, entry)
    forget(self, holder)
    return entry


cdef int forget(Registry self, _Owner holder) except -1:
    """Lets go of an owner that has no names any more. Comparing owners may run foreign code, so this comes last."""
    cdef _Owner gone, other
    if holder is None or holder.names.count or self.owners.get(holder.owner) is not holder:
        return 0
    gone = self.owners.pop(holder.owner, None)
    if gone is not None and gone.names.count:  # comparing put a name for this owner
        other = self.owners.setdefault(gone.owner, gone)
        if other is not gone:  # and once more
            hand_over(gone, other)
    return 0


cdef int hand_over(_Owner gone, _Owner other) noexcept:
    """Gives the names of one record of an owner to another record of the same owner."""
    cdef name_t* record
    while gone.names.count:
        record = <name_t*>chain_pop_front(&gone.names)
        Py_INCREF(other)
        record.holder = <PyObject*>other
        chain_push_back(&other.names, &record.node)
        Py_DECREF(gone)
    return 0


cdef _Owner holder_of(Registry self, object owner):
    """The chain of an owner's names, made where it has none yet; None for nobody. Comparing owners may run foreign
    code, which may let readers in: at the end the door is settled, and the chain is the one that is known."""
    cdef _Owner holder
    if owner is None:
        names_settle(&self.door)
        return None
    while True:
        holder = self.owners.get(owner)
        if holder is None:
            holder = _Owner.__new__(_Owner)
            holder.owner = owner
            chain_init(&holder.names)
            holder = self.owners.setdefault(owner, holder)
        if names_is_settled(&self.door):
            return holder
        names_settle(&self.door)


cdef bint take(Registry self, object name, PyObject** taken) except -1:
    """Whether the name was there, which is gone then; its entry is the caller's through ``taken``, unless that is
    NULL."""
    cdef names_slot_t* slot
    cdef object entry
    names_settle(&self.door)
    seek(self, name, &slot)
    if slot == NULL:
        return False
    entry = take_out(self, <name_t*>slot.cold)
    if taken != NULL:
        Py_INCREF(entry)
        taken[0] = <PyObject*>entry
    return True


cdef int put_text(Registry self, const text_t* text, object name, object entry, object owner, _Owner holder) except -1:
    cdef names_slot_t* slot = names_find(&self.table, text)
    cdef name_t* record
    cdef text_t own
    cdef object _old_entry  # kept until the end
    cdef object other
    if slot == NULL:
        if not PyUnicode_CheckExact(name):
            name = PyUnicode_DecodeUTF8(text.data, <Py_ssize_t>text.size, NULL)
            text_of_str(&own, name, self.table.seed)
            text = &own
        add(self, text, name, entry, holder)
        if self.bonds is not None:
            bonds_tell(self.bonds, "added", name, entry)
        return 0
    record = <name_t*>slot.cold
    if record.holder != (<PyObject*>holder if holder is not None else NULL):
        other = (<_Owner>record.holder).owner if record.holder != NULL else None
        raise ConfigurationError(
            f"the name {<object>record.name!r} belongs to {other!r}, not to {owner!r}; remove it first"
        )
    _old_entry = <object>record.entry
    Py_DECREF(_old_entry)
    Py_INCREF(entry)
    record.entry = <PyObject*>entry
    slot.hot = record.entry
    if self.bonds is not None:
        bonds_tell(self.bonds, "changed", <str>record.name, entry)
    return 0


cdef int put(Registry self, object name, object entry, object owner) except -1:
    cdef _Owner holder = holder_of(self, owner)
    cdef text_t text
    try:
        if not names_read(name, &text, self.table.seed):
            name.encode()
            raise AssertionError("a str without a UTF-8 form was encoded")
        return put_text(self, &text, name, entry, owner, holder)
    except BaseException:
        forget(self, holder)
        raise


cdef int drop_records(slab_t* slab) except -1:
    """Lets go of all records. Their registry must know nothing of them any more, nor may it hold their owners."""
    cdef name_t* record
    cdef uint32_t i
    for i in range(slab.capacity):
        record = <name_t*>slab.slots[i].item
        if record != NULL and record.holder != NULL:
            chain_init(&(<_Owner>record.holder).names)  # somebody may still be walking along it
    for i in range(slab.capacity):
        record = <name_t*>slab.slots[i].item
        if record != NULL:
            Py_DECREF(<object>record.name)
            Py_DECREF(<object>record.entry)
            if record.holder != NULL:
                Py_DECREF(<object>record.holder)
            mem_free(record)
    slab_free(slab)
    return 0


cdef int empty(Registry self) noexcept:
    """Takes everything out, then drops it."""
    cdef slab_t slab = self.slab
    cdef names_t table = self.table
    slab_init(&self.slab, slab.capacity_max)
    names_init(&self.table, table.count_max, table.seed)
    names_free(&table)
    PyDict_Clear(self.owners)
    drop_records(&slab)
    return 0


cdef int visit_all(Registry self, visit_t visit, void* arg) noexcept:
    cdef int stop = 0
    cdef name_t* record
    cdef uint32_t i
    if self.owners is not None:
        stop = visit(<PyObject*>self.owners, arg)
    if not stop and self.bonds is not None:
        stop = visit(<PyObject*>self.bonds, arg)
    for i in range(self.slab.capacity):
        record = <name_t*>self.slab.slots[i].item
        if stop:
            return stop
        if record != NULL:
            stop = visit(record.entry, arg)
            if not stop and record.holder != NULL:
                stop = visit(record.holder, arg)
    return stop


cdef int clear_all(Registry self) noexcept:
    cdef Bonds _bonds = self.bonds  # kept until the end
    self.bonds = None
    return empty(self)


cdef int places_some(
    const slab_t* slab, const int64_t* indices, Py_ssize_t count, bint is_name, PyObject* default, PyObject** found
) noexcept:
    """As find_some: the entries or names that are in up to ROUND places."""
    cdef slab_slot_t* places[ROUND]
    cdef name_t* record
    cdef Py_ssize_t i
    for i in range(count):
        places[i] = &slab.slots[indices[i]] if <uint64_t>indices[i] < slab.capacity else &NO_PLACE
        text_prefetch(places[i])
    for i in range(count):
        if places[i].item != NULL:
            text_prefetch(&(<name_t*>places[i].item).name)
    for i in range(count):
        record = <name_t*>places[i].item
        found[i] = default if record == NULL else record.name if is_name else record.entry
        text_prefetch_write(found[i])
    for i in range(count):
        Py_INCREF(<object>found[i])
    return 0


cdef list read_places(Registry self, object indices, bint is_name, object default):
    cdef Py_buffer view
    cdef list things
    cdef PyObject** found
    cdef Py_ssize_t count, part, at = 0
    array_open(&view, indices, True, False)
    try:
        count = view.len // <Py_ssize_t>sizeof(int64_t)
        things = PyList_New(count)
        found = PySequence_Fast_ITEMS(things)
        while at < count:
            part = count - at if count - at < ROUND else ROUND
            places_some(&self.slab, <int64_t*>view.buf + at, part, is_name, <PyObject*>default, found + at)
            at += part
    finally:
        PyBuffer_Release(&view)
    return things


cdef str held(Registry self, object name):
    """The registry's own str of a name; KeyError where it is not there."""
    cdef names_slot_t* slot
    seek(self, name, &slot)
    if slot == NULL:
        raise KeyError(name)
    return <str>(<name_t*>slot.cold).name


cdef Bonds bonds_of(Registry self):
    cdef Bonds made
    if self.bonds is None:
        made = Bonds(self.bond_count_max, self.event_count_max)
        if self.bonds is None:  # or code that the collector ran has made them
            self.bonds = made
    return self.bonds


cdef class Registry:
    def __cinit__(self, Py_ssize_t count_max=1_000_000, *, bond_count_max=1_000_000, event_count_max=65_536):
        if count_max < 1 or count_max > COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        if bond_count_max < 1 or event_count_max < 1:
            raise ValueError(
                f"bond_count_max and event_count_max are 1 or more, got {bond_count_max} and {event_count_max}"
            )
        names_init(&self.table, <size_t>count_max, names_seed())
        slab_init(&self.slab, <uint32_t>count_max)
        self.bond_count_max = bond_count_max
        self.event_count_max = event_count_max
        self.owners = {}

    def __dealloc__(self):
        names_free(&self.table)
        drop_records(&self.slab)

    @property
    def count_max(self):
        return self.table.count_max

    @property
    def memory_bytes(self):
        return (
            names_bytes(&self.table) + self.slab.capacity * sizeof(slab_slot_t) + self.table.count * sizeof(name_t)
        )

    def __len__(self):
        return <Py_ssize_t>self.table.count

    def __contains__(self, name):
        cdef names_slot_t* slot
        if not (PyUnicode_Check(name) or PyBytes_Check(name)):
            return False
        seek(self, name, &slot)
        return slot != NULL

    def __getitem__(self, name):
        cdef names_slot_t* slot
        seek(self, name, &slot)
        if slot == NULL:
            raise KeyError(name)
        return <object>slot.hot

    def __setitem__(self, name, entry):
        put(self, name, entry, None)

    def __delitem__(self, name):
        if not self.remove(name):
            raise KeyError(name)

    def get(self, name, default=None):
        cdef names_slot_t* slot
        seek(self, name, &slot)
        return <object>slot.hot if slot != NULL else default

    def get_many(self, names, default=None):
        return names_get_many(&self.table, names, default)

    def hashes(self, names):
        return names_hashes(&self.table, names)

    def find_hashes(self, hashes, out=None):
        return names_find_array(&self.table, &self.door, hashes, out)

    def entries_at(self, indices, default=None):
        return read_places(self, indices, False, default)

    def names_at(self, indices, default=None):
        return read_places(self, indices, True, default)

    def put(self, name, entry, owner=None):
        put(self, name, entry, owner)

    def owner(self, name):
        cdef names_slot_t* slot
        cdef name_t* record
        seek(self, name, &slot)
        if slot == NULL:
            raise KeyError(name)
        record = <name_t*>slot.cold
        return (<_Owner>record.holder).owner if record.holder != NULL else None

    def remove(self, name):
        return take(self, name, NULL)

    def pop(self, name, default=ABSENT):
        cdef PyObject* entry = NULL
        if take(self, name, &entry):
            taken = <object>entry
            Py_DECREF(taken)
            return taken
        if default is ABSENT:
            raise KeyError(name)
        return default

    def drop_owner(self, owner):
        cdef _Owner holder
        cdef name_t* record
        cdef object entry
        cdef size_t dropped = 0
        cdef size_t count
        if owner is None:
            raise ValueError("None is no owner; remove names without an owner one by one")
        holder = self.owners.get(owner)
        count = holder.names.count if holder is not None else 0
        while dropped < count:  # what foreign code puts meanwhile stays
            names_settle(&self.door)
            record = <name_t*>chain_front(&holder.names)
            if record == NULL:
                break
            entry = take_out(self, record)
            del entry
            dropped += 1
        return dropped

    def bind(self, key, name):
        cdef str text = bonds_text(key)
        cdef Bonds bonds = bonds_of(self)
        cdef dict spare = {}
        bonds_bind(bonds, text, held(self, name), spare)

    def binding(self, key):
        return bonds_of(self).binding(key)

    def bindings(self, name):
        return bonds_of(self).bindings(name)

    def unbind(self, key):
        return bonds_of(self).unbind(key)

    def join(self, group, name):
        cdef str text = bonds_text(group)
        cdef Bonds bonds = bonds_of(self)
        cdef dict spare = {}
        cdef dict another = {}
        return bool(bonds_join(bonds, text, held(self, name), spare, another))

    def leave(self, group, name):
        return bonds_of(self).leave(group, name)

    def members(self, group):
        return bonds_of(self).members(group)

    def groups(self, name=None):
        return bonds_of(self).groups(name)

    def watch(self, name, callback, is_prefix=False):
        return bonds_of(self).watch(name, callback, is_prefix)

    def unwatch(self, number):
        return bonds_of(self).unwatch(number)

    def take_events(self):
        return self.bonds.take_events() if self.bonds is not None else []

    @property
    def lost_event_count(self):
        return self.bonds.lost_event_count if self.bonds is not None else 0

    def names(self, prefix=""):
        cdef text_t text
        cdef name_t* record
        cdef list found = []
        cdef uint32_t i
        if not names_read(prefix, &text, self.table.seed):
            return found
        for i in range(self.slab.capacity):
            record = <name_t*>self.slab.slots[i].item
            if record != NULL and record.size >= text.size and memcmp(record.data, text.data, text.size) == 0:
                found.append(<object>record.name)
        return found

    def scan(self, Py_ssize_t cursor=0, Py_ssize_t count=100):
        cdef list found = []
        cdef name_t* record
        cdef object name
        cdef object entry
        if cursor < 0 or count < 1:
            raise ValueError(f"cursor is 0 or more and count is 1 or more, got {cursor} and {count}")
        # Making a tuple may start the collector, and that foreign code: nothing is kept from one turn to the next.
        while cursor < <Py_ssize_t>self.slab.capacity:
            record = <name_t*>self.slab.slots[cursor].item
            if record != NULL:
                if count == 0:
                    return cursor, found
                count -= 1
                name = <object>record.name
                entry = <object>record.entry
                found.append((name, entry))
            cursor += 1
        return 0, found

    def clear(self):
        cdef name_t* record
        cdef uint32_t i
        names_settle(&self.door)
        if self.bonds is not None:
            for i in range(self.slab.capacity):
                record = <name_t*>self.slab.slots[i].item
                if record != NULL:
                    bonds_tell(self.bonds, "removed", <str>record.name, <object>record.entry)
            bonds_clear(self.bonds)
        empty(self)

    def check(self):
        cdef name_t* record
        cdef names_slot_t* slot
        cdef text_t text
        cdef size_t held = 0
        cdef size_t owned = 0
        cdef uint32_t i
        cdef _Owner holder
        _expect(names_check(&self.table), "the table is broken")
        _expect(slab_check(&self.slab), "the slab is broken")
        for i in range(self.slab.capacity):
            record = <name_t*>self.slab.slots[i].item
            if record == NULL:
                continue
            held += 1
            text_of_data(&text, record.data, record.size, self.table.seed)
            slot = names_find(&self.table, &text)
            _expect(slot == NULL or slot.cold != record, "a record is not found by its name")
            _expect(slot.hot != record.entry, "a slot has another entry than its record")
            _expect(slot.extra != <uint32_t>record.handle, "a slot has another index than its record")
            _expect(slab_get(&self.slab, record.handle) != record, "a record has the wrong handle")
            _expect((<str><object>record.name).encode() != record.data[:record.size], "its bytes are others")
            if record.holder != NULL:
                owned += 1
                holder = <_Owner>record.holder
                _expect(self.owners.get(holder.owner) is not holder, "an owner is not known")
        _expect(held != self.table.count or held != self.slab.count, "the table and the slab differ")
        for holder in self.owners.values():
            _expect(holder.names.count == 0 or chain_check(&holder.names), "the names of an owner are broken")
            owned -= holder.names.count
        _expect(owned != 0, "the owners have names that are not held")
        if self.bonds is not None:
            self.bonds.check()
            for name in [*self.bonds.keys_of, *self.bonds.groups_of]:
                _expect(name not in self, "a name that is not held has bonds")


cdef int _expect(bint is_broken, str message) except -1:
    if is_broken:
        raise AssertionError(message)
    return 0


hold_objects(Registry, <traverse_t>visit_all, <clear_t>clear_all)
