"""What the poller and the load generators need of Linux: an epoll, and system calls on sockets that give -errno."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "<sys/epoll.h>" nogil:
    enum: EPOLL_CLOEXEC
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_MOD
    enum: EPOLL_CTL_DEL
    enum: EPOLLIN
    enum: EPOLLOUT
    enum: EPOLLERR
    enum: EPOLLHUP
    enum: EPOLLRDHUP
    enum: EPOLLET
    ctypedef union epoll_data_t:
        void *ptr
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int action, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int event_count_max, int timeout_ms)


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <errno.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/socket.h>

    typedef union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } erlmcp_address_t;

    static int erlmcp_accept(int fd, erlmcp_address_t *address) {
        socklen_t size = sizeof(*address);
        int found = accept4(fd, &address->any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        return found < 0 ? -errno : found;
    }

    static inline ssize_t erlmcp_receive(int fd, char *buffer, size_t size) {
        ssize_t got = recv(fd, buffer, size, 0);
        return got < 0 ? -errno : got;
    }

    static inline ssize_t erlmcp_send(int fd, const char *data, size_t size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        return sent < 0 ? -errno : sent;
    }

    static ssize_t erlmcp_send_parts(int fd, struct iovec *parts, size_t count) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        return sent < 0 ? -errno : sent;
    }

    static int erlmcp_error_of(int fd) {
        int found = 0;
        socklen_t size = sizeof(found);
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &found, &size) ? errno : found;
    }

    static void erlmcp_no_delay(int fd) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }

    /* The family; of the internet's, the address as a text of at most INET6_ADDRSTRLEN, and port, flow and scope. */
    static int erlmcp_name(const erlmcp_address_t *address, char *text, unsigned numbers[3]) {
        int family = address->any.sa_family;
        if (family == AF_INET) {
            numbers[0] = ntohs(address->v4.sin_port);
            inet_ntop(family, &address->v4.sin_addr, text, INET6_ADDRSTRLEN);
        } else if (family == AF_INET6) {
            numbers[0] = ntohs(address->v6.sin6_port);
            numbers[1] = ntohl(address->v6.sin6_flowinfo);
            numbers[2] = address->v6.sin6_scope_id;
            inet_ntop(family, &address->v6.sin6_addr, text, INET6_ADDRSTRLEN);
        }
        return family;
    }
    """
    enum: AF_INET
    enum: AF_INET6
    enum: INET6_ADDRSTRLEN
    enum: SHUT_WR
    ctypedef union erlmcp_address_t:
        pass
    int erlmcp_accept(int fd, erlmcp_address_t *address) nogil
    Py_ssize_t erlmcp_receive(int fd, char *buffer, size_t size) nogil
    Py_ssize_t erlmcp_send(int fd, const char *data, size_t size) nogil
    Py_ssize_t erlmcp_send_parts(int fd, iovec *parts, size_t count) nogil
    int erlmcp_error_of(int fd) nogil
    void erlmcp_no_delay(int fd) nogil
    int erlmcp_name(const erlmcp_address_t *address, char *text, unsigned int *numbers) nogil
    int shutdown(int fd, int how) nogil
