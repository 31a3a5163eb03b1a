"""Floor 7: façades for apps that were written for other SDKs."""
