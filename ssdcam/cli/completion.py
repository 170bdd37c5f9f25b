"""``ssdcam completion``: what a shell has to read so that it completes commands, options and names."""

from __future__ import annotations

import click

from ssdcam.cli import completing, options


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@options.verbosity
def command(shell: str) -> None:
    """Print what lets a shell complete commands, options, files and names of models.

    Bash (4.4 or newer), in ~/.bashrc; zsh likewise with zsh, in ~/.zshrc, after compinit:

        eval "$(ssdcam completion bash)"

    Fish, once:

        ssdcam completion fish > ~/.config/fish/completions/ssdcam.fish
    """
    from click.shell_completion import get_completion_class

    group = click.get_current_context().find_root().command
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(group, {}, "ssdcam", completing.VARIABLE).source(), nl=False)
