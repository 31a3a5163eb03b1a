"""The counters and the failing allocator of the checked build. In release all numbers here are zero."""

from cpython.object cimport PyObject


cdef extern from * nogil:
    """
    #include <stdatomic.h>
    #include <stdlib.h>
    #include "lines.h"
    #if defined(__APPLE__)
    #include <malloc/malloc.h>
    #define block_bytes(block) malloc_size(block)
    #else
    #include <malloc.h>
    #define block_bytes(block) malloc_usable_size(block)
    #endif

    static atomic_llong memory_blocks;
    static atomic_llong memory_bytes;
    static atomic_llong memory_countdown;  /* the allocation that makes this 0 fails; at 0 or below none does */
    static atomic_int memory_fails_on;     /* every allocation fails */
    static atomic_int memory_stays_failed; /* reaching 0 sets memory_fails_on */

    static int memory_must_fail(void) {
        if (atomic_load(&memory_fails_on)) return 1;
        if (atomic_load(&memory_countdown) <= 0 || atomic_fetch_sub(&memory_countdown, 1) != 1) return 0;
        if (atomic_load(&memory_stays_failed)) atomic_store(&memory_fails_on, 1);
        return 1;
    }

    static void memory_fail_after(long long count, int forever) {
        atomic_store(&memory_fails_on, 0);
        atomic_store(&memory_stays_failed, forever);
        atomic_store(&memory_countdown, count);
    }

    static void *memory_count_in(void *block) {
        if (block) {
            atomic_fetch_add(&memory_blocks, 1);
            atomic_fetch_add(&memory_bytes, (long long)block_bytes(block));
        }
        return block;
    }

    static void *memory_alloc(size_t size) {
        return memory_must_fail() ? NULL : memory_count_in(malloc(size));
    }

    static void *memory_zalloc(size_t count, size_t size) {
        return memory_must_fail() ? NULL : memory_count_in(calloc(count, size));
    }

    static void *memory_zalloc_lines(size_t count, size_t size) {
        return memory_must_fail() ? NULL : memory_count_in(lines_zalloc(count, size));
    }

    static void *memory_realloc(void *block, size_t size) {
        long long before = block ? (long long)block_bytes(block) : 0;
        void *moved;
        if (memory_must_fail()) return NULL;
        moved = realloc(block, size);
        if (moved && block) atomic_fetch_add(&memory_bytes, (long long)block_bytes(moved) - before);
        return block ? moved : memory_count_in(moved);
    }

    static void memory_free(void *block) {
        if (!block) return;
        atomic_fetch_sub(&memory_blocks, 1);
        atomic_fetch_sub(&memory_bytes, (long long)block_bytes(block));
        free(block);
    }

    static long long memory_live_blocks(void) { return atomic_load(&memory_blocks); }
    static long long memory_live_bytes(void) { return atomic_load(&memory_bytes); }
    """
    void* memory_alloc(size_t size) noexcept
    void* memory_zalloc(size_t count, size_t size) noexcept
    void* memory_zalloc_lines(size_t count, size_t size) noexcept
    void* memory_realloc(void* block, size_t size) noexcept
    void memory_free(void* block) noexcept
    void memory_fail_after(long long count, int forever) noexcept
    long long memory_live_blocks() noexcept
    long long memory_live_bytes() noexcept


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        traverse_t tp_traverse
        clear_t tp_clear
    void PyType_Modified(PyTypeObject* kind) noexcept

cdef extern from *:
    """
    /* The collector must not be disturbed while it walks, and line tracing makes objects: a build that traces lines
       walks without it. One function serves all types, so it looks up what a type's own is. */
    #if defined(CYTHON_TRACE_NOGIL) && CYTHON_TRACE_NOGIL
    static struct { PyTypeObject *kind; traverseproc traverse; } untraced[64];

    static int traverse_untraced(PyObject *self, visitproc visit, void *arg) {
        PyTypeObject *kind;
        PyThreadState *state = PyThreadState_Get();
        int i, stop = 0;
        for (kind = Py_TYPE(self); kind != NULL; kind = kind->tp_base) {
            for (i = 0; i < 64 && untraced[i].kind != NULL; i++) {
                if (untraced[i].kind == kind) {
                    PyThreadState_EnterTracing(state);
                    stop = untraced[i].traverse(self, visit, arg);
                    PyThreadState_LeaveTracing(state);
                    return stop;
                }
            }
        }
        return 0;
    }

    static traverseproc memory_quiet(PyTypeObject *kind, traverseproc traverse) {
        int i = 0;
        while (i < 63 && untraced[i].kind != NULL) i++;
        untraced[i].kind = kind;
        untraced[i].traverse = traverse;
        return traverse_untraced;
    }
    #else
    static traverseproc memory_quiet(PyTypeObject *kind, traverseproc traverse) { return traverse; }
    #endif
    """
    traverse_t memory_quiet(PyTypeObject* kind, traverse_t traverse) noexcept


IS_CHECKED = bool(ERLMCP_IS_CHECKED)


cdef void* counted_alloc(size_t size) noexcept nogil:
    return memory_alloc(size)


cdef void* counted_zalloc(size_t count, size_t size) noexcept nogil:
    return memory_zalloc(count, size)


cdef void* counted_zalloc_lines(size_t count, size_t size) noexcept nogil:
    return memory_zalloc_lines(count, size)


cdef void* counted_realloc(void* block, size_t size) noexcept nogil:
    return memory_realloc(block, size)


cdef void counted_free(void* block) noexcept nogil:
    memory_free(block)


cdef void hold_objects(type kind, traverse_t traverse, clear_t clear) noexcept:
    cdef PyTypeObject* slots = <PyTypeObject*><PyObject*>kind
    slots.tp_traverse = memory_quiet(slots, traverse)
    slots.tp_clear = clear
    PyType_Modified(slots)


def live_blocks():
    return memory_live_blocks()


def live_bytes():
    return memory_live_bytes()


def fail_after(count, forever=False):
    if count < 1:
        raise ValueError(f"count must be at least 1 (the next allocation), got {count}")
    if ERLMCP_IS_CHECKED:
        memory_fail_after(count, bool(forever))


def fail_never():
    memory_fail_after(0, 0)
