"""The command line: a thin layer over `isokl_bench.run` and the store, each command loaded only when it is called."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

import click

COMMANDS = {
    "run": "Fit a steering, calibrate it, validate it and measure it.",
    "sweep": "Run a grid of them in parallel, computing only what is missing.",
    "report": "Print Table 1 and the ranking; write them and the figures as files.",
    "verify": "Judge the claims R1 to R6 from what is stored.",
    "gap": "Measure where the gap between calibration and evaluation comes from.",
    "behaviors": "Check whether a behavior can be measured on a model.",
    "plugins": "List what there is of each kind, and what was left out.",
    "models": "List and clear the converted models in the cache folder.",
    "db": "Look into the results database, and merge others into it.",
    "info": "Print what a bug report needs.",
    "completion": "Print the script that completes isokl lines in a shell.",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"isokl_bench.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from isokl_registry import IsoklError, unknown

            raise IsoklError(unknown("command", args[0], COMMANDS))
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "color": False if os.environ.get("NO_COLOR") else None,
    },
)
@click.version_option(package_name="isokl-bench", prog_name="isokl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line).")
def cli(debug: bool) -> None:
    """Steering methods compared at one KL budget: calibrated, validated, measured, stored."""


def main() -> None:
    """Entry point: every failure is one line on stderr and a non-zero exit code."""
    # On a busy machine torch's OpenMP threads would spin for a core that others have: a hundred times slower. Spinning for
    # microseconds instead of milliseconds costs an idle machine nothing. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    args = sys.argv[1:]
    debug = "--debug" in args
    code = invoke([arg for arg in args if arg != "--debug"], debug=debug)
    gc.freeze()  # looking for garbage once more takes a report of 10 000 runs 0.2 s, and the process ends here
    sys.exit(code)


def invoke(args: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit code: 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    try:
        result = cli.main(args, prog_name="isokl", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "\ninterrupted: what was finished is stored; the same command (without --force) continues from there",
            err=True,
        )
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left; Python would complain once more at exit
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(f"error: {explain(error)}", err=True)
        return 1


def explain(error: Exception) -> str:
    """One line for any exception. Our own say what to do; for others the traceback is offered."""
    from isokl_registry import IsoklError

    text = " ".join(str(error).split())
    ours = isinstance(error, IsoklError) or type(error).__name__ == "StoreError"  # isokl_db stays unloaded
    return text if ours else f"{type(error).__name__}: {text or 'no message'} (add --debug for the traceback)"
