"""Who may import whom, and what a help page may cost."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.scratch import ROOT, environment

OURS = {"isokl_bench": "isokl_bench", "isokl_plugins": "plugins/isokl_plugins", "isokl_registry": "registry/isokl_registry", "isokl_db": "db/isokl_db"}  # fmt: skip
ALLOWED = {
    "isokl_db": set(),
    "isokl_registry": set(),
    "isokl_plugins": {"isokl_registry"},
    "isokl_bench": {"isokl_registry", "isokl_db"},
}
# The rooms of isokl_bench, each with those it may import from; a module at the top is a room of its own.
ROOMS = {
    "bootstrap": set(),
    "engine": set(),
    "pipeline": {"engine", "bootstrap"},
    "api": {"pipeline"},
    "generalization": {"api", "pipeline", "engine", "bootstrap"},
    "sweep": {"api", "pipeline", "engine"},
    "results": set(),
    "claims": {"results"},
    "report": {"results"},
    "cli": {"api", "pipeline", "engine", "generalization", "sweep", "results", "claims", "report"},
    "__init__": {"api", "generalization", "pipeline", "engine"},
    "__main__": {"cli"},
}
FOREIGN = {
    "isokl_db": {"sqlalchemy", "alembic", "sqlite_utils"},
    "isokl_registry": {"pluggy", "platformdirs", "filelock"},
}
# Laws and intervals compute, when they are run: they may use what every installation has, and pytest if it is there.
COMPUTING = {
    "registry/isokl_registry/conformance/": {"torch", "numpy", "safetensors", "pytest"},
    "registry/isokl_registry/interval.py:": {"numpy", "scipy"},
}
HEAVY = {"torch", "transformers", "tokenizers", "huggingface_hub", "numpy", "scipy", "pandas", "altair", "vl_convert", "sqlalchemy", "alembic", "gguf", "accelerate"}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One imported top-level package."""

    package: str
    line: int
    typing_only: bool


def imports(tree: ast.AST, package: str, typing_only: bool = False) -> Iterator[Import]:
    """Every import below `tree`, at the top of the file or inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name.split(".")[0], node.lineno, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            target = package if node.level else (node.module or "").split(".")[0]
            yield Import(target, node.lineno, typing_only)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imports(ast.Module(node.body, []), package, True)
            yield from imports(ast.Module(node.orelse, []), package, typing_only)
        else:
            yield from imports(node, package, typing_only)


def package_imports(package: str) -> Iterator[tuple[str, Import]]:
    for path in sorted((ROOT / OURS[package]).rglob("*.py")):
        for found in imports(ast.parse(path.read_bytes(), str(path)), package):
            yield f"{path.relative_to(ROOT)}:{found.line}", found


def test_imports_are_seen_wherever_they_are():
    source = """
import a.b, c
from d.e import f
from . import g
if typing.TYPE_CHECKING:
    import h
else:
    def function():
        import i
"""
    found = [(i.package, i.typing_only) for i in imports(ast.parse(source), "own")]
    assert found == [("a", False), ("c", False), ("d", False), ("own", False), ("h", True), ("i", False)]


@pytest.mark.parametrize("package", OURS)
def test_who_may_import_whom(package):
    allowed = ALLOWED[package] | {package}
    wrong = [
        f"{where} imports {i.package}"
        for where, i in package_imports(package)
        if i.package in OURS.keys() - allowed
    ]
    assert wrong == []


def modules(package: str) -> dict[str, set[str]]:
    """What each module of a package imports from that package, also where only the type checker looks."""
    folder = ROOT / OURS[package]
    names = {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in folder.rglob("*.py")
    }
    found = {}
    for name, path in names.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom)]
        targets = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        targets |= {str(node.module) for node in nodes}
        found[name] = {target for target in targets if target in names and target != name}
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_rooms_are_entered_one_way():
    wrong = []
    for module, targets in modules("isokl_bench").items():
        room = room_of(module)
        assert room in ROOMS, f"{module} is in no room"
        for target in targets:
            other = room_of(target)
            if other not in ROOMS[room] | {room, "__init__"}:
                wrong.append(f"{module} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("package", OURS)
def test_no_module_imports_itself_by_a_detour(package):
    imports_of = {name: set(targets) for name, targets in modules(package).items()}
    # A package's face hands names on: what imports it is not what it imports.
    for face in [name for name in imports_of if any(other.startswith(f"{name}.") for other in imports_of)]:
        imports_of.pop(face)
    while leaves := [name for name, targets in imports_of.items() if not targets & imports_of.keys()]:
        for name in leaves:
            imports_of.pop(name)
    assert imports_of == {}


def test_no_test_imports_another():
    wrong = [
        f"{path.relative_to(ROOT)}: {node.module}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and "test_" in str(node.module)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", FOREIGN)
def test_store_and_registry_need_little(package):
    """What they import when they run: the standard library, and very few others."""
    known = sys.stdlib_module_names | {package} | FOREIGN[package]
    found = [(where, i) for where, i in package_imports(package) if not i.typing_only]
    assert found
    wrong = [(where, i.package) for where, i in found if i.package not in known]
    assert [
        f"{where} imports {name}"
        for where, name in wrong
        if not any(where.startswith(folder) and name in more for folder, more in COMPUTING.items())
    ] == []


def loaded_by(*args: str) -> tuple[set[str], float]:
    """Top-level modules in a process that ran `isokl ARGS`, and its CPU seconds."""
    code = """
import sys
from isokl_bench.cli import main
sys.argv = ["isokl", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
import json, time
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), time.process_time()]), file=sys.stderr)
"""
    env = environment() | {"ISOKL_LOAD_PLUGINS": ""}
    paths = [str((ROOT / folder).parent) for folder in OURS.values()]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}", *args]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=Path(ROOT.anchor))
    assert done.returncode == 0, done.stderr
    modules, seconds = json.loads(done.stderr.splitlines()[-1])
    return set(modules), seconds


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "plugins",
        "plugins --json",
        "plugins show pca",
        "plugins check --help",
        "plugins new --help",
        "run --help",
        "models",
    ],
)
def test_light_commands_load_nothing_heavy(line):
    modules, _ = loaded_by(*line.split())
    assert "isokl_bench" in modules
    assert modules & HEAVY == set()
    # The defaults of `run` are those of the validated model.
    assert ("pydantic" in modules) == (line == "run --help")


def test_the_laws_are_listed_without_what_they_compute_with():
    code = "import sys, isokl_registry.conformance; print(*{name.partition('.')[0] for name in sys.modules})"
    env = environment() | {"PYTHONPATH": str(ROOT / "registry")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & (HEAVY | {"safetensors", "pytest"}) == set()


def test_a_list_of_commands_loads_none_of_them():
    assert loaded_by("--help")[0] & {"isokl_registry", "isokl_plugins", "isokl_db", "pluggy", "rich"} == set()


def test_a_listing_is_drawn_without_rich():
    assert "rich" not in loaded_by("plugins")[0]


def test_help_takes_at_most_a_third_of_a_second():
    """In CPU time, and the best of three, so that a busy machine does not fail it."""
    assert min(loaded_by("--help")[1] for _ in range(3)) <= 0.3
