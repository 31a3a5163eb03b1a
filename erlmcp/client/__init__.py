"""The client side: for now, single blocking calls."""
