"""`isokl completion`: the script that completes `isokl` lines in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_ISOKL_COMPLETE"  # as click derives it from the program's name


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options when TAB is pressed.

    \b
        echo 'eval "$(isokl completion bash)"' >> ~/.bashrc
        echo 'eval "$(isokl completion zsh)"' >> ~/.zshrc
        isokl completion fish > ~/.config/fish/completions/isokl.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "isokl", VARIABLE).source())
