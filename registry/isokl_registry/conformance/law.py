"""What a law is: a function that takes a plugin and raises `Broken` where the plugin does not hold it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

Check = Callable[[Any], None]


class Broken(AssertionError):
    """The law does not hold; the message says where, in one line."""


class Skipped(Exception):
    """The law does not apply; the message says why, in one line."""


@dataclass(frozen=True)
class Verdict:
    """What came of one law. `reason` is empty where it passed."""

    law: Law
    outcome: Literal["passed", "failed", "skipped"]
    reason: str = ""


@dataclass(frozen=True)
class Law:
    """One law of one kind of plugin: its name is the function's, its text the first line of its docstring.

    asked: it costs much, so it is run on request."""

    kind: str
    check: Check
    asked: bool = False

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def text(self) -> str:
        return (inspect.getdoc(self.check) or "").split("\n", 1)[0]

    def judge(self, plugin: Any) -> Verdict:
        """Run the law. An exception of the plugin's own is a failure too, whatever it is."""
        try:
            self.check(plugin)
        except Skipped as skipped:
            return Verdict(self, "skipped", _one_line(skipped))
        except Broken as broken:
            return Verdict(self, "failed", _one_line(broken))
        except Exception as error:
            text = _one_line(error)
            return Verdict(self, "failed", f"{type(error).__name__}: {text}".removesuffix(": "))
        return Verdict(self, "passed")


def require(holds: object, reason: str) -> None:
    """Raise Broken with the reason unless the condition holds."""
    if not holds:
        raise Broken(reason)


def skip(reason: str) -> NoReturn:
    """The law does not apply to this plugin."""
    raise Skipped(reason)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
