"""The one exception that people see."""

from __future__ import annotations


class IsoklError(Exception):
    """One line that names the thing, the cause and the fix; the command line prints it without a traceback."""
