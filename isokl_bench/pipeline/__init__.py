"""One run, from its configuration to the stored record."""
