# SPDX-License-Identifier: Apache-2.0
"""`tinytrain completion`: the script by which a shell completes commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tinytrain.cli.answer import Answer
from tinytrain.cli.command import Command

PROGRAM = "tinytrain"


@click.command(cls=Command, epilog='Example: eval "$(tinytrain completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> Answer:
    """Print the script that makes SHELL complete commands, options, boards and files; its start-up file evaluates it."""
    from tinytrain.cli.results import Said

    kind = get_completion_class(shell)
    assert kind is not None, shell
    script = kind(click.get_current_context().find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    return Answer(script, Said(tuple(script.splitlines())), asked=True)
