"""The user's cache folder: results that take long to make and can be made again, such as converted models.

Each lies in a folder of its own, with a manifest that is written last: whatever has no valid manifest is not there. It is
made beside its place and moved there whole, by one process at a time, so a killed process leaves nothing that counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isokl_registry.errors import IsoklError

LIMIT = 20_000_000_000  # bytes; beyond, what was used longest ago is dropped
IN_USE = 600.0  # seconds since its last use in which nothing is dropped: another process may be reading it
MANIFEST = "isokl.json"


@dataclass(frozen=True)
class Kept:
    """One folder of the cache. name: what people call it. about: what it was made of. used: time of its last use."""

    name: str
    about: Mapping[str, Any]
    folder: Path
    size: int
    used: float


def cache_folder() -> Path:
    """`models` in the user's cache folder, or in ISOKL_CACHE."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("ISOKL_CACHE") or user_cache_dir("isokl")) / "models"


def find(about: Mapping[str, Any]) -> Path | None:
    """The folder that was made of just this, if it is whole."""
    folder = cache_folder() / _key(about)
    if _read(folder) is None:
        return None
    with suppress(OSError):  # a cache that is read-only serves all the same
        os.utime(folder / MANIFEST)
    return folder


def keep(name: str, about: Mapping[str, Any], make: Callable[[Path], None], need: int) -> Path:
    """The folder that was made of `about`; where there is none, `make(folder)` fills it first.

    need: bytes that this takes at least. Raises IsoklError when the cache folder cannot take it; an IsoklError of
    `make` goes through."""
    try:
        return find(about) or _made(name, about, make, need)
    except IsoklError:
        raise
    except Exception as error:  # whoever writes has errors of its own for a full disk
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise IsoklError(_refused(name, " ".join(why.split()), need)) from error


def entries() -> list[Kept]:
    """Everything that is whole, the last used first."""
    found = []
    for path in cache_folder().glob(f"*/{MANIFEST}"):
        manifest = _read(path.parent)
        if manifest is not None:
            size = sum(manifest["files"].values())
            found.append(Kept(manifest["name"], manifest["about"], path.parent, size, path.stat().st_mtime))
    return sorted(found, key=lambda kept: -kept.used)


def clear(name: str | None = None) -> list[Kept]:
    """Drop what has this name, or everything, also what was left half made and nobody is at."""
    dropped = [kept for kept in entries() if name in (None, kept.name)]
    for kept in dropped:
        _drop(kept.folder)
    _drop_leftovers()
    return dropped


def trim(limit: int = LIMIT) -> None:
    """Drop what was used longest ago until the rest fits into the limit, and what killed processes have left."""
    _drop_leftovers()
    found = entries()
    total = sum(kept.size for kept in found)
    for kept in reversed(found):
        if total <= limit or time.time() - kept.used < IN_USE:
            return
        _drop(kept.folder)
        total -= kept.size


def _made(name: str, about: Mapping[str, Any], make: Callable[[Path], None], need: int) -> Path:
    from filelock import FileLock

    root = cache_folder()
    folder = root / _key(about)
    part = folder.with_suffix(".part")
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if find(about):  # by another process, meanwhile
            return folder
        for leftover in (folder, part):
            shutil.rmtree(leftover, ignore_errors=True)
        free = shutil.disk_usage(root).free
        if free < need:
            raise IsoklError(_refused(name, f"{free / 1e9:.2f} GB are free", need))
        part.mkdir()
        try:
            make(part)
            files = {path.name: path.stat().st_size for path in sorted(part.iterdir())}
            manifest = {"name": name, "about": dict(about), "files": files}
            (part / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    trim()
    return folder


def _key(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _read(folder: Path) -> dict[str, Any] | None:
    """The manifest, or None when it or a file is missing or has another size than it says."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
        return manifest if whole and manifest["name"] and manifest["about"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _drop(folder: Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # first: from here on it is not there
    shutil.rmtree(folder, ignore_errors=True)


def _drop_leftovers() -> None:
    """What is half made, unless somebody is at it."""
    from filelock import FileLock, Timeout

    for part in cache_folder().glob("*.part"):
        with suppress(Timeout), FileLock(part.with_suffix(".lock"), timeout=0):
            shutil.rmtree(part, ignore_errors=True)


def _refused(name: str, why: str, need: int) -> str:
    return (
        f"the cache folder {cache_folder()} cannot take {name} ({why}): it needs {need / 1e9:.2f} GB; make room there, "
        "or set ISOKL_CACHE to another folder"
    )
