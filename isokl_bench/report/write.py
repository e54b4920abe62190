"""Writing a report: every file whole or not at all, and one line where the disk says no."""

from __future__ import annotations

from pathlib import Path

from isokl_registry import IsoklError


def make_folder(folder: Path) -> None:
    """Create the folder where it is missing. Raises IsoklError when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explained(folder, error) from error


def write_file(path: Path, content: str | bytes) -> Path:
    """Put the content into the file, which keeps what it had when that fails. Raises IsoklError."""
    part = path.with_name(path.name + ".part")
    try:
        try:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _explained(path, error) from error
    return path


def remove_file(path: Path) -> None:
    """Remove a file that an earlier report left. Raises IsoklError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: OSError) -> IsoklError:
    cause = error.strerror or type(error).__name__
    return IsoklError(
        f"cannot write {path} ({cause}): make room or permission for it, or give another folder"
    )
