# SPDX-License-Identifier: Apache-2.0
"""An option of a command: the heading it stands under in --help, and what it has no effect with, or without."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from tinytrain.errors import TinytrainError

GENERAL = "Options"
TABLE = "tinytrain.table"                                 # of a context: what the command's own table of the project file says


class Option(click.Option):
    """An option that stands under a heading of --help, and is refused where it would have no effect.

    `only_with` and `not_with` name another option, with one of its values or without: "--resume", "--method percentile|mse", or several of
    which one will do: "--a or --b"; its help begins with what it is only good with.
    """

    def __init__(self, *declared: Any, section: str = GENERAL, only_with: str = "", not_with: str = "", **more: Any) -> None:
        if only_with and (said := more.get("help")):
            more["help"] = f"With {only_with}: {said[0].lower()}{said[1:]}"
        super().__init__(*declared, **more)
        self.section, self.only_with, self.not_with = section, only_with, not_with

    def check(self, ctx: click.Context) -> None:
        """Raises TinytrainError where the option was given and has no effect beside the others."""
        if not asked(ctx, str(self.name)):
            return
        given = max(self.opts, key=len)
        if self.only_with and not _holds(self.only_with, ctx):
            raise TinytrainError(f"{given} has no effect without {self.only_with}.", hint="Leave it out, or give both.")
        if self.not_with and _holds(self.not_with, ctx):
            raise TinytrainError(f"{given} has no effect with {self.not_with}.", hint="Leave one of them out.")


def asked(ctx: click.Context, name: str) -> bool:
    """Whether a parameter is meant for this very command: given on the command line, or in its own table of the project file."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE or name in ctx.meta[TABLE]


def _holds(condition: str, ctx: click.Context) -> bool:
    return any(_has(one, ctx) for one in condition.split(" or "))


def _has(condition: str, ctx: click.Context) -> bool:
    """Whether an option has one of the values, or was given at all."""
    option, _, values = condition.partition(" ")
    name = str(next(param.name for param in ctx.command.params if option in (*param.opts, *param.secondary_opts)))
    value = ctx.params[name]
    if values and isinstance(value, tuple):
        return not set(values.split("|")).isdisjoint(value)
    return value in values.split("|") if values else bool(value) and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
