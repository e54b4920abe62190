"""Stored runs as numbers: read from the results database alone; nothing here runs a model or draws."""
