"""Floor 3: bytes only. A transport reads, writes and closes; what the bytes mean is decided elsewhere."""
