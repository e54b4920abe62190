"""The laws as pytest tests."""

from __future__ import annotations

from collections.abc import Callable

from isokl_registry.conformance.law import Broken, Law, Skipped
from isokl_registry.conformance.subject import Subject, find
from isokl_registry.registry import load_registry


def laws(spec: str) -> Callable[[Subject, Law], None]:
    """A test function with one case for each law of the plugin `name` or `name[key=value]`:

        test_laws = laws("my_method")

    gives test_laws[identity], test_laws[per_row], … A law that does not apply is skipped with its reason. The
    plugin must be installed (`pip install -e .`), as for everybody who uses it. Raises IsoklError for an
    unknown name."""
    import pytest

    subjects = find(spec, load_registry())
    cases = [
        pytest.param(subject, law, id=law.name if len(subjects) == 1 else f"{subject.kind}-{law.name}")
        for subject in subjects
        for law in subject.laws
        if not law.asked
    ]

    @pytest.mark.parametrize(("subject", "law"), cases)
    def test(subject: Subject, law: Law) -> None:
        try:
            law.check(subject.plugin)
        except Skipped as skipped:
            pytest.skip(str(skipped))
        except Broken as broken:
            pytest.fail(f"{law.text}\n{broken}", pytrace=False)

    return test
