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

/* One place in the one order of all *_ordered accesses (memory_order_seq_cst). */
static inline size_t atomic_get_ordered(const size_t *word) {
    return atomic_load_explicit((const _Atomic size_t *)word, memory_order_seq_cst);
}

static inline void atomic_set_relaxed(size_t *word, size_t value) {
    atomic_store_explicit((_Atomic size_t *)word, value, memory_order_relaxed);
}

static inline void atomic_set_release(size_t *word, size_t value) {
    atomic_store_explicit((_Atomic size_t *)word, value, memory_order_release);
}

static inline void atomic_set_ordered(size_t *word, size_t value) {
    atomic_store_explicit((_Atomic size_t *)word, value, memory_order_seq_cst);
}

/* 1 where *word was *expected and is now wanted; else 0, and *expected is what was found. May fail spuriously. */
static inline int atomic_swap_if(size_t *word, size_t *expected, size_t wanted) {
    return atomic_compare_exchange_weak_explicit(
        (_Atomic size_t *)word, expected, wanted, memory_order_relaxed, memory_order_relaxed);
}

/* 1 where *word was expected and is now wanted; never fails spuriously. */
static inline int atomic_swap_if_ordered(size_t *word, size_t expected, size_t wanted) {
    return atomic_compare_exchange_strong_explicit(
        (_Atomic size_t *)word, &expected, wanted, memory_order_seq_cst, memory_order_relaxed);
}

/* What *word was before it became value. */
static inline size_t atomic_swap_ordered(size_t *word, size_t value) {
    return atomic_exchange_explicit((_Atomic size_t *)word, value, memory_order_seq_cst);
}

/* What *word was before change was added (modulo 2**64: (size_t)-1 subtracts one). */
static inline size_t atomic_add_ordered(size_t *word, size_t change) {
    return atomic_fetch_add_explicit((_Atomic size_t *)word, change, memory_order_seq_cst);
}

/* Stores before it are seen before loads after it: the two halves of "I publish, then look whether you sleep". */
static inline void atomic_fence_ordered(void) {
    atomic_thread_fence(memory_order_seq_cst);
}

#endif
