"""A figure as files, drawn without a browser: PNG, SVG, and a page that needs no network."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from json import dumps
from pathlib import Path
from typing import Any

import vl_convert

from isokl_bench.report.figures.drawing import still
from isokl_bench.report.pages import render
from isokl_bench.report.write import make_folder, remove_file, write_file
from isokl_registry import IsoklError

SCALE = 2  # pixels of the PNG per pixel of the drawing


def write_figure(folder: Path, name: str, specification: dict[str, Any] | None, title: str) -> list[Path]:
    """The figure as NAME.png, NAME.svg and NAME.html; without one, those of an earlier report are removed.

    Drawing takes seconds, so what an earlier report drew for the same page is left as it is. Raises
    IsoklError when a file cannot be written."""
    files = png_file, svg_file, page_file = [folder / f"{name}.{kind}" for kind in ("png", "svg", "html")]
    if specification is None:
        for file in files:
            remove_file(file)
        return []
    text = page(specification, title)
    if not _stands(page_file, text, [png_file, svg_file]):
        drawing = svg(still(specification))
        write_file(png_file, png(drawing))
        write_file(svg_file, drawing)
        write_file(page_file, text)  # after its images: see _stands
    return files


def _stands(page_file: Path, text: str, images: list[Path]) -> bool:
    """Whether the page is there as it would be written now, and its images as they were drawn before it."""
    try:
        written = page_file.stat().st_mtime_ns
        return page_file.read_bytes() == text.encode() and all(
            i.stat().st_mtime_ns <= written for i in images
        )
    except OSError:
        return False


def svg(spec: dict[str, Any]) -> str:
    """The figure as SVG."""
    return str(vl_convert.vegalite_to_svg(spec))


def png(svg_text: str) -> bytes:
    """The same drawing as PNG."""
    return bytes(vl_convert.svg_to_png(svg_text, scale=SCALE))


def page(spec: dict[str, Any], title: str) -> str:
    """A page on its own, with the values under the pointer. It names what its images are drawn from, and with
    what."""
    drawn = dumps([version("vl-convert-python"), SCALE, still(spec)])
    drawing = sha256(drawn.encode()).hexdigest()
    return render("figure.html", title=title, drawing=drawing, vega=vega_script(), specification=spec)


def vega_script() -> str:
    """Vega as one script. It takes seconds to pack, so it is kept in the user's cache folder."""
    from platformdirs import user_cache_path

    kept = user_cache_path("isokl-bench") / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # has a default, says no stub
    with suppress(IsoklError):
        make_folder(kept.parent)
        write_file(kept, script)
    return script
