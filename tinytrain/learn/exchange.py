# SPDX-License-Identifier: Apache-2.0
"""Weights out of a device and into one: whole, as an ONNX model, or as what has changed since they were compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.atomic import write_bytes
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError, OutputError
from tinytrain.frontend.export import export
from tinytrain.ir.types import Array
from tinytrain.learn import delta
from tinytrain.learn.delta import Compression
from tinytrain.learn.state import LEARNED, State
from tinytrain.learn.weights import export_learned, not_finite, on_device, parameters, restore
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
    if not changes and output.suffix not in ENDINGS:
        raise OutputError(f"{output} ends in neither {' nor '.join(ENDINGS)}.", hint="A delta (--delta) may have any name.")
    learned, optimiser = parameters(project, session)
    if bad := not_finite({**learned, **optimiser}):
        raise DeviceError(f"{bad} is not finite on the device; nothing was written.", hint="Reset it, and train with a lower --lr.")
    stored = _compiled(project, learned)
    if changes:
        data = delta.encode(learned, stored, project.manifest.model_sha256, compression)
    elif output.suffix == ".onnx":
        data = export(project.model, learned, str(project.folder)).SerializeToString()
    else:
        data = State(learned, optimiser, None).to_bytes()
    write_bytes(output, data)
    count, stored_bytes = sum(array.size for array in stored.values()), sum(array.nbytes for array in stored.values())
    say(f"pulled     {output}: {count:,} weights, which take {stored_bytes:,} B, in {len(data):,} B")


def push(project: Project, session: Session, path: Path, say: Callable[[str], None]) -> None:
    """Write weights of `pull` or `train` (.npz), or a delta, into the device, and make them the project's learned ones.

    A delta leaves the optimiser as it is. Raises DataError for a file that is damaged or of another model.
    """
    before = session.get_params()
    if path.is_file() and _is_delta(path):
        data = read_limited(path, MOST_DELTA_BYTES, "a delta", DataError)
        compiled = _compiled(project, dict.fromkeys(p.name for p in project.manifest.parameters))
        session.set_params(on_device(project, delta.decode(data, compiled, project.manifest.model_sha256, path)))
    else:
        restore(project, session, path)
    after = session.get_params()
    changed = sum(int(np.count_nonzero(after[key] != before[key])) for key in after)
    model = export_learned(project, session)
    say(f"pushed     {path}: {changed:,} numbers changed on the device")
    for file in (project.folder / LEARNED, model):
        say(f"{file.suffix[1:]:<10} {file}")


def _is_delta(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(delta.MAGIC)) == delta.MAGIC


def _compiled(project: Project, names: Mapping[str, Array | None]) -> dict[str, Array]:
    return {name: project.initializers[name] for name in names}
