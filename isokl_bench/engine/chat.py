"""From messages to token ids, whatever the model's chat template can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from isokl_bench.engine.bounded import in_child, within
from isokl_registry import IsoklError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}\n\n"
    "{% else %}{{ message.role | capitalize }}: {{ message.content }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
PROBE = "a-system-message"
SECONDS = 5.0  # that rendering may take, where 0.02 are usual: templates come from strangers
CHARACTERS = 2**20  # of a template, and of what it renders
TODAY = "26 Jul 2024"  # some templates print the date: a prompt must not change with the day it is run
NO_CLOCK = "{% macro strftime_now(form) %}" + TODAY + "{% endmacro %}"


class Chat:
    """Renders a user message, an optional system message and an optional beginning of the reply.

    `system_role` is False when the template rejects or drops system messages: then the persona goes in front
    of the user message.

    Args:
        tokenizer: the model's.
        template: None for the tokenizer's own, 'plain' for User:/Assistant: lines, or the path of a Jinja
            file.

    Raises:
        IsoklError: when there is no template, or it does not render.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = _template(tokenizer, template)
        if len(self.template) > CHARACTERS:
            raise _broken(f"it has {len(self.template)} characters, where {CHARACTERS} are the most")
        self.system_role = self._accepts_system()

    def ids(self, user: str, *, system: str | None = None, prefix: str = "") -> list[int]:
        """Token ids of the conversation up to where the reply (after `prefix`) goes on."""
        if system is not None and not self.system_role:
            user, system = f"{system}\n\n{user}", None
        text = self._render(user, system)
        return self.encode(text) + (self.encode(prefix) if prefix else [])

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as it stands, no special tokens added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _render(self, user: str, system: str | None) -> str:
        messages = [{"role": "user", "content": user}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        try:
            with within(SECONDS):
                text = str(
                    self.tokenizer.apply_chat_template(
                        messages,
                        chat_template=NO_CLOCK + self.template,
                        date_string=TODAY,
                        tokenize=False,
                        add_generation_prompt=True,
                    )
                )
        except Exception as error:  # Jinja and the template's own raise_exception share no base class
            raise _broken(" ".join(str(error).split())[:300] or type(error).__name__) from error
        if len(text) > CHARACTERS:
            raise _broken(f"a message of {len(user)} characters becomes {len(text)}")
        return text

    def _accepts_system(self) -> bool:
        """Tried in a child process: what a hostile template does to it, it does not do to this one."""
        try:
            (with_system, _), (_, error) = in_child(self._try_both, SECONDS)
        except (TimeoutError, MemoryError) as stopped:
            raise _broken(str(stopped)) from None
        if PROBE in with_system:
            return True
        if error:  # a template that fails without a system message too is broken
            raise IsoklError(error)
        return False

    def _try_both(self) -> list[tuple[str, str]]:
        """Text and error, with a system message and without."""
        found = []
        for system in (PROBE, None):
            try:
                found.append((self._render("hello", system), ""))
            except IsoklError as error:
                found.append(("", str(error)))
        return found


def _broken(why: str) -> IsoklError:
    return IsoklError(
        f"the chat template cannot be rendered ({why}): use --chat-template plain, or FILE with another one"
    )


def _template(tokenizer: PreTrainedTokenizerBase, option: str | None) -> str:
    if option == "plain":
        return PLAIN
    if option is not None:
        try:
            return Path(option).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise IsoklError(
                f"chat template {option!r} cannot be read ({error}): give 'plain' or a Jinja file"
            ) from error
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    if not own:
        raise IsoklError(
            "this model has no chat template: use --chat-template plain (User:/Assistant: lines), "
            "or --chat-template FILE with a Jinja template"
        )
    return str(own)
