/* Zeroed memory that begins at a cache line, in huge pages where it is large: a table that is asked at random then
 * misses the cache only, not the translation of its address too.
 */
#ifndef ERLMCP_LINES_H
#define ERLMCP_LINES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define LINES_LINE_BYTES 64
#define LINES_HUGE_BYTES ((size_t)2 << 20)

/* NULL where there is no memory or the product overflows. Freed by free(). */
static inline void *lines_zalloc(size_t count, size_t size) {
    size_t bytes;
    void *block;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    if (posix_memalign(&block, bytes < LINES_HUGE_BYTES ? LINES_LINE_BYTES : LINES_HUGE_BYTES, bytes ? bytes : 1)) {
        return NULL;
    }
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    /* Before the first touch. An older kernel says no, and small pages serve. */
    if (bytes >= LINES_HUGE_BYTES) (void)madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return memset(block, 0, bytes);
}

#endif
