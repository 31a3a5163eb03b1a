"""Bindings, groups and watches; see bonds.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Clear
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_DecodeUTF8

from erlmcp.errors import LimitError

cdef extern from "Python.h":
    object PyUnicode_FromObject(object text)
    int PyList_SetSlice(object items, Py_ssize_t low, Py_ssize_t high, PyObject* others) except -1

cdef enum:
    EVENT_ITEMS = 4


cdef str bonds_text(object text):
    if PyUnicode_CheckExact(text):
        return text
    if PyUnicode_Check(text):
        return PyUnicode_FromObject(text)
    if not PyBytes_Check(text):
        raise TypeError(f"a name is a str or bytes, not {type(text).__name__}")
    return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), NULL)


cdef int check_room(Bonds self) except -1:
    """LimitError where there is no room for one bond more."""
    if self.count >= self.count_max:
        raise LimitError("bond_count_max", self.count_max, "no room for another binding, membership or watch")
    return 0


cdef int add_to(dict sets, object owner, object item, dict spare) except -1:
    """Puts an item into a set, which is ``spare`` where there was none. MemoryError, and nothing has changed."""
    cdef dict items = sets.setdefault(owner, spare)
    try:
        items[item] = None
    except MemoryError:
        if not items:
            del sets[owner]
        raise
    return 0


cdef int drop_from(dict sets, object owner, object item) except -1:
    """Takes an item out of a set, and the set away with its last item."""
    cdef dict items = sets[owner]
    del items[item]
    if not items:
        del sets[owner]
    return 0


cdef int bonds_bind(Bonds self, str key, str name, dict spare) except -1:
    cdef object old = self.name_of.get(key)
    if old is not None and <str>old == name:
        return 0
    if old is None:
        check_room(self)
    add_to(self.keys_of, name, key, spare)
    try:
        self.name_of[key] = name
    except MemoryError:
        drop_from(self.keys_of, name, key)
        raise
    if old is None:
        self.count += 1
    else:
        drop_from(self.keys_of, old, key)
    return 0


cdef bint bonds_join(Bonds self, str group, str name, dict spare, dict another) except -1:
    cdef dict members = self.members_of.get(group)
    if members is not None and name in members:
        return False
    check_room(self)
    add_to(self.members_of, group, name, spare)
    try:
        add_to(self.groups_of, name, group, another)
    except MemoryError:
        drop_from(self.members_of, group, name)
        raise
    self.count += 1
    return True


cdef int bonds_forget(Bonds self, str name) except -1:
    cdef dict items = self.keys_of.pop(name, None)
    cdef object item
    if items is not None:
        for item in items:
            del self.name_of[item]
        self.count -= len(items)
    item = self.name_of.pop(name, None)
    if item is not None:
        drop_from(self.keys_of, item, name)
        self.count -= 1
    items = self.groups_of.pop(name, None)
    if items is not None:
        for item in items:
            drop_from(self.members_of, item, name)
        self.count -= len(items)
    return 0


cdef int bonds_clear(Bonds self) except -1:
    PyDict_Clear(self.name_of)
    PyDict_Clear(self.keys_of)
    PyDict_Clear(self.members_of)
    PyDict_Clear(self.groups_of)
    self.count = len(self.watches)
    return 0


cdef int gather(list found, dict sets, str text) except -1:
    cdef dict numbers = sets.get(text)
    cdef object number
    if numbers is not None:
        for number in numbers:
            found.append(number)
    return 0


cdef int tell_each(Bonds self, str kind, str name, object entry) except -1:
    cdef object number, length
    cdef tuple watch
    gather(self.numbers, self.exact, name)
    for length in self.lengths:
        if <Py_ssize_t>length <= len(name):
            gather(self.numbers, self.prefixes, name[:length])
    self.numbers.sort()
    for number in self.numbers:
        if len(self.events) // EVENT_ITEMS >= self.event_count_max:
            self.lost_event_count += 1
            continue
        watch = self.watches[number]
        self.events.append(watch[2])
        self.events.append(kind)
        self.events.append(name)
        self.events.append(entry)
    return 0


cdef int bonds_tell(Bonds self, str kind, str name, object entry) except -1:
    cdef Py_ssize_t whole
    if not self.watches:
        return 0
    try:
        tell_each(self, kind, name, entry)
    except MemoryError:
        self.lost_event_count += 1
        whole = len(self.events) // EVENT_ITEMS * EVENT_ITEMS
        PyList_SetSlice(self.events, whole, len(self.events), NULL)
    PyList_SetSlice(self.numbers, 0, len(self.numbers), NULL)
    return 0


cdef int add_watch(Bonds self, object number, tuple watch, dict spare) except -1:
    cdef dict sets = self.prefixes if watch[1] else self.exact
    cdef object length = len(<str>watch[0])
    add_to(sets, watch[0], number, spare)
    try:
        self.watches[number] = watch
        if watch[1]:
            self.lengths[length] = self.lengths.get(length, 0) + 1
    except MemoryError:
        drop_from(sets, watch[0], number)
        self.watches.pop(number, None)
        raise
    return 0


cdef int drop_watch(Bonds self, object number, tuple watch) except -1:
    cdef object length = len(<str>watch[0])
    drop_from(self.prefixes if watch[1] else self.exact, watch[0], number)
    if watch[1]:
        if self.lengths[length] == 1:
            del self.lengths[length]
        else:
            self.lengths[length] -= 1
    return 0


cdef class Bonds:
    def __cinit__(self, Py_ssize_t count_max=1_000_000, Py_ssize_t event_count_max=65_536):
        if count_max < 1 or event_count_max < 1:
            raise ValueError(f"count_max and event_count_max are 1 or more, got {count_max} and {event_count_max}")
        self.count_max = count_max
        self.event_count_max = event_count_max
        self.name_of, self.keys_of, self.members_of, self.groups_of = {}, {}, {}, {}
        self.watches, self.exact, self.prefixes, self.lengths = {}, {}, {}, {}
        self.events, self.numbers = [], []

    def __len__(self):
        return self.count

    def bind(self, key, name):
        bonds_bind(self, bonds_text(key), bonds_text(name), {})

    def binding(self, key):
        return self.name_of.get(bonds_text(key))

    def bindings(self, name):
        return list(self.keys_of.get(bonds_text(name), ()))

    def unbind(self, key):
        cdef str text = bonds_text(key)
        cdef object name = self.name_of.pop(text, None)
        if name is None:
            return False
        drop_from(self.keys_of, name, text)
        self.count -= 1
        return True

    def join(self, group, name):
        return bool(bonds_join(self, bonds_text(group), bonds_text(name), {}, {}))

    def leave(self, group, name):
        cdef str text = bonds_text(group)
        cdef str member = bonds_text(name)
        cdef dict members = self.members_of.get(text)
        if members is None or member not in members:
            return False
        drop_from(self.members_of, text, member)
        drop_from(self.groups_of, member, text)
        self.count -= 1
        return True

    def members(self, group):
        return list(self.members_of.get(bonds_text(group), ()))

    def groups(self, name=None):
        if name is None:
            return list(self.members_of)
        return list(self.groups_of.get(bonds_text(name), ()))

    def watch(self, name, callback, is_prefix=False):
        cdef tuple watch = (bonds_text(name), bool(is_prefix), callback)
        cdef dict spare = {}
        cdef Py_ssize_t number
        check_room(self)
        self.watch_number += 1
        number = self.watch_number
        add_watch(self, number, watch, spare)
        self.count += 1
        return number

    def unwatch(self, number):
        cdef tuple watch
        if not isinstance(number, int):
            raise TypeError(f"a watch has a number, not a {type(number).__name__}")
        number = int(number)
        watch = self.watches.pop(number, None)
        if watch is None:
            return False
        drop_watch(self, number, watch)
        self.count -= 1
        return True

    def tell(self, kind, name, entry=None):
        bonds_tell(self, bonds_text(kind), bonds_text(name), entry)

    def take_events(self):
        cdef list events = []
        cdef list fresh = []
        cdef list taken = self.events
        cdef Py_ssize_t at = 0
        self.events = fresh
        try:
            while at < len(taken):
                events.append((taken[at], taken[at + 1], taken[at + 2], taken[at + 3]))
                at += EVENT_ITEMS
        except MemoryError:
            self.lost_event_count += len(taken) // EVENT_ITEMS
            raise
        return events

    def forget(self, name):
        bonds_forget(self, bonds_text(name))

    def clear(self):
        bonds_clear(self)

    def check(self):
        cdef Py_ssize_t count = len(self.watches) + len(self.name_of)
        cdef object one, other, numbers
        for one, other in self.name_of.items():
            _expect(one not in self.keys_of.get(other, ()), "a binding is known at one end")
        for one in self.members_of:
            _expect(not self.members_of[one], "a group has no members")
            for other in self.members_of[one]:
                count += 1
                _expect(one not in self.groups_of.get(other, ()), "a membership is known at one end")
        _expect(sum(map(len, self.keys_of.values())) != len(self.name_of), "a name has keys that are not bound to it")
        _expect(
            sum(map(len, self.groups_of.values())) != sum(map(len, self.members_of.values())),
            "a name has groups that it is no member of",
        )
        for one, (text, is_prefix, _) in self.watches.items():
            numbers = (self.prefixes if is_prefix else self.exact).get(text, ())
            _expect(one not in numbers, "a watch is not found by its text")
        _expect(
            sum(map(len, self.exact.values())) + sum(map(len, self.prefixes.values())) != len(self.watches),
            "a text has watches that are no more",
        )
        for one, count_of in self.lengths.items():
            other = [text for text, is_prefix, _ in self.watches.values() if is_prefix and len(text) == one]
            _expect(count_of != len(other), "the lengths of prefixes are counted wrong")
        _expect(sum(self.lengths.values()) != sum(map(len, self.prefixes.values())), "a length of prefixes is missing")
        _expect(count != self.count or count > self.count_max, "the bonds are counted wrong")
        _expect(len(self.events) > self.event_count_max * EVENT_ITEMS, "more events than event_count_max")
        _expect(len(self.events) % EVENT_ITEMS != 0, "half an event")


cdef int _expect(bint is_broken, str message) except -1:
    if is_broken:
        raise AssertionError(message)
    return 0
