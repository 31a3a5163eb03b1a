"""The client side: ``erlmcp.Client``, the channels that it talks through, and a small blocking one for single calls."""
