"""`isokl plugins new`: a plugin project that works, to be changed into one's own."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from string import Template

import click

from isokl_registry import IsoklError, load_registry
from isokl_registry.registry import NAME

TEMPLATES = Path(__file__).with_name("templates")
KINDS = {  # what a README calls it, and the options that run it
    "method": ("steering method", "--method {name}"),
    "stat": ("calibration stat", "--method pca --stat {name}"),
    "metric": ("metric", "--method pca --metric {name}"),
}
OTHER = {
    "behavior": "a behavior is a TOML file: write one and give it as --behavior haste.toml",
    "model": "a model is a hub id or a folder: give it as --model FOLDER",
}
TAKEN_BY_TEMPLATES = {
    "Array", "Callable", "ClassVar", "Contrast", "Iterable", "Measurement", "Method", "Metric", "Session",
    "SimpleNamespace", "Site", "Stat", "State", "Tensor", "TokenValues",
}  # fmt: skip


def _kind(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value in KINDS:
        return value
    why = OTHER.get(value, f"{value!r} is not a kind of plugin")
    raise click.BadParameter(f"{why}. There are templates for {', '.join(KINDS)}.", ctx, param)


@click.command()
@click.argument("kind", callback=_kind)
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write, which must not exist yet.  [default: isokl-NAME]",
)
def new(kind: str, name: str, output: Path | None) -> None:
    """Write a plugin project with one method (or stat, or metric; KIND) called NAME, and its tests.

    It works as it stands: installed with pip, it passes its tests. What it computes is an example to be
    changed.
    """
    _check_name(kind, name)
    values = _values(kind, name)
    folder = output or Path(values["distribution"])
    written = _write(kind, values, folder)
    click.echo(f"wrote {folder}: {', '.join(written)}")
    click.echo("what it computes is in " + click.style(f"{values['module']}.py", fg="cyan") + "; next:")
    for line in (f"cd {quote(str(folder))}", "pip install -e .", f"isokl plugins check {name}", "pytest"):
        click.echo(f"   {line}")


def _check_name(kind: str, name: str) -> None:
    """Raise IsoklError for a name that the registry would refuse."""
    if not NAME.fullmatch(name):
        raise IsoklError(
            f"the name {name!r} will not do: use letters, digits, '_', '.' and '-', as in my_{kind}"
        )
    entries = load_registry().entries[kind]
    if name in entries:
        raise IsoklError(f"{kind} name {name!r} is taken by {entries[name].source}: choose another")


def _values(kind: str, name: str) -> dict[str, str]:
    """What the templates leave open."""
    words = [word for word in re.split(r"[-_.]+", name) if word]
    module = "isokl_" + "_".join(words).lower()
    if find_spec(module):
        raise IsoklError(f"there is a Python module {module} already: choose another name than {name!r}")
    class_name = "".join(word[0].upper() + word[1:] for word in words)
    if not class_name.isidentifier() or keyword.iskeyword(class_name) or class_name in TAKEN_BY_TEMPLATES:
        class_name = f"My{class_name}"
    what, options = KINDS[kind]
    return {
        "kind": kind,
        "what": what,
        "options": options.format(name=name),
        "name": name,
        "module": module,
        "distribution": module.replace("_", "-"),
        "class_name": class_name,
    }


def _write(kind: str, values: dict[str, str], folder: Path) -> list[str]:
    """Fill in the templates and return the names of the files. Raises IsoklError when the folder is there
    already."""
    files: dict[str, str] = {}
    for source in (*sorted((TEMPLATES / kind).iterdir()), *sorted((TEMPLATES / "project").iterdir())):
        template = Template(source.read_text(encoding="utf-8"))
        files[source.name.removesuffix(".in").replace("MODULE", values["module"])] = template.substitute(
            values
        )
    try:
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise IsoklError(f"{folder} exists already: give another folder with --output") from None
    except OSError as error:
        raise IsoklError(
            f"{folder} cannot be written ({error.strerror}): give another folder with --output"
        ) from None
    return list(files)
