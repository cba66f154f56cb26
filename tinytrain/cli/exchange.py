# SPDX-License-Identifier: Apache-2.0
"""`tinytrain pull` and `push`: weights out of a device and into one."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.options import PROJECT, TIMEOUT, TRUST
from tinytrain.errors import TinytrainError


@click.command()
@PROJECT
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="learned.npz, learned.onnx, or a delta to write.")
@click.option("--learned", is_flag=True, help="Start from PROJECT/learned.npz in place of the compiled weights.")
@click.option("--delta", is_flag=True, help="Only what has changed since the weights were compiled, bit for bit.")
@click.option("--compress", metavar="exact|topk:PART,kmeans:CODES",
              help="With --delta: packed for slow lines, which only `push` takes: exact, or the largest changes of each weight, in so many "
                   "values, or one of both.")
@TIMEOUT
@TRUST
def pull(project: Path, output: Path, learned: bool, delta: bool, compress: str | None, timeout: float, trust: bool) -> None:
    """Read the weights out of PROJECT's device."""
    from tinytrain.device.project import Project
    from tinytrain.learn import exchange
    from tinytrain.learn.compression import Compression
    from tinytrain.learn.weights import restore

    if compress is not None and not delta:
        raise TinytrainError("--compress has no effect without --delta.", hint="Give both, or neither.")
    compression = Compression.of(compress) if compress is not None else None
    opened = Project.open(project, trust=trust)
    with opened.session(timeout=timeout) as session:
        if learned:
            restore(opened, session)
        exchange.pull(opened, session, output, click.echo, changes=delta, compression=compression)


@click.command()
@PROJECT
@click.argument("weights", type=click.Path(path_type=Path))
@TIMEOUT
@TRUST
def push(project: Path, weights: Path, timeout: float, trust: bool) -> None:
    """Write WEIGHTS (an .npz or a delta of `pull`) into PROJECT's device; they become PROJECT/learned.npz and learned.onnx."""
    from tinytrain.device.project import Project
    from tinytrain.learn import exchange

    opened = Project.open(project, trust=trust)
    with opened.session(timeout=timeout) as session:
        exchange.push(opened, session, weights, click.echo)
