"""Nothing here is for Python: the C face is in stream.pxd."""
