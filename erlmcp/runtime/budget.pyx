"""What a turn of the loop may be spent on, by messages and by the clock.

A look at the clock costs 23 ns here, the quickest messages 200. So it is looked at after a step of some messages, which
shrinks to one where they took a good part of the budget and doubles where they did not; and after each message of a
kind that was seen to do so by itself, so that a cheap crowd between them hides nothing.
"""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    STEP_MAX = 16  # messages between two looks at the clock
    GAP_NS = 200_000
    PARTS = 8  # of the budget: one of them is a good part
    NOBODY = 3  # the first lane that is refused, where none is


cdef int64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Budget:
    def __init__(self, Py_ssize_t count_max, double time_max_s):
        self.count_max = count_max
        self.time_max_ns = <int64_t>(time_max_s * 1e9)
        self.gap_ns = GAP_NS
        self.step = STEP_MAX
        self.refused_from = NOBODY

    @property
    def count(self):
        return self.used + self.planned - self.due

    @property
    def is_spent(self):
        return budget_is_spent(self)

    def reset(self):
        restart(self)

    def begin(self):
        budget_begin(self)

    def add(self):
        budget_passed(self, NULL)

    def end(self):
        budget_end(self)


cdef inline void plan(Budget self) noexcept:
    self.planned = self.due = min(self.step, self.count_max - self.used)


cdef void restart(Budget self) noexcept:
    self.used = self.busy_ns = 0
    plan(self)


cdef void budget_begin(Budget self) noexcept:
    self.began_ns = now_ns()
    if self.began_ns - self.ended_ns > self.gap_ns:
        self.used = self.busy_ns = 0
    plan(self)


cdef bint budget_passed(Budget self, bint* slow) noexcept:
    cdef Py_ssize_t count
    cdef bint is_much
    self.due -= 1
    if slow != NULL and not slow[0] and self.due > 0:
        return False
    count = self.planned - self.due
    is_much = look(self)
    self.began_ns = self.ended_ns
    if slow != NULL and count == 1:
        slow[0] = is_much
    if slow != NULL and not is_much:
        self.step = min(2 * self.step, <Py_ssize_t>STEP_MAX)
    plan(self)
    return budget_is_spent(self)


# Whether the time since the last look was a good part of the budget.
cdef bint look(Budget self) noexcept:
    cdef int64_t passed_ns
    self.ended_ns = now_ns()
    passed_ns = self.ended_ns - self.began_ns
    self.busy_ns += passed_ns
    self.used += self.planned - self.due
    self.planned = self.due
    if PARTS * passed_ns <= self.time_max_ns:
        return False
    self.step = 1
    return True


cdef void budget_end(Budget self) noexcept:
    look(self)
