"""What ties names to each other: bindings, groups, watches.

Names are exact ``str`` objects here, so that nothing below runs foreign code, but for what allocating an event may
start. A keeper that says ``bonds_forget`` for each name it lets go of has no bond to a name that is not there.
"""


cdef class Bonds:
    cdef readonly Py_ssize_t count_max
    cdef readonly Py_ssize_t event_count_max
    cdef readonly Py_ssize_t lost_event_count
    cdef Py_ssize_t count
    cdef dict name_of  # key -> the name that it is bound to
    cdef dict keys_of  # name -> its keys, in a dict that is used as an ordered set, as those below
    cdef dict members_of  # group -> names
    cdef dict groups_of  # name -> groups
    cdef dict watches  # number -> (text, is_prefix, callback)
    cdef dict exact  # text -> numbers
    cdef dict prefixes  # text -> numbers
    cdef dict lengths  # characters of a prefix -> how many prefixes have so many
    cdef Py_ssize_t watch_number
    cdef list events


# The text of a str (as an exact str) or of UTF-8 bytes. TypeError, UnicodeDecodeError.
cdef str bonds_text(object text)

# ``spare`` is an empty dict for the bond to use: made by the caller before it made sure that the name is there, as
# making one may start the garbage collector, and that foreign code. LimitError, and nothing has changed.
cdef int bonds_bind(Bonds self, str key, str name, dict spare) except -1
cdef bint bonds_join(Bonds self, str group, str name, dict spare, dict another) except -1

# A name is gone: so are its bindings, at both ends, and its memberships. Runs no foreign code.
cdef int bonds_forget(Bonds self, str name) except -1

# Queues an event for each watch that the name meets. Call it last: making events may run foreign code.
cdef int bonds_tell(Bonds self, str kind, str name, object entry) except -1
