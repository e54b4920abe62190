"""Laws of everything that has parameters: methods, stats and metrics."""

from __future__ import annotations

import json
from typing import Any

from isokl_registry.component import Component, parse_spec
from isokl_registry.conformance.law import require


def label(component: Component) -> None:
    """It is described in one line, and its label and its JSON parameters build it again."""
    require(component.summary().strip(), "its class has no docstring: write one line on what it does")
    _, params = parse_spec(component.label())
    again = type(component).create(params)
    require(again == component, f"{component.label()} builds {again}, not {component}")
    stored: dict[str, Any] = json.loads(json.dumps(component.params()))
    require(
        type(component).create(stored) == component, f"the stored parameters {stored} build something else"
    )
