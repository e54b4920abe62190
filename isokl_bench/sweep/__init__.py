"""Grids of runs: what is in them, what is missing, and who computes it."""
