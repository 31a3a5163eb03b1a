/* Relaxed atomics over plain words, and the place of a value in a log-linear histogram.
 *
 * Relaxed, as each word is a tally of its own: nothing is published by it.
 */
#ifndef ERLMCP_METER_H
#define ERLMCP_METER_H

#include <stdatomic.h>
#include <stdint.h>

static inline uint64_t meter_get(const uint64_t *word) {
    return atomic_load_explicit((const _Atomic uint64_t *)word, memory_order_relaxed);
}

static inline void meter_set(uint64_t *word, uint64_t value) {
    atomic_store_explicit((_Atomic uint64_t *)word, value, memory_order_relaxed);
}

static inline void meter_add(uint64_t *word, uint64_t count) {
    atomic_fetch_add_explicit((_Atomic uint64_t *)word, count, memory_order_relaxed);
}

/* What *word was before it became value. */
static inline uint64_t meter_swap(uint64_t *word, uint64_t value) {
    return atomic_exchange_explicit((_Atomic uint64_t *)word, value, memory_order_relaxed);
}

static inline int64_t meter_get_signed(const int64_t *word) {
    return atomic_load_explicit((const _Atomic int64_t *)word, memory_order_relaxed);
}

static inline int64_t meter_swap_signed(int64_t *word, int64_t value) {
    return atomic_exchange_explicit((_Atomic int64_t *)word, value, memory_order_relaxed);
}

/* The word is value afterwards, or what is smaller. A new extreme is rare, so the usual way is one load. */
static inline void meter_lower(int64_t *word, int64_t value) {
    int64_t seen = meter_get_signed(word);
    while (value < seen && !atomic_compare_exchange_weak_explicit(
               (_Atomic int64_t *)word, &seen, value, memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* The word is value afterwards, or what is larger. */
static inline void meter_raise(int64_t *word, int64_t value) {
    int64_t seen = meter_get_signed(word);
    while (value > seen && !atomic_compare_exchange_weak_explicit(
               (_Atomic int64_t *)word, &seen, value, memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* Below 2 << sub_bits each value has a bucket; above, each power of two has 1 << sub_bits of them. */
static inline int64_t meter_bucket(int64_t value, int sub_bits) {
    const uint64_t at_least = (uint64_t)value | (uint64_t)1 << sub_bits;
    const int shift = 63 - __builtin_clzll(at_least) - sub_bits;
    return ((int64_t)shift << sub_bits) + (value >> shift);
}

/* The smallest value of a bucket. */
static inline int64_t meter_bucket_first(int64_t bucket, int sub_bits) {
    const int64_t octave = (bucket >> sub_bits) - 1;
    const int64_t shift = octave > 0 ? octave : 0;
    return (bucket - (shift << sub_bits)) << shift;
}

#endif
