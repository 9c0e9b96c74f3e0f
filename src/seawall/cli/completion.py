"""`seawall completion`: what a shell needs to complete verbs and options."""

from __future__ import annotations

import click

_WHERE = {
    "bash": 'eval "$(seawall completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(seawall completion zsh)"   in ~/.zshrc, after compinit',
    "fish": "seawall completion fish > ~/.config/fish/completions/seawall.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    $ eval "$(seawall completion bash)"
    $ seawall completion fish > ~/.config/fish/completions/seawall.fish
    """
    from click.shell_completion import get_completion_class

    from seawall.cli.group import seawall

    made = get_completion_class(shell)
    assert made is not None
    # `source()` would ask the bash that is on the PATH for its version; the script itself needs none of it.
    complete = made(seawall, {}, "seawall", "_SEAWALL_COMPLETE")
    click.echo(f"# {_WHERE[shell]}")
    click.echo(complete.source_template % complete.source_vars())
