# SPDX-License-Identifier: Apache-2.0
"""learned.npz and last.npz: weights, state of the optimiser, and the record of how they came to be, in a file that is replaced at once."""

from __future__ import annotations

import hashlib
import io
import json
import math
import reprlib
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import read_limited, reading

LEARNED = "learned.npz"
LEARNED_MODEL = "learned.onnx"
LAST = "last.npz"                                         # the last epoch of a training, where learned.npz has a better one
STATE = "state/"                                          # prefix of optimiser state among the arrays
RECORD = "record.json"                                    # the record among them, as bytes
MOST_RECORD_BYTES = 64 << 20
MOST_ITEM_BYTES = 8                                       # of one element
MOST_HEADER_BYTES = 1 << 12
Settings = dict[str, str | int | float | None]
EXPECTED = "the parameters of this project"
_HINT = "Train the project again."


@dataclass(frozen=True)
class Epoch:
    """Means over one epoch: loss before each update; accuracy and loss on the validation samples, None where there are none.

    Of the `steps` samples, `skipped` had a loss below or above the thresholds and changed nothing; loss or gradients of `overflowed` were
    infinite, or not a number. The loss is that of all but those above, and those whose loss is not finite.
    """

    epoch: int
    loss: float
    accuracy: float | None
    validation_loss: float | None
    steps: int
    seconds: float
    skipped: int = 0
    overflowed: int = 0

    def better(self, other: Epoch) -> bool:
        """Whether the validation samples say so: by accuracy and then by loss. What nobody has measured is better the later it is."""
        if self.accuracy is not None and other.accuracy is not None and self.accuracy != other.accuracy:
            return self.accuracy > other.accuracy
        return self.validation_loss is None or other.validation_loss is None or self.validation_loss < other.validation_loss


@dataclass(frozen=True)
class Record:
    """How weights came to be. `settings` is what a resumed training has in common with this one, each named as a user knows it.

    `model_sha256` is that of the compiled model; `before` is the loss of some samples before the first step, `untrained` that of the
    validation samples and their accuracy, as epoch 0, None without any. `classes` are the names of labels that the samples had, `scaling`
    says how values of a file became samples; "" where they were no file's. `best` is the number of the epoch whose weights are kept as
    learned.npz, 0 before the first.
    """

    model_sha256: str
    settings: Settings
    before: float
    epochs: tuple[Epoch, ...]
    classes: tuple[str, ...] = ()
    scaling: str = ""
    untrained: Epoch | None = None
    best: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def of(cls, text: bytes) -> Record:
        """Raises whatever a damaged one leads to."""
        found = json.loads(text.decode("utf-8"))
        settings, epochs = found["settings"], tuple(Epoch(**epoch) for epoch in found["epochs"])
        if not isinstance(settings, dict) or not all(value is None or isinstance(value, (str, int, float)) for value in settings.values()):
            raise ValueError("settings that are none")
        if not 0 <= float(settings.get("--lr") or 0) < math.inf:
            raise ValueError("a learning rate that is none")
        untrained = Epoch(**found["untrained"]) if found.get("untrained") else None
        for number, epoch in [*enumerate(epochs, start=1), *([(0, untrained)] if untrained else [])]:
            numbers = [value for value in asdict(epoch).values() if value is not None]
            if epoch.epoch != number or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers):
                raise ValueError(f"epoch {number} that is none")
        names = found.get("classes", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("classes that are none")
        scaling, best = str(found.get("scaling", "")), found.get("best", len(epochs))         # older ones kept the last
        if not isinstance(best, int) or not min(len(epochs), 1) <= best <= len(epochs):
            raise ValueError("a best epoch that is none")
        return cls(str(found["model_sha256"]), settings, float(found["before"]), epochs, tuple(names), scaling, untrained, best)


@dataclass(frozen=True)
class State:
    """Parameters by ONNX initializer name in ONNX layout; state of the optimiser by its name on the device; None without a record."""

    learned: Mapping[str, Array]
    optimiser: Mapping[str, Array]
    record: Record | None

    def to_bytes(self) -> bytes:
        arrays = {**self.learned, **{STATE + name: array for name, array in self.optimiser.items()}}
        if self.record is not None:
            arrays[RECORD] = np.frombuffer(self.record.to_json().encode(), np.uint8)
        return npz(arrays)


def npz(arrays: Mapping[str, Array]) -> bytes:
    """An .npz: the same bytes for the same arrays, whatever they are called (NumPy's own cannot have one called "file")."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in arrays.items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_state(path: Path, shapes: Mapping[str, tuple[int, ...]], elements: Mapping[str, int]) -> State:
    """`shapes` are those of the parameters by ONNX name; `elements` count what the device keeps of the optimiser, by name.

    Nothing is unpacked that is larger than what is expected. Raises DataError for a missing or damaged file, or of another model.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected the weights of an earlier training.", hint="Train first: `tinytrain train`.")
    counts = {**{name: math.prod(shape) for name, shape in shapes.items()}, **{STATE + name: count for name, count in elements.items()}}
    most_bytes = sum(counts.values()) * MOST_ITEM_BYTES + MOST_RECORD_BYTES + (len(counts) + 1) * 2 * MOST_HEADER_BYTES
    data = read_limited(path, most_bytes, EXPECTED, DataError)
    with reading(path, EXPECTED, DataError, hint=_HINT), zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        missing, more = counts.keys() - members.keys(), members.keys() - counts.keys() - {RECORD}
        if missing or more:
            what = f"lacks {reprlib.repr(sorted(missing)[0])}" if missing else f"has {reprlib.repr(sorted(more)[0])} beside them"
            raise DataError(f"{path} does not hold the parameters of this project: it {what}.", hint=_HINT)
        arrays = {name: _array(file, members[name], count) for name, count in counts.items()}
        record = Record.of(_array(file, members[RECORD], None).tobytes()) if RECORD in members else None
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"{path}: {reprlib.repr(name)} has the shape {[*arrays[name].shape]}; expected {[*shape]}.", hint=_HINT)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {reprlib.repr(name)} holds numbers that are not finite; expected weights.", hint=_HINT)
    return State({name: arrays[name] for name in shapes}, {name: arrays[STATE + name] for name in elements}, record)


def read_record(path: Path) -> Record | None:
    """How the weights in such a file came to be; None where there is no file, or it does not say so. Raises DataError for a damaged one."""
    if not path.is_file():
        return None
    with reading(path, EXPECTED, DataError, hint=_HINT), zipfile.ZipFile(path) as file:
        member = next((info for info in file.infolist() if info.filename == f"{RECORD}.npy"), None)
        return None if member is None else Record.of(_array(file, member, None).tobytes())


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo, count: int | None) -> Array:
    """One array of numbers with `count` elements; None for bytes. Raises whatever is wrong with it."""
    if member.file_size > MOST_HEADER_BYTES + (MOST_RECORD_BYTES if count is None else count * MOST_ITEM_BYTES):
        raise ValueError(f"{member.filename} unpacks to {member.file_size:,} bytes")
    content = io.BytesIO(file.read(member))
    version = np.lib.format.read_magic(content)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(content)
    data = content.read()
    if dtype.kind not in "fiu" or fortran or len(data) != math.prod(shape) * dtype.itemsize or count not in (None, math.prod(shape)):
        raise ValueError(f"{member.filename} is {dtype} of shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape)


def samples_digest(samples: Dataset) -> str:
    """What tells one set of samples from another: a hash of every value."""
    found = hashlib.sha256()
    for part in (samples.x, samples.y):
        found.update(repr(None if part is None else (part.shape, part.dtype.str)).encode())
        for row in () if part is None else part:
            found.update(np.ascontiguousarray(row).tobytes())
    return found.hexdigest()


def epoch_text(epoch: Epoch, epochs: int) -> str:
    """One line for people; epoch 0 is what was measured before training."""
    measured = "" if epoch.validation_loss is None else f"   validation loss {epoch.validation_loss:.4f}"
    measured += "" if epoch.accuracy is None else f"   accuracy {epoch.accuracy:.2%}"
    if epoch.epoch == 0:
        return f"epoch 0/{epochs}   loss {epoch.loss:.4f}{measured}   before training"
    counts = (("skipped", epoch.skipped), ("overflowed", epoch.overflowed))
    left_out = "".join(f", {count:,} {what}" for what, count in counts if count)
    return f"epoch {epoch.epoch}/{epochs}   loss {epoch.loss:.4f}{measured}   {epoch.steps:,} steps in {epoch.seconds:.1f} s{left_out}"
