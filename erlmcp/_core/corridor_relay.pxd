"""The C face of ``corridor_relay``: parts of a scanned message as text, for a message that is handed on."""

from erlmcp._core.corridor cimport Call

# As the functions of these names, for C callers.
cdef object relay_params_of(Call call, bytes name, bytes meta)
cdef bytes relay_answer_of(Call call, bytes id_raw)
