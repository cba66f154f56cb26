# SPDX-License-Identifier: Apache-2.0
"""`tinytrain ports`, `tinytrain monitor` and `tinytrain stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tinytrain.cli.answer import Answer, Spoken
from tinytrain.cli.command import Command
from tinytrain.cli.options import BAUD_RATE, PROJECT, Number, device_options, option

if TYPE_CHECKING:
    from tinytrain.device.project import Project


@click.command(cls=Command, epilog="Example: tinytrain ports")
def ports() -> Answer:
    """List the serial ports of this computer."""
    from tinytrain.cli.results import Port, Ports
    from tinytrain.device.serial import ports as found

    listed = [Port(device, description) for device, description in found()]
    return Answer("\n".join(f"{port.device:<20} {port.description}".rstrip() for port in listed), Ports(tuple(listed)), asked=True)


@click.command(cls=Command, epilog="Example: tinytrain monitor /dev/ttyACM0 --seconds 10")
@click.argument("port")
@option("--baud", **BAUD_RATE, help="Rate of PORT, bits a second.")
@option("--seconds", type=Number(0, min_open=True), help="How long; until Ctrl-C without it.")
@option("--hello/--listen", default=True, show_default=True,
              help="Greet the device first, which ends the session of any other host, or send nothing at all.")
def monitor(port: str, baud: int, seconds: float | None, hello: bool) -> Answer:
    """Show what comes from the board on PORT: its hello and counters, then text and frames as they arrive."""
    from tinytrain.device.monitor import watch
    from tinytrain.device.serial import SerialTransport

    said = Spoken(asked=True)
    watch(SerialTransport(port, baud), said, seconds=seconds, hello=hello)
    return said.answer()


@click.command(cls=Command, epilog="Example: tinytrain stats out --port socket://bench.local:4001")
@PROJECT
@device_options
def stats(project: Project, timeout: float) -> Answer:
    """Show what has happened to PROJECT's model on its device: samples trained and left out, saves in flash, stack and clock."""
    from tinytrain.cli.results import DeviceStats
    from tinytrain.device.stats import stats as device_stats
    from tinytrain.report.text import stats_text

    with project.session(timeout=timeout) as session:
        found, counters = device_stats(session), session.counters()
        result = DeviceStats(
            session.info.model, session.link.transport.name, found, counters.stack_bytes, counters.stack_reserved_bytes, counters.clock_hz
        )
        return Answer(stats_text(session, found, counters), result, asked=True)
