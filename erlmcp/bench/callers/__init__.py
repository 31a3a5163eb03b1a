"""Programs that measure one client each; ``erlmcp bench clients`` starts them by path."""
