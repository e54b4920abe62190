"""Chat templates come from strangers: what one may cost, and what it may reach."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from isokl_bench.engine import bounded, chat
from isokl_bench.engine.bounded import in_child, within
from isokl_bench.engine.chat import Chat
from isokl_registry import IsoklError
from tests.architectures import byte_tokenizer

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
LIMIT = 0.5  # seconds, for tests that are about what happens then
linux = pytest.mark.skipif(sys.platform != "linux", reason="no child process elsewhere")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(chat, "SECONDS", LIMIT)


def refused(template: str, message: str = "Hi") -> str:
    with pytest.raises(IsoklError) as raised:
        Chat(byte_tokenizer(template)).ids(message)
    text = str(raised.value)
    assert "\n" not in text
    start, _, rest = text.partition("the chat template cannot be rendered (")
    why, _, end = rest.rpartition("): ")
    assert (start, end) == ("", "use --chat-template plain, or FILE with another one")
    return why


def test_a_loop_without_end_is_stopped():
    assert refused(LOOP) == "it takes more than 5 s"
    assert refused("{{ range(10**10) }}").startswith("Range too big. The sandbox blocks ranges larger than")


@linux
@pytest.mark.parametrize(
    "template",
    [
        "{{ 9 ** (9 ** 9) }}",  # a single step that nothing interrupts, already when the template is compiled
        "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
)
def test_a_step_without_end_is_stopped_too(template, short):
    assert refused(template) == f"it takes more than {LIMIT} s"


@linux
@pytest.mark.parametrize(
    "template", ["{{ 'a' * 10**10 }}", "{{ '%09999999999d' % 1 }}", "{{ 'a'.ljust(10**11) }}"]
)
def test_memory_is_bounded(template):
    assert refused(template) == "MemoryError"


@pytest.mark.parametrize(
    "guard",
    ["messages[0].content != 'hello'", "messages[0].content | length > 40", "date_string and messages[1:]"],
)
def test_a_loop_that_hides_from_the_first_try_is_stopped(guard, short):
    template = "{{ messages[-1].content }}{% if GUARD %}LOOP{% endif %}".replace("GUARD", guard).replace(
        "LOOP", LOOP
    )
    try:
        Chat(byte_tokenizer(template)).ids(
            "a longer message than the one that it was tried with", system="A persona"
        )
    except IsoklError as error:
        stopped = str(error)
    else:
        stopped = "it was rendered"
    assert "it takes more than 0.5 s" in stopped


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
        (
            "{{ cycler.__init__.__globals__.os }}",
            "access to attribute '__init__' of 'type' object is unsafe.",
        ),
        ("{{ messages.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
        ("{% include '/etc/passwd' %}", "no loader for this environment specified"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
        ("{{" + "(" * 100_000, "maximum recursion depth exceeded"),
        ("{{ 'x' * 3000000 }}", "a message of 5 characters becomes 3000000"),
        ("x" * 2**20 + "y", f"it has {2**20 + 1} characters, where {2**20} are the most"),
    ],
)
def test_a_template_reaches_nothing_and_stays_small(template, why):
    assert refused(template).startswith(why)


def test_what_renders_is_what_it_always_was():
    tokenizer = byte_tokenizer()
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.decode(Chat(tokenizer).ids("Hi")) == rendered


def test_within_stops_python_in_any_thread_and_leaves_tracing_as_it_was():
    def endless():
        while True:
            pass

    def run():
        with pytest.raises(TimeoutError, match=r"^it takes more than 0\.05 s$"), within(0.05):
            endless()
        stopped.append(sys.gettrace())

    stopped: list[object] = []
    before = sys.gettrace()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    run()
    assert stopped == [None, before]
    with within(60):
        assert sum(range(100)) == 4950


@linux
def test_in_child_gives_back_what_the_job_gives_and_leaves_no_process():
    assert in_child(lambda: {"a": ["é" * 100_000, None]}, 60) == {"a": ["é" * 100_000, None]}
    with pytest.raises(TimeoutError, match=r"^it takes more than 0\.1 s$"):
        in_child(threading.Event().wait, 0.1)
    with pytest.raises(MemoryError, match=r"^it takes too much memory$"):
        in_child(lambda: len(bytes(2 * bounded.MEMORY)), 60)
    child = in_child(os.getpid, 60)
    assert child != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
