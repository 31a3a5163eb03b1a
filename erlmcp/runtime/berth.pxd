"""The C face of ``berth``."""


cdef class Berth:
    cdef public object spare
    cdef public object carrier
