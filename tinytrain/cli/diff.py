# SPDX-License-Identifier: Apache-2.0
"""`tinytrain diff`: what two compiled projects differ in."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tinytrain.cli.options import TRUST


@click.command(epilog="Example: tinytrain diff before after")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@TRUST
def diff(first: Path, second: Path, trust: bool) -> None:
    """Say what the projects FIRST and SECOND differ in: options, sizes, what is trained, files. Exit code 1 where they do."""
    from tinytrain.answers.diff import diff_text, differences, same_files
    from tinytrain.device.project import Project

    projects = [Project.open(folder, trust=trust) for folder in (first, second)]
    found = differences(*projects)
    click.echo(diff_text(found, first, second, same_files(*projects)))
    sys.exit(1 if found else 0)
