"""Floor 0: the compiled rooms. Bytes, integers, opaque objects; never user code. Reached through ``erlmcp.core``
only."""
