"""Every way a database can fail, on real files and real processes: one line, and nothing stored is lost."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from sqlalchemy import event

from isokl_db import Attempt, Measurement, Store, StoreError

Begin = Callable[..., Attempt]
Spawn = Callable[..., "Popen[str]"]


def measurements(n: int) -> list[Measurement]:
    return [Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=i, value=i / 7) for i in range(n)]


def message(action: Callable[[], Any]) -> str:
    with pytest.raises(StoreError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def locker(spawn: Spawn) -> Callable[[], "Popen[str]"]:
    """Start a process that holds the database for itself."""

    def lock() -> "Popen[str]":
        process = spawn("""
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True); sys.stdin.readline()
""")
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        return process

    return lock


def test_locked(path: Path, begin: Begin, config: Any, locker: Callable[[], "Popen[str]"]) -> None:
    attempt = begin()
    process = locker()
    with Store(path, busy_timeout=0.1) as store:
        assert store.record(attempt.id)["state"] == "running"  # readers go on
        actions = [lambda: store.begin(config(), prompts={}, provenance={}), store.attempt(attempt.id).done]
        for action in actions:
            assert message(action) == f"{path} is locked by another process; wait for it or use another --db"
        process.communicate("release\n")
        store.attempt(attempt.id).done()


def test_locked_before_it_has_a_schema(path: Path, locker: Callable[[], "Popen[str]"]) -> None:
    locker()
    assert message(lambda: Store(path, busy_timeout=0.1)).startswith(f"{path} is locked by another process")


def test_a_lock_is_waited_for(begin: Begin, locker: Callable[[], "Popen[str]"]) -> None:
    attempt = begin()
    process = locker()
    assert process.stdin is not None
    process.stdin.write("release\n")
    process.stdin.flush()
    attempt.done()


def test_not_a_database(path: Path) -> None:
    path.write_bytes(b"# notes\n" * 1000)
    for read_only in (False, True):
        text = message(lambda mode=read_only: Store(path, read_only=mode))  # type: ignore[misc]
        assert text == f"{path} is not a SQLite database; use another --db"
    assert path.read_bytes() == b"# notes\n" * 1000


def test_damaged(path: Path, config: Any) -> None:
    with Store(path) as store:
        attempt = store.begin(config(), prompts={}, provenance={})
        attempt.commit_phase("measure", 1.0, measurements=measurements(5000))
    with path.open("r+b") as file:
        file.seek(30 * 4096)
        file.write(b"\xff" * 4096 * 10)
    with Store(path) as store:
        text = message(lambda: store.record(attempt.id))
        assert text.startswith(f"{path} is damaged; restore a backup")


def test_cut_off(path: Path, config: Any) -> None:
    with Store(path) as store:
        store.begin(config(), prompts={}, provenance={})
    path.write_bytes(path.read_bytes()[:3000])
    assert message(lambda: Store(path)).startswith(f"{path} is damaged")


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "no" / "isokl.db"
    expected = f"the folder {tmp_path / 'no'} does not exist; create it or use another --db"
    assert message(lambda: Store(path)) == expected


def test_a_folder_or_a_file_as_folder(tmp_path: Path) -> None:
    assert message(lambda: Store(tmp_path)).startswith(f"{tmp_path} is a folder; give the path of a database")
    (tmp_path / "file").touch()
    assert "does not exist; create it" in message(lambda: Store(tmp_path / "file" / "isokl.db"))


def test_missing_file_is_an_error_for_readers_only(path: Path) -> None:
    text = message(lambda: Store(path, read_only=True))
    assert text == f"no database at {path}; run `isokl run …` first or give --db"
    assert not path.exists()


def test_read_only_by_url(path: Path, begin: Begin, config: Any) -> None:
    begin()
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert len(store.rows("select * from runs")) == 1
        text = message(lambda: store.begin(config(), prompts={}, provenance={}))
        assert text.endswith("is read-only; make the file and its folder writable or use another --db")


AS_NOBODY = """
import os
from isokl_db import Store, StoreError
Store("sqlite://").close()  # loads what nobody may perhaps not read
if os.getuid() == 0:
    os.setuid(65534)
for read_only in (False, True):
    try:
        with Store(sys.argv[2], read_only=read_only) as store:
            print(len(store.rows("select * from runs")), "runs")
    except StoreError as error:
        print(error)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, with a finished store in it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    with Store(folder / "isokl.db") as store:
        store.begin({}, prompts={}, provenance={})
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "writing", "reading"),
    [
        (
            0o555,
            0o444,
            "the folder {0} is read-only (permission denied); make it writable or use another --db",
            "1 runs",
        ),
        (
            0o777,
            0o444,
            "{0}/isokl.db is read-only (permission denied); make it writable or use another --db",
            "1 runs",
        ),
        (
            0o777,
            0o000,
            "{0}/isokl.db may not be read (permission denied); change its permissions or use another --db",
            "",
        ),
    ],
)
def test_permissions(
    public: Path, spawn: Spawn, folder_mode: int, file_mode: int, writing: str, reading: str
) -> None:
    (public / "isokl.db").chmod(file_mode)
    public.chmod(folder_mode)
    out, err = spawn(AS_NOBODY, str(public / "isokl.db")).communicate()
    assert err == ""
    assert out.splitlines() == [writing.format(public), (reading or writing).format(public)]


def test_disk_full(path: Path, begin: Begin, store: Store) -> None:
    attempt = begin()
    attempt.commit_phase("fit", 1.0, steering=b"tensors")

    @event.listens_for(store.engine, "begin")
    def fill(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")

    text = message(lambda: attempt.commit_phase("measure", 1.0, measurements=measurements(20_000)))
    assert text.startswith(f"{path} has no room to grow: the disk is full; free some space and run again")
    assert (attempt.phases(), attempt.steering()) == ({"fit": None}, b"tensors")
    attempt.done()


FILLS_UP = """
import resource
from isokl_db import Measurement, Store, StoreError
store = Store(sys.argv[1])
attempt = store.begin({}, prompts={}, provenance={})
attempt.commit_phase("fit", 1.0, steering=b"tensors")
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
rows = [Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=i, value=1.0) for i in range(20_000)]
try:
    attempt.commit_phase("measure", 1.0, measurements=rows)
except StoreError as error:
    print(error)
print(*attempt.phases())
attempt.commit_phase("small", 1.0)
"""


def test_file_size_limit(path: Path, spawn: Spawn) -> None:
    """Python ignores SIGXFSZ, so the write fails, SQLite hears of it, and the process lives."""
    out, err = spawn(FILLS_UP).communicate()
    assert err == ""
    text, phases = out.splitlines()
    assert text.startswith(
        f"{path} cannot be read or written: the disk is full, over a file size limit, or failing"
    )
    assert phases == "fit"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Store(path) as store:
        assert list(store.attempt(1).phases()) == ["fit", "small"]
        assert store.attempt(1).steering() == b"tensors"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nosuch://host/name", "nosuch://host/name is not a URL that SQLAlchemy knows"),
        ("postgresql+nosuch://me:secret@host/name", "is not a URL that SQLAlchemy knows"),
        ("mysql+mysqldb://me:secret@host/name", "the driver for mysql+mysqldb://me:***@host/name is missing"),
        ("://", "is not a URL that SQLAlchemy knows"),
    ],
)
def test_bad_urls_keep_their_password_to_themselves(url: str, text: str) -> None:
    said = message(lambda: Store(url))
    assert text in said
    assert "secret" not in said
