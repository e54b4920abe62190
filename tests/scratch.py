"""A scratch environment: a venv of its own on top of this one, so that pip really installs and nothing here
changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
ISOKL = shutil.which("isokl", path=str(Path(sys.executable).parent)) or "isokl"


class Scratch:
    """Sees every package of the running environment; what is installed here comes before those."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")
        places = {"base": str(folder), "platbase": str(folder)}
        lib, scripts = (Path(sysconfig.get_path(name, "venv", places)) for name in ("purelib", "scripts"))
        self.own_script = scripts / "isokl"
        self.python = scripts / "python"
        parent = sysconfig.get_path("purelib")
        (lib / "parent.pth").write_text(f"import site; site.addsitedir({parent!r})\n")

    def pip_install(self, *targets: Path) -> None:
        """A real `pip install`, offline."""
        options = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", *options]
        done = subprocess.run([*pip, *map(str, targets)], capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stdout + done.stderr

    def isokl(self, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """The `isokl` script of the scratch environment, or where it has none the running environment's."""
        installed = Path(sysconfig.get_path("scripts")) / "isokl"
        script = self.own_script if self.own_script.exists() else installed
        assert script.exists(), (
            f"{script} is missing: run the tests as `make test` does, with isokl-bench installed"
        )
        command = [str(self.python), "-W", "error", str(script), *args]
        # Threads that wait for a busy core cost more than they give.
        env = environment() | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd)


def environment() -> dict[str, str]:
    """The environment variables, without those that change what Python or isokl would load."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "ISOKL_LOAD_PLUGINS", "ISOKL_DB", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in dropped}
