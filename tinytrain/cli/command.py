# SPDX-License-Identifier: Apache-2.0
"""How every command behaves: its help, what an option needs, errors, and exit codes (docs/command-line.md).

A user's error is one sentence on stderr and exit code 2, a training that failed the same and 3; --debug shows the traceback. A fault of
ours is one line, too, with exit code 70 (EX_SOFTWARE of sysexits.h).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from tinytrain.cli.answer import DEBUG, DEBUG_ASKED, JSON, JSON_ASKED, QUIET, Answer, fail, show
from tinytrain.cli.option import GENERAL, TABLE, Option
from tinytrain.cli.project_file import FILE, HINT, defaults, read
from tinytrain.errors import TinytrainError, did_you_mean
from tinytrain.reading import first_line

EXIT_WRONG = 1                                            # what was checked is not so: `verify`, `diff`
EXIT_ERROR = TinytrainError.exit_code
EXIT_FAULT = 70
EXIT_INTERRUPTED = 130
_SPACE = "Check the path, its permissions and the space left."


class Command(click.Command):
    """A command with its options under headings, and its example as it can be copied. What it returns is an `Answer`, or nothing.

    `reads_project`: whether the project file counts; not for what writes it anew.
    """

    def __init__(self, *given: Any, reads_project: bool = True, **more: Any) -> None:
        super().__init__(*given, **more)
        self.params += [JSON, QUIET, DEBUG]
        self.reads_project = reads_project

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """With the project file's values for what the command line does not say. Raises TinytrainError for a bad one."""
        content = read(ctx.find_root()) if self.reads_project and not ctx.resilient_parsing else {}
        ctx.default_map, ctx.meta[TABLE] = defaults(content, _words(ctx), self.params)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            if error.param is not None and ctx.get_parameter_source(str(error.param.name)) is ParameterSource.DEFAULT_MAP:
                raise TinytrainError(f"{FILE}: {error.format_message()}", hint=HINT) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:
        for param in self.params:
            if isinstance(param, Option):
                param.check(ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {GENERAL: []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                sections.setdefault(param.section if isinstance(param, Option) else GENERAL, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:                                   # never wrapped: an example is there to be copied
            formatter.write(f"\n{self.epilog}\n")


def _words(ctx: click.Context) -> list[str]:
    """The names of a command below the program's."""
    return [] if ctx.parent is None else [*_words(ctx.parent), str(ctx.info_name)]


class Main(click.Group):
    """The group of all commands: turns every TinytrainError into its sentence.

    `sections` are the headings of --help with their commands, `elsewhere` the modules that have a command, imported when it is asked for.
    """

    command_class = Command

    def __init__(
        self, *given: Any, sections: Mapping[str, Sequence[str]] | None = None, elsewhere: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self.params.append(DEBUG)
        self.sections, self.elsewhere = sections or {}, elsewhere or {}

    def __call__(self, *args: Any, **more: Any) -> Any:
        """As a program: what nobody foresaw is our fault, and said so. Tests, which call `main`, see the exception itself."""
        try:
            return self.main(*args, **more)
        except Exception as error:
            if "--debug" in sys.argv:
                raise
            kind = type(error).__name__
            text = first_line(error)
            said = kind if text == kind else f"{kind}: {text}"
            click.echo(f"tinytrain: this is a fault of tinytrain ({said}).\nPlease report it; --debug shows the traceback.", err=True)
            sys.exit(EXIT_FAULT)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.elsewhere:
            command: click.Command = getattr(importlib.import_module(self.elsewhere[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in (known := self.list_commands(ctx)):
            ctx.fail(f"There is no command {args[0]!r}. {did_you_mean(args[0], known, 'See `tinytrain --help`.')}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.sections.items():
            with formatter.section(title):
                commands = ((name, self.get_command(ctx, name)) for name in names)
                formatter.write_dl([(name, command.get_short_help_str(160)) for name, command in commands if command is not None])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[JSON_ASKED] = "--json" in args           # before it is parsed: what cannot be parsed is said in JSON too
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            answer = super().invoke(ctx)
            if isinstance(answer, Answer):
                show(ctx, answer)
        except click.UsageError as error:
            fail(ctx, error.format_message(), said=False)
            raise
        except TinytrainError as error:
            if ctx.meta.get(DEBUG_ASKED):
                raise
            fail(ctx, " ".join(error.sentences), error.details, error.hint)
            ctx.exit(error.exit_code)
        except OSError as error:
            # whatever a full disk, a lost mount or missing rights do outside the places that say more about it
            if ctx.meta.get(DEBUG_ASKED) or isinstance(error, BrokenPipeError):
                raise                                     # nobody reads on: click ends quietly
            where = f"{error.filename}: " if error.filename is not None else ""
            fail(ctx, f"{where}{error.strerror or first_line(error)}.", hint=_SPACE)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt:
            click.echo("tinytrain: interrupted.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        if isinstance(answer, Answer):
            ctx.exit(answer.exit_code)
