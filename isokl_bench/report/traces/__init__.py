"""Texts side by side."""
