"""Façades for apps written for other SDKs: their names and shapes, served by ours."""
