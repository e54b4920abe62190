"""`isokl report`: tables, figures and texts, from the results database alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from isokl_bench.cli.options import db_option, filter_options, output_option

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 120
_FILTERS = ("model", "method", "behavior", "protocol", "seed")


@click.group(name="report", invoke_without_command=True)
@db_option
@output_option
@filter_options(*_FILTERS)
@click.pass_context
def report(ctx: click.Context, /, db: str, output: Path, **filters: tuple[str, ...]) -> None:
    """Print Table 1, and write it and the figures to files.

    Files: table1 (md, csv, tex), figure1 (KL and other curves along the text) and figure2 (effect against
    measured KL; png, svg, html); where two or more methods can be compared, their ranking (md, csv), and over
    two or more pairs of model and behavior, their leaderboard (md, csv). Everything comes from the results
    database; no model is loaded.
    """
    if ctx.invoked_subcommand is not None:
        return
    from isokl_bench.report.make import make_report
    from isokl_db import Store

    console = _console()
    with Store(db, read_only=True) as store:
        written = make_report(store, output, filters, console)
    console.print("Wrote", ", ".join(map(str, written)), soft_wrap=True, highlight=False)
    again = f" --db {db}" if ctx.get_parameter_source("db") is ParameterSource.COMMANDLINE else ""
    console.print(f"Next: isokl report traces{again}", soft_wrap=True, highlight=False)


@report.command()
@click.argument("run", required=False)
@click.option(
    "--prompt",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Only prompt N, counted from 0; may be repeated.",
)
@click.option("--alpha", type=float, multiple=True, metavar="A", help="Only this alpha; may be repeated.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page that shows the same in a browser, instead of printing it.",
)
@db_option
@filter_options(*_FILTERS)
@click.pass_context
def traces(
    ctx: click.Context,
    /,
    run: str | None,
    prompt: tuple[int, ...],
    alpha: tuple[float, ...],
    html: Path | None,
    **_: Any,
) -> None:
    """Show sampled texts of the base and the steered model side by side.

    RUN is an attempt id or the start of a config hash; without it, the latest finished run that matches the
    filters is shown. The colour of a token is its KL.
    """
    from isokl_bench.results.traces import read_traces
    from isokl_db import Store

    given = _given(ctx)
    with Store(given["db"], read_only=True) as store:
        found = read_traces(store, run, {name: given[name] for name in _FILTERS}, prompt, alpha)
    if html is None:
        from isokl_bench.report.traces.terminal import print_traces

        print_traces(found, _console())
        return
    from isokl_bench.report.traces.html import traces_page
    from isokl_bench.report.write import write_file

    click.echo(f"Wrote {write_file(html, traces_page(found))}")


@report.command()
@click.option(
    "--threshold",
    type=float,
    default=0.75,
    show_default=True,
    metavar="P",
    help="Answer mass under which a rollout is dead.",
)
@click.option("--normalize", is_flag=True, help="Divide each KL trajectory by its own early 95th percentile.")
@db_option
@output_option
@filter_options(*_FILTERS)
@click.pass_context
def survival(ctx: click.Context, /, threshold: float, normalize: bool, **_: Any) -> None:
    """Print how long steered rollouts can still answer, and write the table and its figures to files.

    A rollout is alive until the first fork at which its answer mass is under the threshold.
    Files: survival.md, survival.csv, and as png, svg and html the Kaplan-Meier curves (survival) and the KL
    trajectories of the living and the dead (spaghetti).
    """
    from isokl_bench.report.survival.make import make_survival
    from isokl_db import Store

    given, console = _given(ctx), _console()
    filters = {name: given[name] for name in _FILTERS}
    with Store(given["db"], read_only=True) as store:
        written = make_survival(
            store, given["output"], filters, console, threshold=threshold, normalize=normalize
        )
    console.print("Wrote", ", ".join(map(str, written)), soft_wrap=True, highlight=False)


def _given(ctx: click.Context) -> dict[str, Any]:
    """The options of a subcommand; those that are not given there count as they stand in front of it."""
    before: dict[str, Any] = ctx.parent.params if ctx.parent else {}
    here = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return {name: value if name in here else before.get(name, value) for name, value in ctx.params.items()}


def _console() -> "Console":
    """On a terminal as wide as that is, else 120 columns."""
    import sys

    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
