"""The two places of an executor's carriers, which the short way looks at for every read."""


cdef class Berth:
    """``spare`` is the carrier that is parked, ``carrier`` the one that is entered; None where there is none."""
