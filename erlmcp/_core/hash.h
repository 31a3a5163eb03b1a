/* A keyed 64-bit hash of byte strings, by folded 64x64->128 multiplication.
 *
 * Both factors of every product depend on the seed. With a public constant as one factor, a key that cancels the
 * constant makes the product zero whatever the seed is, and such keys collide by design; here they cannot be found
 * without the seed.
 */
#ifndef ERLMCP_HASH_H
#define ERLMCP_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_fold(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_read_8(const char *data) {
    uint64_t word;
    memcpy(&word, data, 8);
    return word;
}

static inline uint64_t hash_read_4(const char *data) {
    uint32_t word;
    memcpy(&word, data, 4);
    return word;
}

/* 0 and 1 mark free slots and tombstones in a table. */
static inline uint64_t hash_usable(uint64_t hash) {
    return hash < 2 ? hash + 2 : hash;
}

static inline uint64_t hash_second_key(uint64_t seed) {
    return (seed ^ (seed >> 32)) * UINT64_C(0x9E3779B97F4A7C15) ^ UINT64_C(0xD1B54A32D192ED03);
}

static inline uint64_t hash_bytes(const char *data, size_t size, uint64_t seed) {
    const uint64_t first = seed ^ UINT64_C(0xA0761D6478BD642F);
    const uint64_t second = hash_second_key(seed);
    uint64_t state = second;
    uint64_t a;
    uint64_t b;
    if (size > 16) {
        const char *end = data + size;
        do {
            state = hash_fold(hash_read_8(data) ^ first, hash_read_8(data + 8) ^ state);
            data += 16;
        } while (end - data > 16);
        a = hash_read_8(end - 16);
        b = hash_read_8(end - 8);
    } else if (size >= 8) {
        a = hash_read_8(data);
        b = hash_read_8(data + size - 8);
    } else if (size >= 4) {
        a = hash_read_4(data);
        b = hash_read_4(data + size - 4);
    } else if (size > 0) {
        a = (uint64_t)(unsigned char)data[0] << 16 | (uint64_t)(unsigned char)data[size >> 1] << 8 |
            (uint64_t)(unsigned char)data[size - 1];
        b = 0;
    } else {
        a = 0;
        b = 0;
    }
    return hash_usable(hash_fold(first ^ (uint64_t)size, hash_fold(a ^ first, b ^ state) ^ second));
}

static inline uint64_t hash_word(uint64_t word, uint64_t seed) {
    const uint64_t second = hash_second_key(seed);
    return hash_usable(hash_fold(word ^ seed ^ UINT64_C(0xA0761D6478BD642F), second));
}

#endif
