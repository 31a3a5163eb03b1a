"""By the SDK's name for the place."""
