# SPDX-License-Identifier: Apache-2.0
"""`tinytrain pull` and `push`: weights out of a device and into one; `store`: what it keeps in its flash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinytrain.cli.answer import Answer, Spoken
from tinytrain.cli.command import Command
from tinytrain.cli.options import PROJECT, device_options, option
from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.device.project import Project


@click.command(cls=Command, epilog="Example: tinytrain pull out -o learned.onnx --port /dev/ttyACM0")
@PROJECT
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="learned.npz, learned.onnx, or a delta to write.")
@option("--learned", is_flag=True, help="Start from PROJECT/learned.npz in place of the weights that the device has.")
@option("--delta", is_flag=True, help="Only what has changed since the weights were compiled, bit for bit.")
@option("--compress", metavar="exact|topk:PART,kmeans:CODES",
              only_with="--delta",
              help="Packed for slow lines, which only `push` takes: exact, or the largest changes of each weight, in so many "
                   "values, or one of both.")
@device_options
def pull(project: Project, output: Path, learned: bool, delta: bool, compress: str | None, timeout: float) -> Answer:
    """Read the weights out of PROJECT's device."""
    from tinytrain.learn import exchange
    from tinytrain.learn.compression import Compression
    from tinytrain.learn.weights import restore

    compression = Compression.of(compress) if compress is not None else None
    said = Spoken()
    with project.session(timeout=timeout) as session:
        if learned:
            restore(project, session)
        exchange.pull(project, session, output, said, changes=delta, compression=compression)
    return said.answer()


@click.command(cls=Command, epilog="Example: tinytrain push out delta.ttd --port auto")
@PROJECT
@click.argument("weights", type=click.Path(path_type=Path))
@device_options
def push(project: Project, weights: Path, timeout: float) -> Answer:
    """Write WEIGHTS (an .npz or a delta of `pull`) into PROJECT's device; they become PROJECT/learned.npz and learned.onnx."""
    from tinytrain.learn import exchange

    said = Spoken()
    with project.session(timeout=timeout) as session:
        exchange.push(project, session, weights, said)
    return said.answer()


@click.command(cls=Command, epilog="Example: tinytrain store out save --port /dev/ttyACM0")
@PROJECT
@click.argument("what", type=click.Choice(["save", "load", "factory-reset"]))
@device_options
def store(project: Project, what: str, timeout: float) -> Answer:
    """Have the board on --port save what it has learned in its flash, load the last save, or go back to the compiled weights for good."""
    from tinytrain.cli.results import Store
    from tinytrain.device.store import CALLS
    from tinytrain.report.text import kept_text

    if project.port is None:
        message = f"store {what} is for a real board, whose flash keeps it; expected --port."
        raise TinytrainError(message, hint="`tinytrain ports` lists what there is.")
    with project.session(timeout=timeout) as session:
        kept = CALLS[what](session)
    return Answer(f"samples    {kept.steps:,} trained\n{kept_text(kept)}", Store(what, kept))
