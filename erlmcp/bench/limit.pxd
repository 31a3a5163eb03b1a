"""What the C servers of the benchmarks have in common: connections, their buffers, and the loop around them."""


cdef struct Peer:
    int fd
    char *rbuf
    size_t rcap
    size_t rlen
    char *wbuf
    size_t wcap
    size_t wlen

# Read once, answer all that is complete. False where the connection is over.
ctypedef bint (*serve_peer_t)(Peer *peer, void *answers) except -1 nogil

cdef bint fill(Peer *peer, int fd) except -1 nogil
cdef bint flush(Peer *peer, int fd) noexcept nogil
# Answer one line behind what is there to be written.
ctypedef int (*answer_line_t)(Peer *peer, void *answers, const char *line, size_t size) except -1 nogil

# Answer the lines of the standard input on the standard output, until the input ends.
cdef int serve_lines(answer_line_t each, void *answers) except -1
# Serve whoever connects, for as long as the process lives.
cdef int serve_all(int port, serve_peer_t each, void *answers) except -1
