"""Floor 2: the protocol as a state machine, without I/O, clocks or randomness."""
