"""HTML pages, filled in from the templates beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """The page; every value is escaped where it stands, since names and texts come from models and
    strangers."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    folder = FileSystemLoader(Path(__file__).with_name("templates"))
    found = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return found
