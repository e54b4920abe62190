"""What a plugin is, and how it is found. An outside plugin needs the names of this module alone."""

from isokl_registry.behavior import Answer, BehaviorPlugin, Prompt, PromptSet
from isokl_registry.component import Component, parse_spec
from isokl_registry.errors import IsoklError, shown
from isokl_registry.hookspecs import hookimpl
from isokl_registry.method import Contrast, Method, Site, State
from isokl_registry.metric import (
    REPLY_END,
    Column,
    Count,
    Curve,
    ForkValues,
    Measurement,
    Metric,
    RolloutValues,
    Session,
)
from isokl_registry.model import Loaded, ModelPlugin
from isokl_registry.prompt_method import PromptMethod
from isokl_registry.registry import Entry, Failure, Registry, Source, load_registry
from isokl_registry.stat import Stat
from isokl_registry.suggest import unknown
from isokl_registry.token_values import Array, TokenValues

__all__ = [
    "REPLY_END",
    "Answer",
    "Array",
    "BehaviorPlugin",
    "Column",
    "Component",
    "Contrast",
    "Count",
    "Curve",
    "Entry",
    "Failure",
    "ForkValues",
    "IsoklError",
    "Loaded",
    "Measurement",
    "Method",
    "Metric",
    "ModelPlugin",
    "Prompt",
    "PromptMethod",
    "PromptSet",
    "Registry",
    "RolloutValues",
    "Session",
    "Site",
    "Source",
    "Stat",
    "State",
    "TokenValues",
    "hookimpl",
    "load_registry",
    "parse_spec",
    "shown",
    "unknown",
]
