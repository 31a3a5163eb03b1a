/* A min-heap of (time, serial): the order in which sessions are to be looked at, four children to a node.
 *
 * An entry may be behind its session: the session was touched since (its true time is later), or is gone (the handle
 * is stale). No entry is ever ahead, so the top, once it was brought up to date and stayed the top, is the true first.
 */
#ifndef ERLMCP_SESSION_ORDER_H
#define ERLMCP_SESSION_ORDER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t time_ns;
    uint64_t serial; /* of the birth: decides between equal times, and differs in any two entries of live sessions */
    uint64_t handle;
} order_entry_t;

typedef struct {
    order_entry_t *entries;
    size_t count;
    size_t capacity;
} order_t;

static inline int order_is_before(const order_entry_t *a, const order_entry_t *b) {
    return a->time_ns < b->time_ns || (a->time_ns == b->time_ns && a->serial < b->serial);
}

static inline void order_sink(order_t *order, size_t at, order_entry_t entry) {
    order_entry_t *entries = order->entries;
    size_t count = order->count;
    for (;;) {
        size_t child = at * 4 + 1;
        size_t end = child + 4 < count ? child + 4 : count;
        size_t least = child;
        if (child >= count) break;
        if (child * 4 + 1 < count) __builtin_prefetch(&entries[child * 4 + 1]);
        for (child += 1; child < end; child++) {
            if (order_is_before(&entries[child], &entries[least])) least = child;
        }
        if (!order_is_before(&entries[least], &entry)) break;
        entries[at] = entries[least];
        at = least;
    }
    entries[at] = entry;
}

/* There must be room: ``count`` is below ``capacity``. */
static inline void order_push(order_t *order, int64_t time_ns, uint64_t serial, uint64_t handle) {
    order_entry_t *entries = order->entries;
    order_entry_t entry = {time_ns, serial, handle};
    size_t at = order->count++;
    while (at > 0 && order_is_before(&entry, &entries[(at - 1) / 4])) {
        entries[at] = entries[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    entries[at] = entry;
}

/* The top has a later time: where it belongs now. */
static inline void order_delay(order_t *order, int64_t time_ns) {
    order_entry_t entry = order->entries[0];
    entry.time_ns = time_ns;
    order_sink(order, 0, entry);
}

static inline void order_pop(order_t *order) {
    order->count -= 1;
    if (order->count > 0) order_sink(order, 0, order->entries[order->count]);
}

/* Makes a heap of entries in any order, in O(n). */
static inline void order_heapify(order_t *order) {
    size_t at = order->count < 2 ? 0 : (order->count - 2) / 4 + 1;
    while (at-- > 0) order_sink(order, at, order->entries[at]);
}

/* 1 where every entry comes after its parent. */
static inline int order_is_heap(const order_t *order) {
    size_t at;
    if (order->count > order->capacity) return 0;
    for (at = 1; at < order->count; at++) {
        if (order_is_before(&order->entries[at], &order->entries[(at - 1) / 4])) return 0;
    }
    return 1;
}

#endif
