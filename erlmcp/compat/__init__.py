"""Apps written for other SDKs: façades with their shape, and their own apps on our transports and core."""
