"""The client side: ``erlmcp.Client``, and the channels that it talks through."""
