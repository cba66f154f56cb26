# SPDX-License-Identifier: Apache-2.0
"""Weights out of a device and into one: whole, as an ONNX model, or as what has changed since they were compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.atomic import write_bytes
from tinytrain.device import delta
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError, OutputError
from tinytrain.ir.types import Array
from tinytrain.learn.compression import Compression, packed, unpacked
from tinytrain.learn.state import LEARNED, State
from tinytrain.learn.weights import compiled, export_learned, not_finite, parameters, restore
from tinytrain.reading import read_limited

if TYPE_CHECKING:
    from tinytrain.device.session import Session

MOST_DELTA_BYTES = 1 << 30
ENDINGS = (".npz", ".onnx")


def pull(
    project: Project, session: Session, output: Path, say: Callable[[str], None], *, changes: bool, compression: Compression | None = None
) -> None:
    """Write what the device has learned: `.npz` weights and optimiser, `.onnx` the model; with `changes` a delta to the compiled weights.

    Raises OutputError for another ending, DeviceError where the device does not hold finite weights.
    """
    if not changes:
        check_ending(output)
    before = compiled(project, session)
    data = _changes(session, before, compression) if changes else whole(project, session, output)
    write_bytes(output, data)
    count, stored_bytes = sum(array.size for array in before.values()), sum(array.nbytes for array in before.values())
    say(f"pulled     {output}: {count:,} weights, which take {stored_bytes:,} B, in {len(data):,} B")


def _changes(session: Session, before: Mapping[str, Array], compression: Compression | None) -> bytes:
    device = session.link.transport.name
    data = delta.export(session)
    head, body = delta.opened(data, device)
    learned = delta.applied(body, before, device)
    _check_finite(learned)
    return data if compression is None else replace(head, format=delta.PACKED).sealed(packed(learned, before, compression))


def check_ending(output: Path) -> None:
    """Raises OutputError where it says neither weights nor a model."""
    if output.suffix not in ENDINGS:
        raise OutputError(f"{output} ends in neither {' nor '.join(ENDINGS)}.", hint="A delta (--delta) may have any name.")


def whole(project: Project, session: Session, output: Path) -> bytes:
    """All that the device has learned, in the form that the ending of `output` says: `.npz` or `.onnx`. Raises OutputError for another."""
    check_ending(output)
    learned, optimiser = parameters(project, session)
    _check_finite({**learned, **optimiser})
    if output.suffix == ".onnx":
        model: bytes = project.with_weights(learned).SerializeToString()
        return model
    return State(learned, optimiser, None).to_bytes()


def _check_finite(arrays: Mapping[str, Array]) -> None:
    if bad := not_finite(arrays):
        raise DeviceError(f"{bad} is not finite on the device; nothing was written.", hint="Reset it, and train with a lower --lr.")


def push(project: Project, session: Session, path: Path, say: Callable[[str], None]) -> None:
    """Write weights of `pull` or `train` (.npz), or a delta, into the device, and make them the project's learned ones.

    Behind a delta the optimiser starts anew. Raises DataError for a file that is damaged or of another model.
    """
    before = session.get_params()
    if path.is_file() and _is_delta(path):
        _put(project, session, path)
    else:
        restore(project, session, path)
    after = session.get_params()
    changed = sum(int(np.count_nonzero(after[key] != before[key])) for key in after)
    model = export_learned(project, session)
    say(f"pushed     {path}: {changed:,} numbers changed on the device")
    for file in (project.folder / LEARNED, model):
        say(f"{file.suffix[1:]:<10} {file}")


def _put(project: Project, session: Session, path: Path) -> None:
    """Nothing is written into the device unless all of the delta is for it."""
    head, body = delta.opened(read_limited(path, MOST_DELTA_BYTES, "a delta", DataError), path)
    device, before = delta.head(session), compiled(project, session)
    if (head.model, head.layout) != (device.model, device.layout):
        raise DataError(f"{path} changes the weights of another model or scheme than this project's.", hint=delta.HINT)
    learned = (delta.applied if head.format == delta.RUNS else unpacked)(body, before, path)
    if bad := not_finite(learned):
        raise DataError(f"{path} makes {bad} infinite, or not a number; nothing was written.", hint=delta.HINT)
    delta.put(session, head, before, learned)


def _is_delta(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(delta.MAGIC)) == delta.MAGIC
