# SPDX-License-Identifier: Apache-2.0
"""`tinytrain flash`: a compiled project into its board."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.options import PROJECT, TRUST


@click.command()
@PROJECT
@click.option("--via", metavar="TOOL[:WHERE]",
              help="pyocd, openocd, esptool, picotool, uf2 or gdb:HOST:PORT; without it the first that fits the board and is installed.")
@click.option("--dry-run", is_flag=True, help="Only print the commands.")
@TRUST
def flash(project: Path, via: str | None, dry_run: bool, trust: bool) -> None:
    """Write the firmware of PROJECT into its board, and read it back."""
    from tinytrain.device.flash import flash_project
    from tinytrain.device.project import Project

    flash_project(Project.open(project, trust=trust), via, click.echo, dry_run=dry_run)
