"""Intrusive doubly linked list: recency and expiry order.

The node lies in the owner's record, so nothing here allocates or fails. The list is circular through ``root``, so no
verb has a special case for an end; a node in no list has ``next`` NULL. A chain must not be moved in memory while it
has nodes.
"""

from cpython.object cimport PyObject


ctypedef struct chain_node_t:
    chain_node_t* prev
    chain_node_t* next


ctypedef struct chain_t:
    chain_node_t root
    size_t count


# 0, or the number of the first broken invariant. O(n).
cdef int chain_check(const chain_t* self) noexcept nogil


cdef inline void chain_init(chain_t* self) noexcept nogil:
    self.root.prev = self.root.next = &self.root
    self.count = 0


cdef inline void chain_node_init(chain_node_t* node) noexcept nogil:
    node.prev = node.next = NULL


cdef inline bint chain_is_linked(const chain_node_t* node) noexcept nogil:
    return node.next != NULL


cdef inline void chain_push_back(chain_t* self, chain_node_t* node) noexcept nogil:
    """``node`` must be in no chain."""
    node.prev = self.root.prev
    node.next = &self.root
    self.root.prev.next = node
    self.root.prev = node
    self.count += 1


cdef inline void chain_push_front(chain_t* self, chain_node_t* node) noexcept nogil:
    """``node`` must be in no chain."""
    node.next = self.root.next
    node.prev = &self.root
    self.root.next.prev = node
    self.root.next = node
    self.count += 1


cdef inline void chain_remove(chain_t* self, chain_node_t* node) noexcept nogil:
    """``node`` must be in this chain."""
    node.prev.next = node.next
    node.next.prev = node.prev
    node.prev = node.next = NULL
    self.count -= 1


cdef inline void chain_move_to_back(chain_t* self, chain_node_t* node) noexcept nogil:
    """``node`` must be in this chain."""
    node.prev.next = node.next
    node.next.prev = node.prev
    node.prev = self.root.prev
    node.next = &self.root
    self.root.prev.next = node
    self.root.prev = node


cdef inline void chain_move_to_front(chain_t* self, chain_node_t* node) noexcept nogil:
    """``node`` must be in this chain."""
    node.prev.next = node.next
    node.next.prev = node.prev
    node.next = self.root.next
    node.prev = &self.root
    self.root.next.prev = node
    self.root.next = node


cdef inline chain_node_t* chain_front(const chain_t* self) noexcept nogil:
    """The first node, or NULL."""
    return self.root.next if self.count else NULL


cdef inline chain_node_t* chain_back(const chain_t* self) noexcept nogil:
    """The last node, or NULL."""
    return self.root.prev if self.count else NULL


cdef inline chain_node_t* chain_after(const chain_t* self, const chain_node_t* node) noexcept nogil:
    """The node after ``node``, or NULL."""
    return node.next if node.next != &self.root else NULL


cdef inline chain_node_t* chain_pop_front(chain_t* self) noexcept nogil:
    """Removes and gives the first node, or NULL."""
    cdef chain_node_t* node = self.root.next
    if self.count == 0:
        return NULL
    chain_remove(self, node)
    return node


cdef inline chain_node_t* chain_pop_back(chain_t* self) noexcept nogil:
    """Removes and gives the last node, or NULL."""
    cdef chain_node_t* node = self.root.prev
    if self.count == 0:
        return NULL
    chain_remove(self, node)
    return node


# What the class hangs on: the node first, so that a node's address is its link's.
ctypedef struct link_t:
    chain_node_t node
    chain_t* chain  # valid while the node is linked
    PyObject* owner  # the Link this lies in; borrowed


cdef class Link:
    cdef link_t link
    cdef object key


cdef class Chain:
    cdef chain_t chain
    cdef dict links
    cdef size_t changes
    cdef Link find(self, key)
    cdef object pop_node(self, chain_node_t* node, default)
