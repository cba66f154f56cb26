# SPDX-License-Identifier: Apache-2.0
"""`tinytrain ports`, `tinytrain monitor` and `tinytrain stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tinytrain.cli.command import Command
from tinytrain.cli.options import BAUD_RATE, PROJECT, Number, device_options, option

if TYPE_CHECKING:
    from tinytrain.device.project import Project


@click.command(cls=Command, epilog="Example: tinytrain ports")
def ports() -> None:
    """List the serial ports of this computer."""
    from tinytrain.device.serial import ports as found

    for device, description in found():
        click.echo(f"{device:<20} {description}".rstrip())


@click.command(cls=Command, epilog="Example: tinytrain monitor /dev/ttyACM0 --seconds 10")
@click.argument("port")
@option("--baud", **BAUD_RATE, help="Rate of PORT, bits a second.")
@option("--seconds", type=Number(0, min_open=True), help="How long; until Ctrl-C without it.")
@option("--hello/--listen", default=True, show_default=True,
              help="Greet the device first, which ends the session of any other host, or send nothing at all.")
def monitor(port: str, baud: int, seconds: float | None, hello: bool) -> None:
    """Show what comes from the board on PORT: its hello and counters, then text and frames as they arrive."""
    from tinytrain.device.monitor import watch
    from tinytrain.device.serial import SerialTransport

    watch(SerialTransport(port, baud), click.echo, seconds=seconds, hello=hello)


@click.command(cls=Command, epilog="Example: tinytrain stats out --port socket://bench.local:4001")
@PROJECT
@device_options
def stats(project: Project, timeout: float) -> None:
    """Show what has happened to PROJECT's model on its device: samples trained and left out, saves in flash, stack and clock."""
    from tinytrain.report.text import stats_text

    with project.session(timeout=timeout) as session:
        click.echo(stats_text(session))
