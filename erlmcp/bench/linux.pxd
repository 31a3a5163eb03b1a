"""What the load generator needs of Linux and what the cimports that come with Cython lack."""

from libc.stdint cimport uint32_t, uint64_t
from posix.time cimport itimerspec


cdef extern from "<time.h>" nogil:
    enum: CLOCK_THREAD_CPUTIME_ID


cdef extern from "<sys/timerfd.h>" nogil:
    enum: TFD_NONBLOCK
    enum: TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)


cdef extern from "<sys/epoll.h>" nogil:
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_MOD
    enum: EPOLL_CTL_DEL
    enum: EPOLLIN
    enum: EPOLLOUT
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
