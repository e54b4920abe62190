"""The cache folder: what is in it is whole, whoever was killed, ran beside it, or had no room."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from isokl_registry import IsoklError, cache
from tests.scratch import ROOT, environment

ABOUT = {"sha256": "a" * 64, "dtype": "float32"}
SLOW = """
import sys, time
from pathlib import Path
from isokl_registry import cache
def make(folder):
    (folder / "half").write_bytes(bytes(50))
    print("making", flush=True)
    time.sleep(float(sys.argv[1]))
    (folder / "model").write_bytes(bytes(100))
print(cache.keep("slow", {"about": 1}, make, need=100).name)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOKL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def fill(size: int):
    return lambda folder: (folder / "model").write_bytes(bytes(size))


def never(folder: Path):
    raise AssertionError("made again")


def kept(name: str, size: int = 100, age: float = 0.0) -> Path:
    found = cache.keep(name, {"name": name}, fill(size), need=size)
    used = time.time() - age
    os.utime(found / cache.MANIFEST, (used, used))
    return found


def start(seconds: float, **options) -> subprocess.Popen[str]:
    env = environment() | {"PYTHONPATH": str(ROOT / "registry")}
    command = [sys.executable, "-c", SLOW, str(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options
    )


def test_where_it_is(monkeypatch, folder):
    assert cache.cache_folder() == folder
    monkeypatch.delenv("ISOKL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert cache.cache_folder() == Path("/somewhere/isokl/models")


def test_made_once_and_found_by_what_it_was_made_of():
    assert cache.find(ABOUT) is None
    made = cache.keep("a", ABOUT, fill(100), need=100)
    assert [path.name for path in sorted(made.iterdir())] == [cache.MANIFEST, "model"]
    assert cache.keep("a", ABOUT, never, need=100) == cache.find(ABOUT) == made
    for changed in ({"sha256": "b" * 64}, {"dtype": "bfloat16"}, {"more": 1}):
        assert cache.find(ABOUT | changed) is None
    (entry,) = cache.entries()
    assert (entry.name, entry.about, entry.folder, entry.size) == ("a", ABOUT, made, 100)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "model").unlink(),
        lambda folder: (folder / "model").write_bytes(bytes(99)),
        lambda folder: (folder / cache.MANIFEST).unlink(),
        lambda folder: (folder / cache.MANIFEST).write_text('{"name": "a"'),
        lambda folder: (folder / cache.MANIFEST).write_text("[]"),
    ],
)
def test_what_is_half_there_is_not_there_and_made_again(harm):
    made = cache.keep("a", ABOUT, fill(100), need=100)
    harm(made)
    assert (cache.find(ABOUT), cache.entries()) == (None, [])
    assert cache.keep("a", ABOUT, fill(7), need=7) == made
    assert (made / "model").stat().st_size == 7


def test_what_failed_leaves_nothing(folder):
    def fails(part):
        fill(10)(part)
        raise IsoklError("the model is broken")

    with pytest.raises(IsoklError, match=r"^the model is broken$"):
        cache.keep("a", ABOUT, fails, need=10)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_a_killed_process_leaves_nothing_that_counts(folder):
    process = start(60)
    assert process.stdout.readline() == "making\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.suffix for path in sorted(folder.iterdir())] == [".lock", ".part"]
    assert cache.entries() == []
    made = cache.keep("slow", {"about": 1}, fill(100), need=100)
    assert not (made / "half").exists()
    assert [path.suffix for path in sorted(folder.iterdir())] == ["", ".lock"]


def test_two_processes_make_it_once():
    first = start(1)
    assert first.stdout.readline() == "making\n"
    second = start(0)
    outputs = [process.communicate()[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert outputs[0] == outputs[1]  # the second waited, and made nothing


def test_no_room_is_said_before_the_work(folder):
    with pytest.raises(IsoklError) as raised:
        cache.keep("big", ABOUT, never, need=2**60)
    start, _, rest = str(raised.value).partition(" (")
    assert start == f"the cache folder {folder} cannot take big"
    assert rest.endswith(
        " GB are free): it needs 1152921504.61 GB; make room there, or set ISOKL_CACHE to another folder"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_a_disk_that_fills_meanwhile_is_one_line(folder):
    """A process that may write no file above 60 bytes: to it the disk is full."""
    import resource

    process = start(0, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60)))
    error = process.communicate()[1]
    assert error.splitlines()[-1] == (
        f"isokl_registry.errors.IsoklError: the cache folder {folder} cannot take slow (File too large): it needs 0.00 GB; "
        "make room there, or set ISOKL_CACHE to another folder"
    )
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


@contextmanager
def nobody():
    """Without the rights of root, whom no mode keeps out."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="no such users")
def test_a_folder_that_is_read_only_serves_what_it_has(monkeypatch):
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setenv("ISOKL_CACHE", place)
        made = cache.keep("a", ABOUT, fill(100), need=100)
        for path in (Path(place), cache.cache_folder()):
            path.chmod(0o555)
        with nobody():
            assert cache.keep("a", ABOUT, never, need=100) == made
            with pytest.raises(IsoklError) as raised:
                cache.keep("b", ABOUT | {"b": 1}, never, need=100)
        for path in (Path(place), cache.cache_folder()):
            path.chmod(0o755)
    assert str(raised.value) == (
        f"the cache folder {place}/models cannot take b (Permission denied): it needs 0.00 GB; make room there, or set "
        "ISOKL_CACHE to another folder"
    )


def test_beyond_the_limit_what_was_used_longest_ago_goes():
    ages = {"old": 4000.0, "older": 5000.0, "new": 1000.0, "in use": 10.0}
    for name, age in ages.items():
        kept(name, 100, age)
    assert [entry.name for entry in cache.entries()] == ["in use", "new", "old", "older"]
    cache.trim(limit=300)
    assert [entry.name for entry in cache.entries()] == ["in use", "new", "old"]
    assert cache.find({"name": "old"})  # which is a use
    cache.trim(limit=200)
    assert [entry.name for entry in cache.entries()] == ["old", "in use"]
    cache.trim(limit=0)  # what may be read at this moment stays
    assert [entry.name for entry in cache.entries()] == ["old", "in use"]


def test_what_is_half_made_goes_unless_somebody_is_at_it(folder):
    process = start(60)
    assert process.stdout.readline() == "making\n"
    (folder / "x.part").mkdir()
    for drop in (cache.trim, cache.clear):
        drop()
        (busy,) = folder.glob("*.part")
        assert busy.name != "x.part"
    process.kill()
    process.communicate()
    cache.trim()
    assert list(folder.glob("*.part")) == []


def test_clear(folder):
    for name in ("a", "b", "c"):
        kept(name)
    assert [entry.name for entry in cache.clear("b")] == ["b"]
    assert {entry.name for entry in cache.entries()} == {"a", "c"}
    assert {entry.name for entry in cache.clear()} == {"a", "c"}
    assert {path.suffix for path in folder.iterdir()} == {".lock"}
    assert json.dumps(cache.clear()) == "[]"
