"""What ties names to each other: bindings, groups, watches.

Names are exact ``str`` objects here. The functions below run no foreign code: they make no object that the garbage
collector knows, and drop none but sets of names. So their caller is in one piece with what it does to its own
structure before and after. A keeper that says ``bonds_forget`` for each name it lets go of has no bond to a name that
is not there.

Each bond is known at both ends, in a dict that serves as an ordered set. Where memory is short, nothing has changed.
"""


cdef class Bonds:
    cdef readonly Py_ssize_t count_max
    cdef readonly Py_ssize_t event_count_max
    cdef readonly Py_ssize_t lost_event_count
    cdef Py_ssize_t count
    cdef dict name_of  # key -> the name that it is bound to
    cdef dict keys_of  # name -> its keys
    cdef dict members_of  # group -> names
    cdef dict groups_of  # name -> groups
    cdef dict watches  # number -> text, is_prefix, callback
    cdef dict exact  # text -> numbers
    cdef dict prefixes  # text -> numbers
    cdef dict lengths  # characters of a prefix -> how many watches have one of so many
    cdef Py_ssize_t watch_number
    cdef list events  # callback, kind, name, entry of the first, of the second, and so on
    cdef list numbers  # of the watches that a name meets, while an event is told


# The text of a str (as an exact str) or of UTF-8 bytes. TypeError, UnicodeDecodeError.
cdef str bonds_text(object text)

# ``spare`` is an empty dict for the bond to use: made by the caller before it made sure that the name is there, as
# making one may start the garbage collector, and that foreign code. LimitError or MemoryError, and nothing has changed.
cdef int bonds_bind(Bonds self, str key, str name, dict spare) except -1
cdef bint bonds_join(Bonds self, str group, str name, dict spare, dict another) except -1

# A name is gone: so are its bindings, at both ends, and its memberships.
cdef int bonds_forget(Bonds self, str name) except -1

# All names are gone; the watches stay.
cdef int bonds_clear(Bonds self) except -1

# Queues an event for each watch that the name meets. What there is no memory for is lost, and counted as one.
cdef int bonds_tell(Bonds self, str kind, str name, object entry) except -1
