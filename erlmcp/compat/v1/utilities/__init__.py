"""By the first line's name for the place."""
