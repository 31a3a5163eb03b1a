/* The bones of the sieve: entries of one cache line that are named by their numbers, an index of words, two lists
 * through the entries. Nothing here allocates, fails or touches a reference count.
 *
 * Entry 0 is the end of both lists and is never found. The index holds ``hash << 32 | number``, 0 where free: linear
 * probing over a power of two, a removal shifts back what it had pushed on, so there are no tombstones.
 */
#ifndef ERLMCP_SIEVE_H
#define ERLMCP_SIEVE_H

#include <Python.h>

#include "text.h"

enum {
    SIEVE_FREE = 0,    /* in the list of free entries, by ``newer`` */
    SIEVE_LEAVING = 1, /* out of the structure, its objects still to be dropped; in a list by ``newer`` */
    SIEVE_ENDLESS = 2, /* held, in no order of deadlines of the sieve's */
    SIEVE_BORN = 3     /* held, and in the list of those with the default time to live */
};

enum { SIEVE_SWEEP_MAX = 256 }; /* second chances in one search */

typedef struct {
    PyObject *key; /* an exact bytes, or an exact str in ASCII */
    PyObject *value;
    int64_t deadline; /* not found from this time on; INT64_MAX for never */
    uint64_t size_bytes;
    void *extra;    /* what the owner knows of few entries; NULL for most */
    uint32_t older; /* the queue, in order of insertion */
    uint32_t newer;
    uint32_t sooner; /* those with the default time to live, in order of their deadlines */
    uint32_t later;
    uint32_t hash;
    uint8_t state;
    uint8_t is_used; /* since the hand passed */
    uint8_t is_negative;
    uint8_t is_text; /* ``key`` is bytes and stands for a str */
} sieve_entry_t;

_Static_assert(sizeof(sieve_entry_t) == 64 || sizeof(void *) != 8, "an entry is one cache line");

typedef struct {
    uint64_t *slots;
    size_t mask;
    sieve_entry_t *entries; /* aligned within the owner's block */
    size_t count;
    uint64_t bytes_held;
    uint32_t capacity; /* entries, with entry 0; 0 before the first */
    uint32_t first_free;
    uint32_t hand; /* where the next search for a victim starts; 0 for the oldest */
} sieve_t;

static const uint64_t sieve_no_slot = 0; /* the index of a sieve that has none */

static inline void sieve_init(sieve_t *self) {
    memset(self, 0, sizeof(sieve_t));
    self->slots = (uint64_t *)&sieve_no_slot;
}

static inline int sieve_has_index(const sieve_t *self) {
    return self->slots != &sieve_no_slot;
}

static inline const char *sieve_key_data(PyObject *key, size_t *size) {
    if (PyUnicode_CheckExact(key)) {
        *size = (size_t)((PyASCIIObject *)key)->length;
        return (const char *)((PyASCIIObject *)key + 1);
    }
    *size = (size_t)Py_SIZE(key);
    return ((PyBytesObject *)key)->ob_sval;
}

static inline uint32_t sieve_hash(const text_t *text) {
    return (uint32_t)(text->hash ^ (text->hash >> 32));
}

/* The entry in the first slot that a text may be in: what a search will most likely read. */
static inline sieve_entry_t *sieve_guess(const sieve_t *self, const text_t *text) {
    return &self->entries[(uint32_t)self->slots[sieve_hash(text) & self->mask]];
}

/* The entry of a key, live or not; 0 for none. */
static inline uint32_t sieve_find(const sieve_t *self, const text_t *text) {
    const uint32_t hash = sieve_hash(text);
    size_t at = hash;
    for (;; at++) {
        const uint64_t slot = self->slots[at & self->mask];
        if (slot == 0) return 0;
        if ((uint32_t)(slot >> 32) == hash) {
            size_t size;
            const char *data = sieve_key_data(self->entries[(uint32_t)slot].key, &size);
            if (size == text->size && (data == text->data || text_is_equal(data, text->data, size)))
                return (uint32_t)slot;
        }
    }
}

static inline void sieve_index_add(sieve_t *self, uint32_t hash, uint32_t at) {
    size_t place = hash & self->mask;
    while (self->slots[place]) place = (place + 1) & self->mask;
    self->slots[place] = (uint64_t)hash << 32 | at;
}

static inline void sieve_index_remove(sieve_t *self, uint32_t hash, uint32_t at) {
    size_t hole = hash & self->mask;
    size_t place;
    while ((uint32_t)self->slots[hole] != at) hole = (hole + 1) & self->mask;
    for (place = (hole + 1) & self->mask; self->slots[place]; place = (place + 1) & self->mask) {
        const size_t home = (size_t)(self->slots[place] >> 32);
        /* It may fill the hole unless its home lies behind the hole, up to its place. */
        if (((place - home) & self->mask) >= ((place - hole) & self->mask)) {
            self->slots[hole] = self->slots[place];
            hole = place;
        }
    }
    self->slots[hole] = 0;
}

/* Goes over to an index of ``size`` zeroed slots, a power of two; the old one is the caller's to free. */
static inline void sieve_use_index(sieve_t *self, uint64_t *slots, size_t size) {
    const uint64_t *old = self->slots;
    const size_t old_size = self->mask + 1;
    size_t i;
    self->slots = slots;
    self->mask = size - 1;
    for (i = 0; i < old_size; i++) {
        if (old[i]) sieve_index_add(self, (uint32_t)(old[i] >> 32), (uint32_t)old[i]);
    }
}

/* Goes over to a larger array of entries, when none is free; the old one is the caller's to free. */
static inline void sieve_use_entries(sieve_t *self, sieve_entry_t *entries, uint32_t capacity) {
    uint32_t i;
    if (self->capacity) {
        memcpy(entries, self->entries, self->capacity * sizeof(sieve_entry_t));
    } else {
        memset(entries, 0, sizeof(sieve_entry_t));
        self->capacity = 1;
    }
    for (i = self->capacity; i < capacity; i++) {
        entries[i].state = SIEVE_FREE;
        entries[i].newer = i + 1 < capacity ? i + 1 : 0;
    }
    self->first_free = self->capacity;
    self->capacity = capacity;
    self->entries = entries;
}

/* Makes the first free entry the newest of the queue, under a key whose reference is given. */
static inline uint32_t sieve_place(sieve_t *self, const text_t *text, PyObject *key) {
    sieve_entry_t *entries = self->entries;
    const uint32_t at = self->first_free;
    sieve_entry_t *entry = &entries[at];
    self->first_free = entry->newer;
    entry->key = key;
    entry->hash = sieve_hash(text);
    entry->extra = NULL;
    entry->is_used = 0;
    entry->state = SIEVE_ENDLESS;
    entry->newer = 0;
    entry->older = entries[0].older;
    entries[entry->older].newer = at;
    entries[0].older = at;
    sieve_index_add(self, entry->hash, at);
    self->count++;
    return at;
}

static inline void sieve_link_birth(sieve_t *self, uint32_t at) {
    sieve_entry_t *entries = self->entries;
    entries[at].state = SIEVE_BORN;
    entries[at].later = 0;
    entries[at].sooner = entries[0].sooner;
    entries[entries[at].sooner].later = at;
    entries[0].sooner = at;
}

static inline void sieve_unlink_birth(sieve_t *self, uint32_t at) {
    sieve_entry_t *entries = self->entries;
    if (entries[at].state != SIEVE_BORN) return;
    entries[entries[at].sooner].later = entries[at].later;
    entries[entries[at].later].sooner = entries[at].sooner;
    entries[at].state = SIEVE_ENDLESS;
}

/* Takes an entry out of index, queue and births, and makes it the first of the list of those that leave. */
static inline void sieve_detach(sieve_t *self, uint32_t at, uint32_t *leaving) {
    sieve_entry_t *entries = self->entries;
    sieve_entry_t *entry = &entries[at];
    sieve_index_remove(self, entry->hash, at);
    if (self->hand == at) self->hand = entry->newer;
    entries[entry->older].newer = entry->newer;
    entries[entry->newer].older = entry->older;
    sieve_unlink_birth(self, at);
    self->bytes_held -= entry->size_bytes;
    self->count--;
    entry->state = SIEVE_LEAVING;
    entry->newer = *leaving;
    *leaving = at;
}

/* The entry that is to go; ``spared`` is passed by, and there is another one. */
static inline uint32_t sieve_victim(sieve_t *self, uint32_t spared) {
    sieve_entry_t *entries = self->entries;
    uint32_t at = self->hand ? self->hand : entries[0].newer;
    uint32_t passed = 0;
    while (at == spared || (entries[at].is_used && passed < SIEVE_SWEEP_MAX)) {
        if (at != spared) entries[at].is_used = 0;
        passed++;
        at = entries[at].newer;
        if (at == 0) at = entries[0].newer;
    }
    self->hand = at;
    return at;
}

/* 0, or the number of the first broken invariant. O(n). */
static inline int sieve_check(const sieve_t *self, uint64_t seed) {
    const sieve_entry_t *entries = self->entries;
    size_t queued = 0, born = 0, indexed = 0, i;
    uint64_t held = 0;
    uint32_t at;
    for (i = 0; i <= self->mask; i++) indexed += self->slots[i] != 0;
    if (indexed != self->count || (self->capacity == 0 && self->count)) return 1;
    if (self->capacity == 0) return 0;
    for (at = entries[0].newer; at; at = entries[at].newer) {
        text_t text;
        size_t size;
        const char *data = sieve_key_data(entries[at].key, &size);
        text_of_data(&text, data, size, seed);
        if (sieve_hash(&text) != entries[at].hash || sieve_find(self, &text) != at) return 2;
        if (entries[entries[at].newer].older != at || entries[at].state <= SIEVE_LEAVING) return 3;
        held += entries[at].size_bytes;
        if (++queued > self->count) return 4;
        born += entries[at].state == SIEVE_BORN;
    }
    if (queued != self->count || held != self->bytes_held) return 5;
    if (self->hand && entries[self->hand].state <= SIEVE_LEAVING) return 6;
    for (at = entries[0].later; at; at = entries[at].later) {
        const uint32_t later = entries[at].later;
        if (entries[at].state != SIEVE_BORN || entries[later].sooner != at) return 7;
        if (later && entries[later].deadline < entries[at].deadline) return 8;
        if (born-- == 0) return 9;
    }
    return born ? 10 : 0;
}

#endif
