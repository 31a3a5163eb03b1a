"""The rooms of ``_core`` in plain Python: their specification, the oracle of their tests, and the baseline stack."""
