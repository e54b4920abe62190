"""The wheel holds the four packages, whole, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.scratch import ROOT, Scratch, environment

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = {
    Path(folder).name: ROOT / folder
    for folder in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
}
DIST_INFO = f"isokl_bench-{PROJECT['version']}.dist-info"
WEIGHTS = "isokl_plugins/models/tiny/weights/"
TINY = ("tiny-qwen", "tiny-llama", "tiny-gemma")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def sizes(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def sources() -> set[str]:
    """Every file of the four packages, as the wheel names it."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_every_source_and_nothing_else(sizes):
    assert set(PACKAGES) == {"isokl_bench", "isokl_plugins", "isokl_registry", "isokl_db"}
    assert {name for name in sizes if not name.startswith(DIST_INFO)} == sources()


def test_every_package_is_typed(sizes):
    assert {f"{name}/py.typed" for name in PACKAGES} <= set(sizes)


def test_wheel_ships_the_tiny_models_in_20_megabytes(sizes):
    assert {f"{WEIGHTS}{name}/model.safetensors" for name in TINY} <= set(sizes)
    assert sum(size for name, size in sizes.items() if name.startswith(WEIGHTS)) <= 20_000_000


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = HeaderParser().parsestr(archive.read(f"{DIST_INFO}/METADATA").decode())
        scripts = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
        assert archive.read(f"{DIST_INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["Name"] == PROJECT["name"] == "isokl-bench"
    assert metadata["Version"] == PROJECT["version"] == installed_version("isokl-bench")
    assert scripts == "[console_scripts]\nisokl = isokl_bench.cli:main\n"


def test_installed_wheel_works_away_from_the_sources(wheel, tmp_path):
    """Data files are found where pip puts them."""
    scratch = Scratch(tmp_path / "env")
    scratch.pip_install(wheel)
    listed = scratch.isokl("plugins", "--json", cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert json.loads(listed.stdout)["failures"] == []
    shown = scratch.isokl("plugins", "show", "honesty", cwd=tmp_path)
    assert str(tmp_path) in shown.stdout
    assert "Tells the truth" in shown.stdout


def test_constraints_pin_every_requirement():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    # Exact, and no local version.
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    assert pins == sorted(pins, key=lambda pin: pin.split("==")[0])
    pinned = dict(pin.split("==") for pin in pins)
    extras = (text for texts in PROJECT["optional-dependencies"].values() for text in texts)
    for text in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text
