/* The places of a pool and its lock; see pool.pxd. What is named locked_* wants the lock taken; pool_* takes it. */
#ifndef ERLMCP_POOL_PLACE_H
#define ERLMCP_POOL_PLACE_H

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PLACE_FREE 0
#define PLACE_HELD 1 /* idle, or lent where the generation is odd */
#define PLACE_LEAVING 2 /* too old or idle too long: nobody gets it any more */
#define PLACE_NONE UINT32_MAX

typedef struct {
    void *member;
    int64_t old_at_ns; /* from then on it is not lent any more */
    int64_t since_ns; /* lent, idle or leaving since then */
    uint32_t generation;
    uint32_t state;
    void *who; /* the borrower; NULL for nobody */
    void *lease; /* of this loan or the last one, and the one before; the Python face's */
    void *spare;
    uint32_t next; /* free or leaving: the next such place, or PLACE_NONE */
} pool_place_t;

typedef struct {
    uint32_t lock;
    uint32_t idle_count;
    uint32_t *idle; /* a stack of indices, the longest idle at the bottom; as long as capacity */
    pool_place_t *places;
    int64_t now_ns;
    uint64_t lent_total;
    uint32_t capacity;
    uint32_t count; /* members: idle, lent and leaving */
    uint32_t opening_count; /* places reserved for members that are being made */
    uint32_t leaving_count;
    uint32_t leaving_first;
    uint32_t leaving_last;
    uint32_t free_first;
    uint32_t count_max;
    uint32_t count_min;
    int64_t idle_ns; /* 0 for no bound */
    int64_t age_ns;
    uint64_t added_total;
    uint64_t retired_total;
    uint64_t reclaimed_total;
} pool_t;

static void pool_init(pool_t *pool, uint32_t count_max) {
    memset(pool, 0, sizeof *pool);
    pool->leaving_first = pool->free_first = PLACE_NONE;
    pool->count_max = count_max;
}

/* Empty again, without the memory it had. */
static void pool_forget(pool_t *pool) {
    pool->idle = NULL;
    pool->places = NULL;
    pool->capacity = pool->count = pool->idle_count = pool->opening_count = pool->leaving_count = 0;
    pool->leaving_first = pool->free_first = PLACE_NONE;
}

static void pool_lock_wait(pool_t *pool) {
    _Atomic uint32_t *word = (_Atomic uint32_t *)&pool->lock;
    for (unsigned turn = 1;; turn++) {
        if (atomic_load_explicit(word, memory_order_relaxed) == 0
            && atomic_exchange_explicit(word, 1, memory_order_acquire) == 0)
            return;
        if (turn % 64 == 0) sched_yield(); /* its holder may have no processor */
#if defined(__x86_64__) || defined(__i386__)
        else __builtin_ia32_pause();
#endif
    }
}

static inline void pool_lock(pool_t *pool) {
    if (__builtin_expect(
            atomic_exchange_explicit((_Atomic uint32_t *)&pool->lock, 1, memory_order_acquire) != 0, 0))
        pool_lock_wait(pool);
}

static inline void pool_unlock(pool_t *pool) {
    atomic_store_explicit((_Atomic uint32_t *)&pool->lock, 0, memory_order_release);
}

static void locked_leave(pool_t *pool, uint32_t index) {
    pool_place_t *place = &pool->places[index];
    place->state = PLACE_LEAVING;
    place->since_ns = pool->now_ns;
    place->next = PLACE_NONE;
    if (pool->leaving_count) pool->places[pool->leaving_last].next = index;
    else pool->leaving_first = index;
    pool->leaving_last = index;
    pool->leaving_count++;
}

static void locked_vacate(pool_t *pool, uint32_t index) {
    pool_place_t *place = &pool->places[index];
    place->state = PLACE_FREE;
    place->member = NULL;
    place->next = pool->free_first;
    pool->free_first = index;
    pool->count--;
}

static int locked_may_add(const pool_t *pool, int is_reserved) {
    return is_reserved ? pool->opening_count > 0 : (uint64_t)pool->count + pool->opening_count < pool->count_max;
}

/* Takes over a bigger copy of the places, none of the old ones free; idle is as long already. */
static void locked_adopt(pool_t *pool, pool_place_t *places, uint32_t capacity) {
    memset(places + pool->capacity, 0, (capacity - pool->capacity) * sizeof *places);
    for (uint32_t i = pool->capacity; i < capacity; i++) places[i].next = i + 1 < capacity ? i + 1 : PLACE_NONE;
    pool->free_first = pool->capacity;
    pool->places = places;
    pool->capacity = capacity;
}

/* Needs a free place. Idle, or at once lent where handle is not NULL. */
static void locked_add(pool_t *pool, void *member, uint64_t *handle) {
    uint32_t index = pool->free_first;
    pool_place_t *place = &pool->places[index];
    pool->free_first = place->next;
    place->member = member;
    place->state = PLACE_HELD;
    place->since_ns = pool->now_ns;
    place->old_at_ns = pool->age_ns ? pool->now_ns + pool->age_ns : INT64_MAX;
    pool->count++;
    pool->added_total++;
    if (handle) {
        pool->lent_total++;
        *handle = (uint64_t)++place->generation << 32 | index;
    } else {
        pool->idle[pool->idle_count++] = index;
    }
}

static inline uint64_t locked_lend(pool_t *pool) {
    while (pool->idle_count) {
        uint32_t index = pool->idle[--pool->idle_count];
        pool_place_t *place = &pool->places[index];
        if (__builtin_expect(pool->now_ns >= place->old_at_ns, 0)) {
            locked_leave(pool, index);
            continue;
        }
        place->generation++;
        place->since_ns = pool->now_ns;
        pool->lent_total++;
        return (uint64_t)place->generation << 32 | index;
    }
    return 0;
}

static inline pool_place_t *locked_find(const pool_t *pool, uint64_t handle) {
    uint32_t index = (uint32_t)handle, generation = (uint32_t)(handle >> 32);
    if (index >= pool->capacity || pool->places[index].generation != generation || !(generation & 1)) return NULL;
    return &pool->places[index];
}

static inline int locked_return(pool_t *pool, pool_place_t *place, uint32_t index) {
    place->generation++;
    if (__builtin_expect(pool->now_ns >= place->old_at_ns, 0)) {
        locked_leave(pool, index);
        return 0;
    }
    place->since_ns = pool->now_ns;
    pool->idle[pool->idle_count++] = index;
    return 1;
}

/* After locked_find: the member is out and the caller's, and its place is free. */
static void *locked_take(pool_t *pool, uint32_t index, uint64_t *total) {
    void *member = pool->places[index].member;
    pool->places[index].generation++;
    ++*total;
    locked_vacate(pool, index);
    return member;
}

static inline uint64_t pool_lend(pool_t *pool, void **member) {
    pool_lock(pool);
    uint64_t handle = locked_lend(pool);
    if (handle) *member = pool->places[(uint32_t)handle].member;
    pool_unlock(pool);
    return handle;
}

static inline int pool_return(pool_t *pool, uint64_t handle) {
    int answer = -1;
    pool_lock(pool);
    pool_place_t *place = locked_find(pool, handle);
    if (place) answer = locked_return(pool, place, (uint32_t)handle);
    pool_unlock(pool);
    return answer;
}

static uint32_t pool_lent_count(pool_t *pool) {
    pool_lock(pool);
    uint32_t count = pool->count - pool->idle_count - pool->leaving_count;
    pool_unlock(pool);
    return count;
}

static uint32_t pool_room(pool_t *pool) {
    pool_lock(pool);
    uint32_t room = pool->count_max - pool->count - pool->opening_count;
    pool_unlock(pool);
    return room;
}

static uint32_t pool_shortage(pool_t *pool) {
    pool_lock(pool);
    uint32_t room = pool->count_max - pool->count - pool->opening_count;
    int64_t missing = (int64_t)pool->count_min - pool->count + pool->leaving_count - pool->opening_count;
    pool_unlock(pool);
    return missing <= 0 ? 0 : missing < room ? (uint32_t)missing : room;
}

static void pool_push_clock(pool_t *pool, int64_t now_ns) {
    pool_lock(pool);
    if (now_ns > pool->now_ns) pool->now_ns = now_ns;
    pool_unlock(pool);
}

static int pool_reserve(pool_t *pool) {
    pool_lock(pool);
    int has_room = locked_may_add(pool, 0);
    pool->opening_count += has_room;
    pool_unlock(pool);
    return has_room;
}

static int pool_unreserve(pool_t *pool) {
    pool_lock(pool);
    int was_reserved = pool->opening_count > 0;
    pool->opening_count -= was_reserved;
    pool_unlock(pool);
    return was_reserved;
}

static int pool_retire(pool_t *pool, uint64_t handle, void **member) {
    pool_lock(pool);
    int is_lent = locked_find(pool, handle) != NULL;
    if (is_lent) *member = locked_take(pool, (uint32_t)handle, &pool->retired_total);
    pool_unlock(pool);
    return is_lent;
}

static void pool_retire_all(pool_t *pool) {
    pool_lock(pool);
    for (uint32_t i = 0; i < pool->capacity; i++)
        if (pool->places[i].state != PLACE_FREE) pool->places[i].old_at_ns = INT64_MIN;
    pool_unlock(pool);
}

static void pool_expire(pool_t *pool) {
    uint32_t kept = 0, gone = 0;
    pool_lock(pool);
    for (uint32_t i = 0; i < pool->idle_count; i++) {
        uint32_t index = pool->idle[i];
        if (pool->now_ns >= pool->places[index].old_at_ns) locked_leave(pool, index);
        else pool->idle[kept++] = index;
    }
    while (pool->idle_ns && gone < kept && pool->count - pool->leaving_count > pool->count_min
           && pool->now_ns >= pool->places[pool->idle[gone]].since_ns + pool->idle_ns)
        locked_leave(pool, pool->idle[gone++]);
    for (uint32_t i = gone; gone && i < kept; i++) pool->idle[i - gone] = pool->idle[i];
    pool->idle_count = kept - gone;
    pool_unlock(pool);
}

static int pool_take_leaving(pool_t *pool, void **member) {
    pool_lock(pool);
    uint32_t index = pool->leaving_first;
    if (index != PLACE_NONE) {
        *member = pool->places[index].member;
        pool->leaving_first = pool->places[index].next;
        pool->leaving_count--;
        pool->retired_total++;
        locked_vacate(pool, index);
    }
    pool_unlock(pool);
    return index != PLACE_NONE;
}

static int locked_check(const pool_t *pool) {
    uint32_t held = 0, lent = 0, leaving = 0, free_count = 0, index;
    if ((uint64_t)pool->count + pool->opening_count > pool->count_max || pool->capacity > pool->count_max) return 1;
    for (uint32_t i = 0; i < pool->capacity; i++) {
        held += pool->places[i].state == PLACE_HELD;
        lent += pool->places[i].generation & 1;
        if (pool->places[i].generation & 1 && pool->places[i].state != PLACE_HELD) return 2;
    }
    for (uint32_t i = 0; i < pool->idle_count; i++) {
        index = pool->idle[i];
        if (index >= pool->capacity || pool->places[index].state != PLACE_HELD) return 3;
        if (pool->places[index].generation & 1) return 3;
        if (i && pool->places[pool->idle[i - 1]].since_ns > pool->places[index].since_ns) return 4;
    }
    for (index = pool->leaving_first; index != PLACE_NONE; index = pool->places[index].next)
        if (index >= pool->capacity || pool->places[index].state != PLACE_LEAVING || leaving++ > pool->capacity)
            return 5;
    for (index = pool->free_first; index != PLACE_NONE; index = pool->places[index].next)
        if (index >= pool->capacity || pool->places[index].state != PLACE_FREE || free_count++ > pool->capacity)
            return 6;
    if (held != lent + pool->idle_count || leaving != pool->leaving_count || pool->count != held + leaving) return 7;
    return pool->count + free_count == pool->capacity ? 0 : 8;
}

static int pool_check(pool_t *pool) {
    pool_lock(pool);
    int broken = locked_check(pool);
    pool_unlock(pool);
    return broken;
}

#endif
