"""Figures 1 and 2."""
