"""Pure decisions: numbers in, a verdict out. The clock is an argument, and nothing here waits, reads or writes."""
