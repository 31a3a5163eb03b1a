"""What the load generator needs of Linux and what the cimports that come with Cython lack."""

from posix.time cimport itimerspec


cdef extern from "<time.h>" nogil:
    enum: CLOCK_THREAD_CPUTIME_ID


cdef extern from "<sys/timerfd.h>" nogil:
    enum: TFD_NONBLOCK
    enum: TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)
