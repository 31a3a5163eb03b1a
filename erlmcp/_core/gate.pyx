"""Numbers only: what they are used for is decided above.

A token bucket must neither drift nor let through more than it promises, whatever its rate. A rate is a fraction of two
whole numbers, ``gain`` units a nanosecond and ``cost`` units a token, in lowest terms; levels are whole units, filling
is one multiplication, and nothing is divided but by whoever asks how long to wait. It is the bucket of GCRA (ITU-T
I.371), kept as a level instead of a time because the units of a time would overflow.

Of many buckets, only those that are not full need memory: a key without one is one with a full one. Where more keys
than ``count_max`` are in use at once, those without a place share one bucket, and whoever gets a place later starts
with what is left in that: so no key ever gets more than its limit, and strangers who wear out the shared bucket take
nothing from those who have a place.

A breaker's window is a ring of buckets of outcomes. A bucket is left when its time or its number of outcomes is
reached; so one ring bounds the window by age and by count.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.string cimport memcpy

from erlmcp._core.chain cimport (
    chain_check, chain_front, chain_init, chain_move_to_back, chain_node_init, chain_pop_front, chain_push_back,
)
from erlmcp._core.memory cimport mem_alloc, mem_free, mem_zalloc
from erlmcp._core.table cimport (
    table_check, table_clear, table_entry_t, table_find, table_free, table_init, table_insert, table_remove, table_seed,
)


cdef extern from "text.h":
    ctypedef struct text_t:
        const char* data
        size_t size
        uint64_t hash
    void text_of_data(text_t* text, const char* data, size_t size, uint64_t seed) noexcept nogil
    int text_of_str(text_t* text, object str, uint64_t seed) except -1


cdef enum:
    COUNT_LIMIT = 0x7FFFFFFF
    KEY_BYTES_MAX = 256
    SWEEP_MAX = 8  # buckets looked at, to find a full one, by who needs its place
    BUCKETS_MAX = 1000

cdef int64_t TIME_MAX = (<int64_t>1 << 62) - 1
cdef int64_t UNITS_MAX = (<int64_t>1 << 62) - 1

# Each setting of a breaker with what it may be.
cdef dict SETTINGS = {
    "outcomes_min": (1, COUNT_LIMIT), "open_failure_rate": (0.0, 1.0), "open_slow_rate": (0.0, 1.0),
    "open_failures_in_row": (0, COUNT_LIMIT), "slow_ns": (0, TIME_MAX), "open_ns": (1, TIME_MAX),
    "probe_max": (1, COUNT_LIMIT), "probe_successes": (1, COUNT_LIMIT),
}


cdef inline int64_t read_word(object value) except? -1:
    """Any int, a larger one as the largest that fits. TypeError for what is none."""
    cdef int overflow = 0
    cdef int64_t read = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return INT64_MAX if overflow > 0 else INT64_MIN
    return read


@cython.final
cdef class Clock:
    def __cinit__(self, now_ns=0):
        if not 0 <= now_ns <= TIME_MAX:
            raise ValueError(f"now_ns is from 0 to {TIME_MAX}, got {now_ns}")
        self.now = now_ns

    cdef int64_t push(self, now_ns) except -1:
        cdef int64_t now = read_word(now_ns)
        if now > TIME_MAX:
            raise ValueError(f"now_ns is from 0 to {TIME_MAX}, got {now_ns}")
        if now > self.now:
            self.now = now
        return self.now

    @property
    def now_ns(self):
        return self.now

    @now_ns.setter
    def now_ns(self, now_ns):
        self.push(now_ns)


cdef class Gate:
    def __cinit__(self, *_values, clock=None, **_settings):
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock is a Clock or None, not {type(clock).__name__}")
        self.time = Clock() if clock is None else clock

    cdef int64_t read_time(self, now_ns) except -1:
        return self.time.now if now_ns is None else self.time.push(now_ns)

    @property
    def clock(self):
        return self.time

    @property
    def now_ns(self):
        return self.time.now

    @now_ns.setter
    def now_ns(self, now_ns):
        self.time.push(now_ns)


cdef int read_rule(bucket_rule_t* rule, rate_per_s, burst) except -1:
    """ValueError, and the rule is as it was. A rate that is no int counts in millionths."""
    gain, cost = rate_per_s, 10**9
    if not isinstance(rate_per_s, int):
        scaled = rate_per_s * 1e6
        if scaled - scaled != 0:
            raise ValueError(f"rate_per_s must be finite, got {rate_per_s}")
        gain, cost = round(scaled), 10**15
    if gain <= 0 or burst < 1:
        raise ValueError(f"rate_per_s and burst must be positive, got {rate_per_s} and {burst}")
    a, b = gain, cost
    while b:
        a, b = b, a % b
    gain, cost = gain // a, cost // a
    if burst * cost > UNITS_MAX or gain > UNITS_MAX:
        most = UNITS_MAX // cost
        raise ValueError(f"burst is at most {most} with rate_per_s={rate_per_s}, to be counted exactly; got {burst}")
    rule.gain, rule.cost, rule.cap = gain, cost, burst * cost
    rule.fill_ns = rule.cap // rule.gain + 1
    return 0


cdef int64_t read_units(const bucket_rule_t* rule, int64_t burst, count) except -1:
    cdef int64_t tokens = read_word(count)
    if not 1 <= tokens <= burst:
        raise ValueError(f"count is from 1 to burst={burst}, got {count}")
    return tokens * rule.cost


cdef int change_bucket(bucket_t* bucket, const bucket_rule_t* old, const bucket_rule_t* new, int64_t now) except -1:
    """Keeps the tokens, cut to what the new rule can count."""
    bucket_fill(old, bucket, now)
    kept = bucket.level * <object>new.cost // old.cost
    bucket.level = min(kept, <object>new.cap)
    return 0


cdef int check_bucket(const bucket_t* bucket, const bucket_rule_t* rule, int64_t now) except -1:
    if not (0 <= bucket.level <= rule.cap and bucket.at_ns <= now):
        raise AssertionError("gate: a bucket holds more than burst, or was filled in the future")
    return 0


@cython.final
cdef class TokenBucket(Gate):
    def __cinit__(self, rate_per_s, burst, *, clock=None):
        read_rule(&self.rule, rate_per_s, burst)
        self.rate_per_s, self.burst = rate_per_s, burst
        self.bucket.level = self.rule.cap
        self.bucket.at_ns = self.time.now

    cdef bint decide(self, int64_t units) noexcept nogil:
        if bucket_take(&self.rule, &self.bucket, units, self.time.now):
            self.allowed_count += 1
            return True
        self.refused_count += 1
        return False

    def allow(self):
        return self.decide(self.rule.cost)

    def allow_at(self, now_ns):
        self.time.push(now_ns)
        return self.decide(self.rule.cost)

    def take(self, count=1, now_ns=None):
        cdef int64_t units = read_units(&self.rule, self.burst, count)
        self.read_time(now_ns)
        return self.decide(units)

    def wait_ns(self, count=1, now_ns=None):
        cdef int64_t units = read_units(&self.rule, self.burst, count)
        return bucket_wait(&self.rule, &self.bucket, units, self.read_time(now_ns))

    @property
    def tokens(self):
        bucket_fill(&self.rule, &self.bucket, self.time.now)
        return self.bucket.level // self.rule.cost

    def change(self, rate_per_s, burst):
        cdef bucket_rule_t rule
        read_rule(&rule, rate_per_s, burst)
        change_bucket(&self.bucket, &self.rule, &rule, self.time.now)
        self.rule, self.rate_per_s, self.burst = rule, rate_per_s, burst

    def check(self):
        check_bucket(&self.bucket, &self.rule, self.time.now)


cdef inline bint read_key(key, text_t* text, uint64_t seed) except -1:
    """False for what shares one bucket: too long, or without a UTF-8 form. TypeError, MemoryError."""
    if PyUnicode_Check(key):
        return text_of_str(text, key, seed) and text.size <= KEY_BYTES_MAX
    if not PyBytes_Check(key):
        raise TypeError(f"a key is a str or bytes, not {type(key).__name__}")
    if PyBytes_GET_SIZE(key) > KEY_BYTES_MAX:
        return False
    text_of_data(text, PyBytes_AS_STRING(key), <size_t>PyBytes_GET_SIZE(key), seed)
    return True


cdef int evict(TokenBuckets self) noexcept nogil:
    """Takes out a bucket that is full, if one is among the longest unasked."""
    cdef keyed_bucket_t* record
    cdef text_t text
    cdef size_t looked = 0
    while looked < SWEEP_MAX and looked < self.chain.count:
        record = <keyed_bucket_t*>chain_front(&self.chain)
        bucket_fill(&self.rule, &record.bucket, self.time.now)
        if record.bucket.level == self.rule.cap:
            chain_pop_front(&self.chain)
            text_of_data(&text, bucket_key(record), record.size, self.seed)
            table_remove(&self.table, text.hash, text.data, text.size, NULL)
            mem_free(record)
            self.evicted_count += 1
            return 0
        chain_move_to_back(&self.chain, &record.node)
        looked += 1
    return 0


cdef keyed_bucket_t* add(TokenBuckets self, const text_t* text) except NULL:
    """A bucket for a key that has none. MemoryError, and no bucket was added."""
    cdef keyed_bucket_t* record = <keyed_bucket_t*>mem_alloc(sizeof(keyed_bucket_t) + text.size)
    if record == NULL:
        raise MemoryError
    chain_node_init(&record.node)
    memcpy(bucket_key(record), text.data, text.size)
    record.size = text.size
    # Who has no bucket may have been served from the shared one: it has not more than that.
    bucket_fill(&self.rule, &self.shared, self.time.now)
    record.bucket = self.shared
    try:
        table_insert(&self.table, text.hash, bucket_key(record), text.size, <uint64_t>record, NULL)
    except BaseException:
        mem_free(record)
        raise
    chain_push_back(&self.chain, &record.node)
    return record


@cython.final
cdef class TokenBuckets(Gate):
    def __cinit__(self, rate_per_s, burst, count_max=10_000, *, clock=None):
        chain_init(&self.chain)
        read_rule(&self.rule, rate_per_s, burst)
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        self.rate_per_s, self.burst, self.count_max = rate_per_s, burst, count_max
        table_init(&self.table, <size_t>self.count_max)
        self.seed = table_seed()
        self.shared.level = self.rule.cap
        self.shared.at_ns = self.time.now

    def __dealloc__(self):
        while self.chain.count:
            mem_free(chain_pop_front(&self.chain))
        table_free(&self.table)

    def __len__(self):
        return <Py_ssize_t>self.table.count

    cdef bucket_t* peek(self, key) except NULL:
        """The bucket that answers for a key, without a place for it."""
        cdef text_t text
        cdef table_entry_t* entry = NULL
        if read_key(key, &text, self.seed):
            entry = table_find(&self.table, text.hash, text.data, text.size)
        return &(<keyed_bucket_t*>entry.value).bucket if entry != NULL else &self.shared

    cdef bucket_t* seat(self, key) except NULL:
        """The bucket of a key, new where it has none and there is a place."""
        cdef text_t text
        cdef table_entry_t* entry
        cdef keyed_bucket_t* record
        if not read_key(key, &text, self.seed):
            self.shared_count += 1
            return &self.shared
        entry = table_find(&self.table, text.hash, text.data, text.size)
        if entry != NULL:
            record = <keyed_bucket_t*>entry.value
            chain_move_to_back(&self.chain, &record.node)
            return &record.bucket
        if self.table.count >= self.table.count_max:
            evict(self)
        if self.table.count >= self.table.count_max:
            self.shared_count += 1
            return &self.shared
        return &add(self, &text).bucket

    cdef bint decide(self, key, int64_t units) except -1:
        if bucket_take(&self.rule, self.seat(key), units, self.time.now):
            self.allowed_count += 1
            return True
        self.refused_count += 1
        return False

    def allow(self, key):
        return self.decide(key, self.rule.cost)

    def allow_many(self, keys):
        if not isinstance(keys, (list, tuple)):
            raise TypeError(f"allow_many takes a list or a tuple, not {type(keys).__name__}")
        return [self.decide(key, self.rule.cost) for key in keys]

    def take(self, key, count=1, now_ns=None):
        cdef int64_t units = read_units(&self.rule, self.burst, count)
        self.read_time(now_ns)
        return self.decide(key, units)

    def wait_ns(self, key, count=1, now_ns=None):
        cdef int64_t units = read_units(&self.rule, self.burst, count)
        cdef int64_t now = self.read_time(now_ns)
        return bucket_wait(&self.rule, self.peek(key), units, now)

    def tokens(self, key):
        cdef bucket_t* bucket = self.peek(key)
        bucket_fill(&self.rule, bucket, self.time.now)
        return bucket.level // self.rule.cost

    def change(self, rate_per_s, burst):
        cdef bucket_rule_t rule
        cdef chain_node_t* node
        read_rule(&rule, rate_per_s, burst)  # may run foreign code
        node = self.chain.root.next
        change_bucket(&self.shared, &self.rule, &rule, self.time.now)
        while node != &self.chain.root:
            change_bucket(&(<keyed_bucket_t*>node).bucket, &self.rule, &rule, self.time.now)
            node = node.next
        self.rule, self.rate_per_s, self.burst = rule, rate_per_s, burst

    def clear(self):
        table_clear(&self.table)
        while self.chain.count:
            mem_free(chain_pop_front(&self.chain))
        self.shared.level = self.rule.cap
        self.shared.at_ns = self.time.now

    def check(self):
        cdef chain_node_t* node = self.chain.root.next
        if chain_check(&self.chain) or table_check(&self.table) or self.chain.count != self.table.count:
            raise AssertionError("gate: the table of buckets and their order differ")
        check_bucket(&self.shared, &self.rule, self.time.now)
        while node != &self.chain.root:
            check_bucket(&(<keyed_bucket_t*>node).bucket, &self.rule, self.time.now)
            node = node.next


# -- in flight
@cython.final
cdef class InflightLimit:
    def __cinit__(self, limit):
        self.limit = limit

    @property
    def limit(self):
        return self.inflight.limit

    @limit.setter
    def limit(self, limit):
        if not 0 <= limit <= COUNT_LIMIT:
            raise ValueError(f"limit is from 0 to {COUNT_LIMIT}, got {limit}")
        self.inflight.limit = limit

    @property
    def count(self):
        return atomic_get_relaxed(&self.inflight.count)

    @property
    def refused_count(self):
        return atomic_get_relaxed(&self.inflight.refused)

    def enter(self):
        return inflight_enter(&self.inflight)

    def leave(self):
        if not inflight_leave(&self.inflight):
            raise ValueError("leave without enter: nobody is in")


# -- the breaker
cdef void change_state(BreakerWindow self, int state, int64_t now) noexcept nogil:
    self.stands = state
    self.probe_count = self.successes = 0
    self.changes += 1
    if state == BREAKER_OPEN:
        self.opens_until = now + self.open_ns if self.open_ns < TIME_MAX - now else TIME_MAX
        self.opened_count += 1
    elif state == BREAKER_CLOSED:
        self.failures_in_row = 0
        window_clear(&self.window)


cdef inline int ticket_of(BreakerWindow self) noexcept nogil:
    return 1 + <int>(self.changes % 255)


cdef int allow_when_not_closed(BreakerWindow self, int64_t now) noexcept nogil:
    if self.stands == BREAKER_OPEN and now >= self.opens_until:
        change_state(self, BREAKER_HALF_OPEN, now)
    if self.stands == BREAKER_HALF_OPEN:
        if self.probe_count >= self.probe_max and now - self.probe_ns >= self.open_ns:
            self.probe_count = 0  # they were lost; should they still come, they are late
            self.changes += 1
        if self.probe_count < self.probe_max:
            self.probe_count += 1
            self.probe_ns = now
            self.allowed_count += 1
            return ticket_of(self)
    self.refused_count += 1
    return 0


cdef int breaker_allow(BreakerWindow self, int64_t now_ns) noexcept nogil:
    if self.stands != BREAKER_CLOSED:
        return allow_when_not_closed(self, now_ns)
    self.allowed_count += 1
    return ticket_of(self)


cdef inline bint is_late(BreakerWindow self, int ticket) noexcept nogil:
    """Whether an outcome is of a state that is over; it is counted then."""
    if (ticket and ticket != ticket_of(self)) or self.stands == BREAKER_OPEN or (
        self.stands == BREAKER_HALF_OPEN and self.probe_count == 0
    ):
        self.late_count += 1
        return True
    return False


cdef inline bint must_open(BreakerWindow self) noexcept nogil:
    if self.open_failures_in_row and self.failures_in_row >= self.open_failures_in_row:
        return True
    cdef double count = <double>self.window.total.outcomes
    if count < self.outcomes_min:
        return False
    if self.open_failure_rate > 0 and self.window.total.failures >= self.open_failure_rate * count:
        return True
    return self.open_slow_rate > 0 and self.window.total.slow >= self.open_slow_rate * count


cdef bint breaker_record(BreakerWindow self, bint is_ok, int64_t duration_ns, int ticket, int64_t now_ns
                         ) noexcept nogil:
    cdef bint is_slow
    if is_late(self, ticket):
        return False
    is_slow = self.slow_ns and duration_ns >= self.slow_ns
    if self.stands == BREAKER_HALF_OPEN:
        self.probe_count -= 1
        if not is_ok or (is_slow and self.open_slow_rate > 0):
            change_state(self, BREAKER_OPEN, now_ns)
            return True
        self.successes += 1
        if self.successes < self.probe_successes:
            return False
        change_state(self, BREAKER_CLOSED, now_ns)
        return True
    window_add(&self.window, not is_ok, is_slow, now_ns)
    self.failures_in_row = 0 if is_ok else self.failures_in_row + 1
    if must_open(self):
        change_state(self, BREAKER_OPEN, now_ns)
        return True
    return False


@cython.final
cdef class BreakerWindow(Gate):
    def __cinit__(
        self, window_ns=10_000_000_000, bucket_count=10, outcomes_max=0, *, outcomes_min=10, open_failure_rate=0.5,
        open_slow_rate=0.0, open_failures_in_row=0, slow_ns=0, open_ns=5_000_000_000, probe_max=1, probe_successes=1,
        clock=None,
    ):
        if not 1 <= bucket_count <= BUCKETS_MAX:
            raise ValueError(f"bucket_count is from 1 to {BUCKETS_MAX}, got {bucket_count}")
        if not bucket_count <= window_ns <= TIME_MAX:
            raise ValueError(f"window_ns is from bucket_count to {TIME_MAX}, got {window_ns}")
        if outcomes_max and not bucket_count <= outcomes_max <= COUNT_LIMIT:
            raise ValueError(f"outcomes_max is 0, or from bucket_count to {COUNT_LIMIT}, got {outcomes_max}")
        self.change(
            outcomes_min=outcomes_min, open_failure_rate=open_failure_rate, open_slow_rate=open_slow_rate,
            open_failures_in_row=open_failures_in_row, slow_ns=slow_ns, open_ns=open_ns, probe_max=probe_max,
            probe_successes=probe_successes,
        )
        self.outcomes_max, self.window.window_ns, self.window.bucket_count = outcomes_max, window_ns, bucket_count
        self.window.bucket_ns = (self.window.window_ns - 1) // self.window.bucket_count + 1
        self.window.outcomes_max = <uint64_t>(self.outcomes_max // self.window.bucket_count)
        self.window.buckets = <outcomes_t*>mem_zalloc(<size_t>self.window.bucket_count, sizeof(outcomes_t))
        if self.window.buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        mem_free(self.window.buckets)

    @property
    def window_ns(self):
        return self.window.window_ns

    @property
    def bucket_count(self):
        return self.window.bucket_count

    def change(self, **settings):
        for name, value in settings.items():
            if name not in SETTINGS:
                raise TypeError(f"a breaker has no setting {name!r}")
            least, most = SETTINGS[name]
            if not least <= value <= most or not isinstance(value, (int, type(least))):
                raise ValueError(f"{name} is from {least} to {most}, got {value}")
        now = {name: settings.get(name, getattr(self, name)) for name in SETTINGS}
        self.outcomes_min, self.probe_max = now["outcomes_min"], now["probe_max"]
        self.open_failure_rate, self.open_slow_rate = now["open_failure_rate"], now["open_slow_rate"]
        self.open_failures_in_row, self.probe_successes = now["open_failures_in_row"], now["probe_successes"]
        self.slow_ns, self.open_ns = now["slow_ns"], now["open_ns"]

    @property
    def outcome_count(self):
        window_expire(&self.window, self.time.now)
        return self.window.total.outcomes

    @property
    def failure_count(self):
        window_expire(&self.window, self.time.now)
        return self.window.total.failures

    @property
    def slow_count(self):
        window_expire(&self.window, self.time.now)
        return self.window.total.slow

    @property
    def success_count(self):
        return self.outcome_count - self.failure_count

    @property
    def failure_rate(self):
        return self.failure_count / self.outcome_count if self.outcome_count else 0.0

    @property
    def slow_rate(self):
        return self.slow_count / self.outcome_count if self.outcome_count else 0.0

    @property
    def state(self):
        return ("closed", "open", "half-open")[self.stands]

    @property
    def ticket(self):
        return ticket_of(self)

    @property
    def open_until_ns(self):
        return self.opens_until if self.stands == BREAKER_OPEN else 0

    @open_until_ns.setter
    def open_until_ns(self, time_ns):
        if self.stands != BREAKER_OPEN:
            raise ValueError(f"the breaker is {self.state}: open_until_ns is set while it is open")
        if not 0 <= time_ns <= TIME_MAX:
            raise ValueError(f"open_until_ns is from 0 to {TIME_MAX}, got {time_ns}")
        self.opens_until = time_ns

    def trip(self):
        change_state(self, BREAKER_OPEN, self.time.now)

    def reset(self):
        change_state(self, BREAKER_CLOSED, self.time.now)

    def allow(self):
        return breaker_allow(self, self.time.now)

    def cancel(self, int ticket=0):
        if not is_late(self, ticket) and self.stands == BREAKER_HALF_OPEN:
            self.probe_count -= 1

    def record(self, bint is_ok, int64_t duration_ns=0, int ticket=0):
        return breaker_record(self, is_ok, duration_ns, ticket, self.time.now)

    def check(self):
        cdef uint64_t outcomes = 0
        cdef int64_t i
        for i in range(self.window.used):
            outcomes += window_bucket(&self.window, i).outcomes
        if self.window.used > self.window.bucket_count or outcomes != self.window.total.outcomes:
            raise AssertionError("gate: the window's buckets and their total differ")
        if self.probe_count and self.stands != BREAKER_HALF_OPEN:
            raise AssertionError("gate: a probe in flight, and no half-open state")
