# SPDX-License-Identifier: Apache-2.0
"""`tinytrain flash`: a compiled project into its board."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.answer import Answer, Spoken
from tinytrain.cli.command import Command
from tinytrain.cli.options import BAUD, PORT_KINDS, PROJECT, TRUST, Number, device, option


@click.command(cls=Command, epilog="Example: tinytrain flash out --via gdb:localhost:3333 --port /dev/ttyACM0")
@PROJECT
@option("--via", metavar="TOOL[:WHERE]",
              help="pyocd, openocd, esptool, picotool, uf2 or gdb:HOST:PORT; without it the first that fits the board and is installed.")
@option("--dry-run", is_flag=True, help="Only print the commands.")
@device("--port", metavar="PORT", help=f"Serial port on which the firmware must answer then: {PORT_KINDS}.")
@BAUD
@device("--timeout", only_with="--port",
        type=Number(0, min_open=True), default=10.0, show_default=True, help="Seconds to wait for that answer.")
@TRUST
def flash(project: Path, via: str | None, dry_run: bool, port: str | None, baud: int, timeout: float, trust: bool) -> Answer:
    """Write the firmware of PROJECT into its board, read it back, and with --port hear it say hello."""
    from tinytrain.device.flash import flash_project
    from tinytrain.device.project import Project

    opened = Project.open(project, trust=trust, port=port, baud=baud)
    said = Spoken(asked=dry_run)
    flash_project(opened, via, said, dry_run=dry_run, timeout=timeout)
    return said.answer()
