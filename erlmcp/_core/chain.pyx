"""Intrusive doubly linked list; see chain.pxd. The class keeps hashable keys in order over it."""

cimport cython


cdef int chain_check(const chain_t* self) noexcept nogil:
    cdef size_t left = self.count
    cdef const chain_node_t* node = &self.root
    if self.root.next == NULL:
        return 1
    while True:
        if node.next == NULL or node.next.prev != node:
            return 2
        node = node.next
        if node == &self.root:
            return 3 if left else 0
        if left == 0:
            return 4
        left -= 1


@cython.final
@cython.freelist(64)
cdef class Link:
    """A node and the key it stands for. The dict of the chain owns it; the C list borrows it, so it takes itself out
    when it dies: the garbage collector may empty the dict before the chain is gone."""

    def __cinit__(self, key):
        self.key = key
        self.link.owner = <PyObject*>self

    def __dealloc__(self):
        if chain_is_linked(&self.link.node):
            chain_remove(self.link.chain, &self.link.node)


cdef inline Link link_of(chain_node_t* node):
    return <Link>(<link_t*>node).owner


cdef class Chain:
    def __cinit__(self):
        chain_init(&self.chain)
        self.links = {}

    def __dealloc__(self):
        while chain_pop_front(&self.chain) != NULL:
            pass

    def __len__(self):
        return <Py_ssize_t>self.chain.count

    def __contains__(self, key):
        return key in self.links

    def __iter__(self):
        return ChainIterator.__new__(ChainIterator, self)

    def add(self, key):
        cdef Link link = Link.__new__(Link, key)
        if self.links.setdefault(key, link) is not link:
            return False
        link.link.chain = &self.chain
        chain_push_back(&self.chain, &link.link.node)
        self.changes += 1
        return True

    def move_to_end(self, key, last=True):
        cdef Link link = self.find(key)
        if link is None:
            raise KeyError(key)
        if last:
            chain_move_to_back(&self.chain, &link.link.node)
        else:
            chain_move_to_front(&self.chain, &link.link.node)
        self.changes += 1

    def remove(self, key):
        cdef Link link = self.links.pop(key, None)
        if link is None:
            return False
        if chain_is_linked(&link.link.node):
            chain_remove(&self.chain, &link.link.node)
            self.changes += 1
        return True

    def oldest(self, default=None):
        return link_of(chain_front(&self.chain)).key if self.chain.count else default

    def newest(self, default=None):
        return link_of(chain_back(&self.chain)).key if self.chain.count else default

    def pop_oldest(self, default=None):
        return self.pop_node(chain_front(&self.chain), default)

    def pop_newest(self, default=None):
        return self.pop_node(chain_back(&self.chain), default)

    def clear(self):
        cdef dict links = self.links
        while chain_pop_front(&self.chain) != NULL:
            pass
        self.links = {}
        self.changes += 1
        links.clear()

    def check(self):
        cdef int broken = chain_check(&self.chain)
        if broken:
            raise AssertionError(f"chain: invariant {broken} is broken")
        if len(self.links) != <Py_ssize_t>self.chain.count:
            raise AssertionError(f"chain: {len(self.links)} keys, {self.chain.count} nodes")

    cdef Link find(self, key):
        """The link of a key, or None. A comparison of keys may have changed the chain meanwhile: only a linked one
        counts."""
        cdef Link link = self.links.get(key)
        return link if link is not None and chain_is_linked(&link.link.node) else None

    cdef object pop_node(self, chain_node_t* node, default):
        cdef Link link
        if node == NULL:
            return default
        link = link_of(node)
        self.links.pop(link.key, None)
        if chain_is_linked(&link.link.node):
            chain_remove(&self.chain, &link.link.node)
            self.changes += 1
        return link.key


@cython.final
cdef class ChainIterator:
    """Keys from the oldest to the newest. It holds the link it stands on, so that link's memory is there whatever
    happens."""

    cdef Chain chain
    cdef Link at
    cdef size_t changes

    def __cinit__(self, Chain chain not None):
        self.chain = chain
        self.changes = chain.changes

    def __iter__(self):
        return self

    def __next__(self):
        cdef chain_node_t* node
        if self.changes != self.chain.changes:
            raise RuntimeError("the chain changed during iteration")
        if self.at is None:
            node = chain_front(&self.chain.chain)
        else:
            node = chain_after(&self.chain.chain, &self.at.link.node)
        if node == NULL:
            raise StopIteration
        self.at = link_of(node)
        return self.at.key
