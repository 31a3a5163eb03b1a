# C face of the batch. Hold the GIL.
from libc.stdint cimport int64_t


cdef class Batch:
    pass


# Adds a frame: 1 where the batch is due now, 0 where it is not, -1 with an exception.
cdef int batch_put(Batch batch, bytes frame, int64_t now_ns) except -1
# All frames joined; b"" where there are none.
cdef bytes batch_take(Batch batch)
