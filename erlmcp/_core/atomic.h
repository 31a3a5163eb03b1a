/* C11 atomics over plain size_t words, so that Cython structs need no _Atomic members. */
#ifndef ERLMCP_ATOMIC_H
#define ERLMCP_ATOMIC_H

#include <stdatomic.h>
#include <stddef.h>

static inline size_t atomic_get_relaxed(const size_t *word) {
    return atomic_load_explicit((const _Atomic size_t *)word, memory_order_relaxed);
}

static inline size_t atomic_get_acquire(const size_t *word) {
    return atomic_load_explicit((const _Atomic size_t *)word, memory_order_acquire);
}

static inline void atomic_set_release(size_t *word, size_t value) {
    atomic_store_explicit((_Atomic size_t *)word, value, memory_order_release);
}

/* 1 where *word was *expected and is now wanted; else 0, and *expected is what was found. May fail spuriously. */
static inline int atomic_swap_if(size_t *word, size_t *expected, size_t wanted) {
    return atomic_compare_exchange_weak_explicit(
        (_Atomic size_t *)word, expected, wanted, memory_order_relaxed, memory_order_relaxed);
}

#endif
