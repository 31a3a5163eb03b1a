"""Hierarchical timing wheel; see wheel.pxd for the layout.

Why ``wheel_advance`` is right. Every node of level L agrees with ``now`` in all groups above L and is greater in
group L. So all nodes of a level come before all nodes of the levels above it, and within a level the slots are in
order of time: the earliest slot in use is the lowest bit of the lowest level in use. Its start is the first time at
which anything can change. Moving ``now`` there leaves the levels above as they are (their groups did not change) and
lets every node of the slot fall to a lower level, or out. Moving ``now`` to a time before that start changes nothing
at all.
"""

cimport cython
from libc.stdint cimport UINT64_MAX
from libc.string cimport memset


cdef extern from * nogil:
    """
    #define wheel_highest_bit(word) (63 - __builtin_clzll(word))
    #define wheel_lowest_bit(word) (__builtin_ctzll(word))
    """
    int wheel_highest_bit(uint64_t word) noexcept
    int wheel_lowest_bit(uint64_t word) noexcept


cdef enum:
    TIME_BITS = 48  # WHEEL_BITS * WHEEL_LEVELS
    MERGE_BINS = 48


cdef void wheel_init(wheel_t* self, uint64_t now) noexcept nogil:
    memset(self, 0, sizeof(wheel_t))
    self.now = now


cdef inline void place(wheel_t* self, wheel_node_t* node) noexcept nogil:
    """Puts a node into the list that its deadline and the wheel's now ask for."""
    cdef size_t index = WHEEL_OVERDUE
    cdef uint64_t slot
    cdef int level
    if node.deadline > self.now:
        level = wheel_highest_bit(node.deadline ^ self.now) // WHEEL_BITS
        if level < WHEEL_LEVELS:
            slot = (node.deadline >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1)
            self.used[level] |= <uint64_t>1 << slot
            index = level * WHEEL_SLOTS + slot
        else:
            index = WHEEL_BEYOND
    node.next = self.lists[index]
    node.link = &self.lists[index]
    if node.next != NULL:
        node.next.link = &node.next
    self.lists[index] = node


cdef void wheel_add(wheel_t* self, wheel_node_t* node, uint64_t deadline) noexcept nogil:
    node.deadline = deadline
    node.order = self.added
    self.added += 1
    self.count += 1
    place(self, node)


cdef int wheel_cancel(wheel_t* self, wheel_node_t* node) noexcept nogil:
    cdef wheel_node_t** link = node.link
    cdef size_t index
    if link == NULL:
        return 0
    link[0] = node.next
    if node.next != NULL:
        node.next.link = link
    else:
        # The last of its list: where that leaves the list empty, the slot's bit goes too.
        index = (<size_t>link - <size_t>&self.lists[0]) // sizeof(wheel_node_t*)
        if index < WHEEL_OVERDUE:
            self.used[index // WHEEL_SLOTS] &= ~(<uint64_t>1 << (index % WHEEL_SLOTS))
    node.next = NULL
    node.link = NULL
    self.count -= 1
    return 1


cdef void wheel_move(wheel_t* self, wheel_node_t* node, uint64_t deadline) noexcept nogil:
    wheel_cancel(self, node)
    wheel_add(self, node, deadline)


cdef inline wheel_node_t* detach(wheel_t* self, size_t index) noexcept nogil:
    cdef wheel_node_t* list_ = self.lists[index]
    self.lists[index] = NULL
    if index < WHEEL_OVERDUE:
        self.used[index // WHEEL_SLOTS] &= ~(<uint64_t>1 << (index % WHEEL_SLOTS))
    return list_


cdef inline int lowest_level(const wheel_t* self) noexcept nogil:
    """The lowest level in use, or WHEEL_LEVELS."""
    cdef int level = 0
    while level < WHEEL_LEVELS and self.used[level] == 0:
        level += 1
    return level


cdef inline uint64_t slot_start(uint64_t now, int level, uint64_t slot) noexcept nogil:
    cdef int shift = level * WHEEL_BITS
    return (now >> (shift + WHEEL_BITS) << WHEEL_BITS | slot) << shift


cdef wheel_node_t* settle(wheel_t* self, wheel_node_t* list_, wheel_node_t* fired) noexcept nogil:
    """Places the nodes of a detached list anew; those that are due go to the front of ``fired``, which is given
    back."""
    cdef wheel_node_t* node
    while list_ != NULL:
        node = list_
        list_ = node.next
        if node.deadline > self.now:
            place(self, node)
        else:
            node.link = NULL
            node.next = fired
            fired = node
            self.count -= 1
    return fired


cdef inline bint comes_first(const wheel_node_t* a, const wheel_node_t* b) noexcept nogil:
    if a.deadline != b.deadline:
        return a.deadline < b.deadline
    if a.fine != b.fine:
        return a.fine < b.fine
    return a.order < b.order


cdef wheel_node_t* merge(wheel_node_t* a, wheel_node_t* b) noexcept nogil:
    cdef wheel_node_t* first = NULL
    cdef wheel_node_t** end = &first
    while a != NULL and b != NULL:
        if comes_first(b, a):
            end[0] = b
            end = &b.next
            b = b.next
        else:
            end[0] = a
            end = &a.next
            a = a.next
    end[0] = a if a != NULL else b
    return first


cdef wheel_node_t* sort(wheel_node_t* list_) noexcept nogil:
    """Merge sort from the bottom up: bin i holds a sorted list of 2**i nodes, or nothing. Needs no memory."""
    cdef wheel_node_t* bins[MERGE_BINS]
    cdef wheel_node_t* node
    cdef int used = 0
    cdef int i
    if list_ == NULL or list_.next == NULL:
        return list_
    while list_ != NULL:
        node = list_
        list_ = node.next
        node.next = NULL
        i = 0
        while i < used and bins[i] != NULL:
            node = merge(bins[i], node)
            bins[i] = NULL
            i += 1
        if i == used:
            used += 1
        bins[i] = node
    node = NULL
    for i in range(used):
        node = merge(bins[i], node)
    return node


cdef wheel_node_t* wheel_advance(wheel_t* self, uint64_t now) noexcept nogil:
    cdef wheel_node_t* fired = settle(self, detach(self, WHEEL_OVERDUE), NULL)
    cdef uint64_t start
    cdef uint64_t slot
    cdef int level
    while now > self.now:
        level = lowest_level(self)
        if level < WHEEL_LEVELS:
            slot = wheel_lowest_bit(self.used[level])
            start = slot_start(self.now, level, slot)
            if start > now:
                break
            self.now = start
            fired = settle(self, detach(self, level * WHEEL_SLOTS + slot), fired)
        elif now >> TIME_BITS != self.now >> TIME_BITS:
            self.now = now >> TIME_BITS << TIME_BITS
            fired = settle(self, detach(self, WHEEL_BEYOND), fired)
        else:
            break
    if now > self.now:
        self.now = now
    return sort(fired)


cdef wheel_node_t* wheel_drain(wheel_t* self) noexcept nogil:
    cdef wheel_node_t* drained = NULL
    cdef wheel_node_t* node
    cdef size_t index
    if self.count == 0:
        return NULL
    for index in range(<size_t>WHEEL_LISTS):
        while self.lists[index] != NULL:
            node = self.lists[index]
            wheel_cancel(self, node)
            node.next = drained
            drained = node
    return drained


cdef uint64_t wheel_next(const wheel_t* self) noexcept nogil:
    cdef uint64_t earliest = UINT64_MAX
    cdef wheel_node_t* node = self.lists[WHEEL_BEYOND]
    cdef int level
    if self.lists[WHEEL_OVERDUE] != NULL:
        return self.now
    level = lowest_level(self)
    if level < WHEEL_LEVELS:
        return slot_start(self.now, level, wheel_lowest_bit(self.used[level]))
    # Nothing is left but deadlines some 2**48 ticks away: looked at one by one, as nobody waits for many of those.
    while node != NULL:
        earliest = min(earliest, node.deadline)
        node = node.next
    return earliest


cdef int wheel_check(const wheel_t* self) noexcept nogil:
    cdef size_t seen = 0
    cdef size_t index
    cdef size_t wanted
    cdef wheel_node_t** link
    cdef wheel_node_t* node
    cdef int level
    for index in range(<size_t>WHEEL_LISTS):
        if index < WHEEL_OVERDUE:
            if ((self.used[index // WHEEL_SLOTS] >> (index % WHEEL_SLOTS)) & 1) != (self.lists[index] != NULL):
                return 1
        link = <wheel_node_t**>&self.lists[index]
        while link[0] != NULL:
            node = link[0]
            if node.link != link:
                return 2
            wanted = WHEEL_OVERDUE
            if node.deadline > self.now:
                level = wheel_highest_bit(node.deadline ^ self.now) // WHEEL_BITS
                wanted = WHEEL_BEYOND
                if level < WHEEL_LEVELS:
                    wanted = level * WHEEL_SLOTS + ((node.deadline >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1))
            if wanted != index:
                return 3
            seen += 1
            if seen > self.count:
                return 4
            link = &node.next
    return 0 if seen == self.count else 5


@cython.final
@cython.freelist(64)
cdef class Timer:
    """A node and the key it stands for. The dict of the wheel owns it; the C lists borrow it, so it takes itself out
    when it dies: the garbage collector may empty the dict before the wheel is gone."""

    def __cinit__(self, key):
        self.key = key
        self.timer.owner = <PyObject*>self

    def __dealloc__(self):
        if wheel_is_linked(&self.timer.node):
            wheel_cancel(self.timer.wheel, &self.timer.node)


cdef class TimingWheel:
    def __cinit__(self, tick_ns=1_000_000, now_ns=0):
        cdef uint64_t now = now_ns
        if tick_ns < 1:
            raise ValueError(f"tick_ns must be at least 1, got {tick_ns}")
        self.tick = tick_ns
        wheel_init(&self.wheel, now // self.tick)
        self.timers = {}

    def __dealloc__(self):
        wheel_drain(&self.wheel)

    def __len__(self):
        return <Py_ssize_t>self.wheel.count

    def __contains__(self, key):
        return key in self.timers

    @property
    def tick_ns(self):
        return self.tick

    def add(self, key, uint64_t deadline_ns):
        cdef Timer timer = Timer.__new__(Timer, key)
        if self.timers.setdefault(key, timer) is not timer:
            raise ValueError(f"{key!r} is in the wheel already; move() changes its deadline")
        timer.timer.wheel = &self.wheel
        timer.timer.node.fine = deadline_ns
        wheel_add(&self.wheel, &timer.timer.node, self.ticks(deadline_ns))

    def cancel(self, key):
        cdef Timer timer = self.timers.pop(key, None)
        if timer is None:
            return False
        wheel_cancel(&self.wheel, &timer.timer.node)
        return True

    def move(self, key, uint64_t deadline_ns):
        cdef Timer timer = self.timers.get(key)
        # One that is held but not linked is just being fired.
        if timer is None or not wheel_is_linked(&timer.timer.node):
            return False
        timer.timer.node.fine = deadline_ns
        wheel_move(&self.wheel, &timer.timer.node, self.ticks(deadline_ns))
        return True

    def advance(self, uint64_t now_ns):
        cdef list fired = []
        cdef wheel_node_t* node = wheel_advance(&self.wheel, now_ns // self.tick)
        cdef wheel_node_t* after
        if node == NULL:
            return fired
        try:
            while node != NULL:
                fired.append(<Timer>(<timer_t*>node).owner)
                node = node.next
        except MemoryError:
            while node != NULL:
                after = node.next
                wheel_add(&self.wheel, node, node.deadline)
                node = after
            if not fired:
                raise
        return self.keys_of(fired)

    def next_deadline_ns(self):
        if self.wheel.count == 0:
            return None
        return <object>wheel_next(&self.wheel) * <object>self.tick

    def clear(self):
        cdef dict timers = self.timers
        wheel_drain(&self.wheel)
        self.timers = {}
        timers.clear()

    def check(self):
        cdef int broken = wheel_check(&self.wheel)
        if broken:
            raise AssertionError(f"wheel: invariant {broken} is broken")
        if len(self.timers) != <Py_ssize_t>self.wheel.count:
            raise AssertionError(f"wheel: {len(self.timers)} keys, {self.wheel.count} nodes")

    cdef uint64_t ticks(self, uint64_t time_ns) noexcept:
        """The first tick that is not before a time."""
        return time_ns // self.tick + (time_ns % self.tick != 0)

    cdef list keys_of(self, list fired):
        """Forgets fired timers and gives their keys. A key's hash may raise: then it and those after it are put back,
        to fire at the next advance, and the error is raised unless there are keys to give."""
        cdef list keys = []
        cdef Timer timer
        try:
            for timer in fired:
                # A comparison of keys may have cancelled one that was taken out together with this.
                if self.timers.pop(timer.key, None) is timer:
                    keys.append(timer.key)
        except Exception:
            for timer in fired[len(keys):]:
                if not wheel_is_linked(&timer.timer.node):
                    wheel_add(&self.wheel, &timer.timer.node, timer.timer.node.deadline)
            if not keys:
                raise
        return keys
