"""Figure 1 as files, drawn without a browser: PNG, SVG, and a page that needs no network."""

from __future__ import annotations

from contextlib import suppress
from html import escape
from importlib.metadata import version
from json import dumps
from typing import Any

import vl_convert

SCALE = 2  # pixels of the PNG per pixel of the drawing

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<body style="margin: 1em; background: white">
<div id="figure"></div>
<script>
{script}
</script>
<script>
vegaEmbed("#figure", {spec}, {{mode: "vega-lite"}});
</script>
"""


def svg(spec: dict[str, Any]) -> str:
    """The figure as SVG."""
    return str(vl_convert.vegalite_to_svg(spec))


def png(svg_text: str) -> bytes:
    """The same drawing as PNG."""
    return bytes(vl_convert.svg_to_png(svg_text, scale=SCALE))


def page(spec: dict[str, Any], title: str) -> str:
    """A page on its own, with the values under the pointer."""
    plain = dumps(spec, ensure_ascii=False).replace("</", "<\\/")
    return _PAGE.format(title=escape(title), script=vega_script(), spec=plain)


def vega_script() -> str:
    """Vega as one script. It takes seconds to pack, so it is kept in the user's cache folder."""
    from platformdirs import user_cache_path

    kept = user_cache_path("isokl-bench") / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # the stub demands what has a default
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(script, encoding="utf-8")
        part.replace(kept)
    return script
