"""Counts of events and of durations, log-linear (after HdrHistogram, Tene 2012).

Each power of two is cut into ``2**sub_bits`` equal buckets, so a bucket is at most ``2**-sub_bits`` of its values wide;
what is reported is its middle, which halves the error: 0.4 % with 7 bits, 0.8 % with 6. Recording is a count of
leading zeros, two shifts, two atomic additions and two comparisons. The number of values is not kept but summed up by
whoever asks, as every word that all writers write costs them a few nanoseconds each.

A record touches the extremes and the sum first and its bucket last, and ``take`` empties the buckets first: the
extremes that are kept may then belong to values just taken, or be missing for one just recorded, which is why
``histogram_span`` holds them against the lowest and highest bucket in use.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport INT64_MAX, INT64_MIN

from erlmcp._core.memory cimport mem_alloc, mem_free, mem_zalloc

from erlmcp.errors import ConfigurationError


cdef extern from "Python.h":
    bint PyObject_CheckBuffer(object exporter) noexcept


cdef enum:
    CHUNK = 512  # floats that are turned into integers at a time
    GIL_FREE_MIN = 256  # a buffer shorter than this is recorded with the GIL: giving it up costs 30 ns
    TEXT_CHARS_MAX = 200
    LABELS_MAX = 16

cdef int64_t VALUE_LIMIT = (<int64_t>1 << 61) - 1
cdef double WHOLE_MAX = <double>(<int64_t>1 << 62)
cdef str OTHER = "other"
cdef str OTHER_COUNTER = "other_counter"
cdef str OTHER_HISTOGRAM = "other_histogram"


cdef int histogram_init(histogram_t* self, int64_t value_max, int sub_bits) except -1 nogil:
    self.value_max = value_max
    self.sub_bits = sub_bits
    self.bucket_count = meter_bucket(value_max, sub_bits) + 1
    self.smallest = INT64_MAX
    self.largest = -1
    self.sum = self.clamped = 0
    self.counts = <uint64_t*>mem_zalloc(<size_t>self.bucket_count, sizeof(uint64_t))
    if self.counts == NULL:
        with gil:
            raise MemoryError
    return 0


cdef void histogram_free(histogram_t* self) noexcept nogil:
    mem_free(self.counts)
    self.counts = NULL
    self.bucket_count = 0


cdef void histogram_record_many(histogram_t* self, const int64_t* values, size_t count) noexcept nogil:
    cdef int64_t smallest = INT64_MAX
    cdef int64_t largest = -1
    cdef uint64_t summed = 0
    cdef int64_t value
    cdef size_t i
    for i in range(count):
        value = values[i]
        if <uint64_t>value > <uint64_t>self.value_max:
            value = histogram_clamp(self, value)
        smallest = value if value < smallest else smallest
        largest = value if value > largest else largest
        summed += <uint64_t>value
        meter_add(&self.counts[meter_bucket(value, self.sub_bits)], 1)
    meter_lower(&self.smallest, smallest)
    meter_raise(&self.largest, largest)
    meter_add(&self.sum, summed)


cdef void histogram_merge(histogram_t* self, const histogram_t* other) noexcept nogil:
    cdef uint64_t more
    cdef int64_t i
    for i in range(self.bucket_count):
        more = meter_get(&other.counts[i])
        if more:
            meter_add(&self.counts[i], more)
    meter_add(&self.clamped, meter_get(&other.clamped))
    meter_add(&self.sum, meter_get(&other.sum))
    meter_lower(&self.smallest, meter_get_signed(&other.smallest))
    meter_raise(&self.largest, meter_get_signed(&other.largest))


cdef void histogram_take(histogram_t* self, histogram_t* into) noexcept nogil:
    cdef histogram_t nowhere
    cdef uint64_t taken
    cdef int64_t i
    for i in range(self.bucket_count):
        if meter_get(&self.counts[i]):
            taken = meter_swap(&self.counts[i], 0)
            if into != NULL:
                meter_add(&into.counts[i], taken)
    if into == NULL:
        into = &nowhere
        into.clamped = into.sum = 0
        into.smallest = into.largest = 0
    meter_add(&into.clamped, meter_swap(&self.clamped, 0))
    meter_add(&into.sum, meter_swap(&self.sum, 0))
    meter_lower(&into.smallest, meter_swap_signed(&self.smallest, INT64_MAX))
    meter_raise(&into.largest, meter_swap_signed(&self.largest, -1))


cdef void histogram_span(const histogram_t* self, histogram_span_t* span) noexcept nogil:
    cdef int64_t low = -1
    cdef int64_t high = -1
    cdef uint64_t held
    cdef int64_t i
    span.count = 0
    span.smallest = span.largest = 0
    for i in range(self.bucket_count):
        held = meter_get(&self.counts[i])
        if held:
            span.count += held
            high = i
            if low < 0:
                low = i
    if low < 0:
        return
    span.smallest = min(meter_get_signed(&self.smallest), meter_bucket_first(low + 1, self.sub_bits) - 1)
    span.smallest = max(min(span.smallest, self.value_max), meter_bucket_first(low, self.sub_bits))
    span.largest = min(meter_get_signed(&self.largest), meter_bucket_first(high + 1, self.sub_bits) - 1)
    span.largest = max(min(span.largest, self.value_max), meter_bucket_first(high, self.sub_bits))
    if span.smallest > span.largest:  # taken from under a writer, between its value and its count
        span.smallest = meter_bucket_first(low, self.sub_bits)
        span.largest = min(meter_bucket_first(high + 1, self.sub_bits) - 1, self.value_max)


cdef inline int64_t read_value(object value) except? -1:
    """Any int, a larger one as the largest that fits. TypeError for what is none."""
    cdef int overflow = 0
    cdef int64_t read = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return INT64_MAX if overflow > 0 else INT64_MIN
    return read


cdef int read_percents(percents, double* wanted, uint64_t count, Py_ssize_t size) except -1:
    """Each of ``size`` percentages as a number of values. ValueError."""
    cdef double percent
    cdef Py_ssize_t i
    for i in range(size):
        percent = percents[i]
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"percent is from 0 to 100, got {percent}")
        wanted[i] = percent / 100.0 * <double>count
    return 0


cdef double middle(const histogram_t* self, int64_t bucket, const histogram_span_t* span) noexcept nogil:
    """The middle of a bucket, unless it lies outside of what was recorded."""
    cdef int64_t ends = meter_bucket_first(bucket, self.sub_bits) + meter_bucket_first(bucket + 1, self.sub_bits) - 1
    return min(max(<double>ends / 2.0, <double>span.smallest), <double>span.largest)


cdef void find_percentiles(
    const histogram_t* self, const histogram_span_t* span, const double* wanted, double* found, Py_ssize_t size
) noexcept nogil:
    """One walk for all. Where writers took values away meanwhile, the rest is the largest value."""
    cdef uint64_t seen = 0
    cdef uint64_t before
    cdef uint64_t held
    cdef int64_t i
    cdef Py_ssize_t k
    for k in range(size):
        found[k] = <double>span.largest
    for i in range(self.bucket_count):
        held = meter_get(&self.counts[i])
        if held:
            before = seen
            seen += held
            for k in range(size):
                if <double>seen >= wanted[k] and (before == 0 or <double>before < wanted[k]):
                    found[k] = middle(self, i, span)


@cython.final
cdef class Counter:
    @property
    def value(self):
        return counter_value(&self.counter)

    def inc(self):
        counter_add(&self.counter, 1)

    def inc_many(self, uint64_t times):
        cdef uint64_t _i
        with nogil:  # as an embedder's loop: 2 ns each
            for _i in range(times):
                counter_add(&self.counter, 1)

    def add(self, count):
        cdef int64_t more = read_value(count)
        if more < 0 or (more == INT64_MAX and count > INT64_MAX):
            raise ValueError(f"a counter grows by 0 to {INT64_MAX}, got {count}")
        counter_add(&self.counter, <uint64_t>more)

    def take(self):
        return meter_swap(&self.counter.value, 0)


@cython.final
cdef class Histogram:
    def __cinit__(self, value_max=(1 << 44) - 1, sub_bits=7):
        if not 1 <= sub_bits <= SUB_BITS_MAX:
            raise ValueError(f"sub_bits is from 1 to {SUB_BITS_MAX}, got {sub_bits}")
        if not 1 <= value_max <= VALUE_LIMIT:
            raise ValueError(f"value_max is from 1 to {VALUE_LIMIT}, got {value_max}")
        histogram_init(&self.histogram, value_max, sub_bits)

    def __dealloc__(self):
        histogram_free(&self.histogram)

    @property
    def value_max(self):
        return self.histogram.value_max

    @property
    def sub_bits(self):
        return self.histogram.sub_bits

    @property
    def bucket_count(self):
        return self.histogram.bucket_count

    def record(self, value):
        histogram_record(&self.histogram, read_value(value))

    def record_many(self, values):
        if not isinstance(values, (list, tuple)):
            self.record_buffer(values)
            return
        for value in values:
            histogram_record(&self.histogram, read_value(value))

    def record_range(self, int64_t first, int64_t count):
        cdef int64_t i
        with nogil:  # as an embedder's loop: 5 ns each
            for i in range(count):
                histogram_record(&self.histogram, <int64_t>(<uint64_t>first + <uint64_t>i))

    cdef int record_buffer(self, values) except -1:
        cdef Py_buffer view
        if not PyObject_CheckBuffer(values):
            raise TypeError(f"record_many takes a list, a tuple or a buffer, not {type(values).__name__}")
        PyObject_GetBuffer(values, &view, PyBUF_FORMAT | PyBUF_STRIDED_RO)
        try:
            kind = view.format[0] if view.format != NULL and view.format[0] != 0 and view.format[1] == 0 else 0
            if view.itemsize != 8 or kind not in (c"d", c"l", c"q"):
                told = view.format.decode() if view.format != NULL else "B"
                raise TypeError(f"record_many takes int64 or float64, got a buffer of format {told}")
            if not PyBuffer_IsContiguous(&view, c"C"):
                raise BufferError("record_many takes a contiguous buffer")
            record_words(&self.histogram, view.buf, view.len // 8, kind == c"d")
        finally:
            PyBuffer_Release(&view)
        return 0

    @property
    def count(self):
        cdef histogram_span_t span
        histogram_span(&self.histogram, &span)
        return span.count

    @property
    def min(self):
        cdef histogram_span_t span
        histogram_span(&self.histogram, &span)
        return span.smallest

    @property
    def max(self):
        cdef histogram_span_t span
        histogram_span(&self.histogram, &span)
        return span.largest

    @property
    def sum(self):
        return meter_get(&self.histogram.sum)

    @property
    def mean(self):
        count = self.count
        return <double>meter_get(&self.histogram.sum) / <double>count if count else 0.0

    @property
    def clamped(self):
        return meter_get(&self.histogram.clamped)

    def percentile(self, percent):
        cdef histogram_span_t span
        cdef double wanted
        cdef double found
        histogram_span(&self.histogram, &span)
        read_percents((percent,), &wanted, span.count, 1)
        find_percentiles(&self.histogram, &span, &wanted, &found, 1)
        return found

    def percentiles(self, percents):
        cdef tuple asked = tuple(percents)
        cdef Py_ssize_t size = len(asked)
        cdef histogram_span_t span
        cdef double* wanted = <double*>mem_alloc(<size_t>(2 * size + 1) * sizeof(double))
        if wanted == NULL:
            raise MemoryError
        try:
            histogram_span(&self.histogram, &span)
            read_percents(asked, wanted, span.count, size)
            find_percentiles(&self.histogram, &span, wanted, wanted + size, size)
            return [wanted[size + i] for i in range(size)]
        finally:
            mem_free(wanted)

    def counts_upto(self, bounds):
        cdef list limits = [min(max(read_value(bound), -1), VALUE_LIMIT + 1) for bound in bounds]
        cdef const histogram_t* held = &self.histogram
        cdef list found = []
        cdef uint64_t seen = 0
        cdef int64_t bucket = 0
        cdef int64_t limit, ends
        if limits != sorted(limits):
            raise ValueError("bounds must ascend")
        for limit in limits:
            while bucket < held.bucket_count:
                ends = meter_bucket_first(bucket, held.sub_bits) + meter_bucket_first(bucket + 1, held.sub_bits) - 1
                if ends > 2 * limit:
                    break
                seen += meter_get(&held.counts[bucket])
                bucket += 1
            found.append(seen)
        return found

    cdef int same_shape(self, other) except -1:
        cdef histogram_t* mine = &self.histogram
        if not isinstance(other, Histogram):
            raise TypeError(f"a Histogram is wanted, not {type(other).__name__}")
        theirs = &(<Histogram>other).histogram
        if theirs.value_max != mine.value_max or theirs.sub_bits != mine.sub_bits:
            raise ValueError(
                f"histograms must have the same value_max and sub_bits: {mine.value_max}, {mine.sub_bits} "
                f"and {theirs.value_max}, {theirs.sub_bits}"
            )
        return 0

    def merge(self, other):
        self.same_shape(other)
        histogram_merge(&self.histogram, &(<Histogram>other).histogram)

    def subtract(self, other):
        cdef histogram_t* mine = &self.histogram
        cdef histogram_t* theirs
        cdef bint is_less
        cdef uint64_t clamped
        cdef uint64_t left = 0
        cdef int64_t i
        self.same_shape(other)
        theirs = &(<Histogram>other).histogram
        clamped = meter_get(&mine.clamped) - meter_get(&theirs.clamped)
        is_less = meter_get(&mine.clamped) < meter_get(&theirs.clamped)
        for i in range(mine.bucket_count):
            is_less |= meter_get(&mine.counts[i]) < meter_get(&theirs.counts[i])
            left += meter_get(&mine.counts[i]) - meter_get(&theirs.counts[i])
        if is_less or clamped > left:  # values of one bucket, some clamped into it and some not
            raise ValueError("the other histogram holds values that this one does not")
        for i in range(mine.bucket_count):
            meter_add(&mine.counts[i], -meter_get(&theirs.counts[i]))
        meter_add(&mine.clamped, -meter_get(&theirs.clamped))
        meter_add(&mine.sum, -meter_get(&theirs.sum))

    cdef Histogram twin(self):
        """An empty one of the same shape."""
        return Histogram.__new__(Histogram, self.histogram.value_max, self.histogram.sub_bits)

    def copy(self):
        cdef Histogram made = self.twin()
        histogram_merge(&made.histogram, &self.histogram)
        return made

    def take(self):
        cdef Histogram made = self.twin()
        histogram_take(&self.histogram, &made.histogram)
        return made

    def reset(self):
        histogram_take(&self.histogram, NULL)

    def snapshot(self):
        import numpy

        cdef Py_buffer view
        cdef int64_t i
        counts = numpy.empty(self.histogram.bucket_count, numpy.uint64)
        PyObject_GetBuffer(counts, &view, PyBUF_WRITABLE)
        for i in range(self.histogram.bucket_count):
            (<uint64_t*>view.buf)[i] = meter_get(&self.histogram.counts[i])
        PyBuffer_Release(&view)
        return counts

    def bounds(self):
        import numpy

        cdef Py_buffer view
        cdef int64_t i
        firsts = numpy.empty(self.histogram.bucket_count + 1, numpy.int64)
        PyObject_GetBuffer(firsts, &view, PyBUF_WRITABLE)
        for i in range(self.histogram.bucket_count + 1):
            (<int64_t*>view.buf)[i] = meter_bucket_first(i, self.histogram.sub_bits)
        PyBuffer_Release(&view)
        return firsts

    def buckets(self):
        cdef const histogram_t* held = &self.histogram
        cdef list found = []
        cdef uint64_t count
        cdef int64_t i
        for i in range(held.bucket_count):
            count = meter_get(&held.counts[i])
            if count:
                last = meter_bucket_first(i + 1, held.sub_bits) - 1
                found.append((meter_bucket_first(i, held.sub_bits), last, count))
        return found

    def check(self):
        cdef histogram_t* held = &self.histogram
        if held.counts == NULL or held.bucket_count != meter_bucket(held.value_max, held.sub_bits) + 1:
            raise AssertionError("histogram: buckets are missing")
        if meter_get(&held.clamped) > self.count:
            raise AssertionError("histogram: more values were clamped than recorded")


cdef int record_words(histogram_t* histogram, void* words, Py_ssize_t count, bint is_float) except -1:
    """A buffer of int64 or double, without the GIL where it is long. ValueError, before any is recorded."""
    cdef double* numbers = <double*>words
    cdef bint is_number = True
    cdef Py_ssize_t i
    if is_float:
        for i in range(count):
            is_number &= numbers[i] == numbers[i]
        if not is_number:
            raise ValueError("record_many got a value that is not a number")
    if count < GIL_FREE_MIN:
        record_either(histogram, words, count, is_float)
    else:
        with nogil:  # 3 ns a value
            record_either(histogram, words, count, is_float)
    return 0


cdef void record_either(histogram_t* histogram, void* words, Py_ssize_t count, bint is_float) noexcept nogil:
    cdef int64_t chunk[CHUNK]
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t part
    cdef Py_ssize_t i
    cdef double number
    if not is_float:
        histogram_record_many(histogram, <int64_t*>words, <size_t>count)
        return
    while at < count:
        part = min(count - at, <Py_ssize_t>CHUNK)
        for i in range(part):
            number = (<double*>words)[at + i]
            if number > -WHOLE_MAX:  # false, too, for what became NaN after it was looked at
                chunk[i] = <int64_t>min(number, WHOLE_MAX)
            else:
                chunk[i] = -1
        histogram_record_many(histogram, chunk, <size_t>part)
        at += part


cdef int check_text(str what, text) except -1:
    if not PyUnicode_CheckExact(text):
        raise TypeError(f"a {what} is a str, not {type(text).__name__}")
    if not 1 <= len(<str>text) <= TEXT_CHARS_MAX:
        raise ValueError(f"a {what} has 1 to {TEXT_CHARS_MAX} characters, got {len(<str>text)}")
    return 0


cdef tuple read_labels(labels, bint* is_short):
    """The labels in order; ``is_short`` says whether each value is short enough to be one."""
    is_short[0] = True
    if labels is None:
        return ()
    if type(labels) is not dict:
        raise TypeError(f"labels are a dict, not {type(labels).__name__}")
    if len(<dict>labels) > LABELS_MAX:
        raise ValueError(f"a series has at most {LABELS_MAX} labels, got {len(<dict>labels)}")
    for key, value in (<dict>labels).items():
        check_text("label", key)
        if not PyUnicode_CheckExact(value):
            raise TypeError(f"a label's value is a str, not {type(value).__name__}")
        if len(<str>value) > TEXT_CHARS_MAX:
            is_short[0] = False
    return tuple(sorted((<dict>labels).items()))


@cython.final
cdef class Meter:
    def __cinit__(self, Py_ssize_t names_max=256, Py_ssize_t series_max=256, *, value_max=(1 << 44) - 1, sub_bits=7):
        if names_max < 1 or series_max < 1:
            raise ValueError(f"names_max and series_max are at least 1, got {names_max} and {series_max}")
        Histogram(value_max, sub_bits)
        self.names_max, self.series_max = names_max, series_max
        self.value_max, self.sub_bits = value_max, sub_bits
        self.families, self.kinds = {}, {}

    @property
    def collapsed(self):
        return self.collapses

    def __len__(self):
        return sum([len(family) for family in self.families.values()])

    def counter(self, name, labels=None):
        return self.find(Counter, name, labels)

    def histogram(self, name, labels=None):
        return self.find(Histogram, name, labels)

    cdef object find(self, type kind, name, labels):
        cdef bint is_short
        cdef bint is_other
        cdef tuple wanted
        cdef dict family
        check_text("name", name)
        wanted = read_labels(labels, &is_short)
        is_other = name == OTHER_COUNTER or name == OTHER_HISTOGRAM
        if self.kinds.get(name, kind) is not kind or (is_other and (name == OTHER_COUNTER) != (kind is Counter)):
            raise ConfigurationError(f"{name!r} is not the name of a {kind.__name__.lower()}; take another name")
        if name not in self.families and not is_other and self.own_names() >= self.names_max:
            self.collapses += 1
            name, wanted = (OTHER_COUNTER if kind is Counter else OTHER_HISTOGRAM), ()
        family = self.families.get(name, {})
        keys = [key for key, _ in wanted]
        for first in family:
            if [key for key, _ in first] != keys:
                raise ConfigurationError(f"{name!r} has the labels {[key for key, _ in first]}, not {keys}")
            break
        if wanted not in family and (len(family) >= self.series_max or not is_short):
            self.collapses += 1
            wanted = tuple([(key, OTHER) for key in keys])
        found = family.get(wanted)
        return self.keep(kind, name, wanted) if found is None else found

    cdef object keep(self, type kind, str name, tuple labels):
        """A new series. MemoryError, and the meter is as it was."""
        made = Counter() if kind is Counter else Histogram(self.value_max, self.sub_bits)
        self.kinds.setdefault(name, kind)
        # Memory for the new one may have been had from the collector, whose finalizers may have come by here.
        return self.families.setdefault(name, {}).setdefault(labels, made)

    cdef Py_ssize_t own_names(self) except -1:
        """How many names there are, without those that others collapse into."""
        return len(self.families) - (OTHER_COUNTER in self.families) - (OTHER_HISTOGRAM in self.families)

    def series(self):
        families = list(self.families.items())
        return [(name, labels, kept) for name, family in families for labels, kept in list(family.items())]

    def snapshot(self):
        return [
            (name, labels, kept.value if isinstance(kept, Counter) else kept.copy())
            for name, labels, kept in self.series()
        ]

    def check(self):
        if self.kinds.keys() != self.families.keys():
            raise AssertionError("meter: a family has no kind")
        if self.own_names() > self.names_max:
            raise AssertionError("meter: more names than names_max")
        if not all(1 <= len(family) <= self.series_max + 1 for family in self.families.values()):
            raise AssertionError("meter: a name has more series than series_max, or none")
