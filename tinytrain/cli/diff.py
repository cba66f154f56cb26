# SPDX-License-Identifier: Apache-2.0
"""`tinytrain diff`: what two compiled projects differ in."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.answer import Answer
from tinytrain.cli.command import EXIT_WRONG, Command
from tinytrain.cli.options import TRUST


@click.command(cls=Command, epilog="Example: tinytrain diff before after")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@TRUST
def diff(first: Path, second: Path, trust: bool) -> Answer:
    """Say what the projects FIRST and SECOND differ in: options, sizes, what is trained, files. Exit code 1 where they do."""
    from tinytrain.answers.diff import diff_text, differences
    from tinytrain.cli.results import Diff
    from tinytrain.device.project import Project

    projects = [Project.open(folder, trust=trust) for folder in (first, second)]
    found, same = differences(*projects)
    text = diff_text(found, first, second, same)
    return Answer(text, Diff(first, second, tuple(found), same), asked=True, exit_code=EXIT_WRONG if found else 0)
