# SPDX-License-Identifier: Apache-2.0
"""Damaged files of a project, seeded: one sentence that names the project and exit code 2, or a result; never anything else.

All is trusted here (`--trust`), so that what is damaged is read at all.
"""

from __future__ import annotations

import copy
import io
import json
import math
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import run, save_data, save_model, sentence, succeed, tree
from numpy_device import made, on_numpy

from tinytrain.compiler import Compiled
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.state import npz

SHORT, LONG = 60, 300                                     # mutations of each kind
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, math.nan, math.inf, 1e308, "", "x", "../x", "/etc/passwd", "a\0b", "\x1b[31m",
    "x" * 100_000, [], [[]], [1, [2]], [2**40], [0, 0, 0], ["a"], {}, {"a": 1}, [{}], [None],
)
LENGTHS = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, Path]:
    """Convolutions, of which one is trained in part, and momentum: a manifest with all that it can say; trained for an epoch."""
    folder = tmp_path_factory.mktemp("fuzz")
    scheme = folder / "s.toml"
    scheme.write_text('[layers."conv2"]\nweight = 0.5\nbias = true\n[layers."fc"]\nweight = true\nbias = true\n')
    compiled = made(save_model(folder, "cnn"), folder / "out", optimiser=Optimiser(0.01, momentum=0.5), scheme=str(scheme))
    save_data(folder / "d.npz", count=4, shape=(1, 8, 8))
    with pytest.MonkeyPatch.context() as patch:
        on_numpy(patch, compiled)
        succeed("train", folder / "out", "--data", folder / "d.npz", "--trust")
    return compiled, folder / "out"


@pytest.fixture
def out(trained: tuple[Compiled, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The trained project; what a test changes in it is put back."""
    compiled, folder = trained
    on_numpy(monkeypatch, compiled)
    before = tree(folder)
    yield folder
    restore(folder, before)


def restore(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and files.get(str(path.relative_to(folder))) != path.read_bytes():
            path.unlink()
    for name, data in files.items():
        if data and not (folder / name).exists():
            (folder / name).write_bytes(data)


def check(out: Path, name: str, damaged: bytes, what: object) -> int:
    """Infer with the learned weights and go on training, with one file damaged; the exit codes in sum."""
    before = tree(out)
    (out / name).write_bytes(damaged)
    changed = tree(out)
    data, codes = out.parent / "d.npz", 0
    for call in (("infer", "--learned", "--limit", 2), ("train", "--resume", "--changed", "--epochs", 2)):
        result = run(call[0], out, "--data", data, "--trust", *call[1:])
        assert result.exit_code in (0, 2), f"{what}: {result.output}"
        if result.exit_code == 2:
            lines = result.stderr.splitlines()
            assert lines[0].startswith("tinytrain: ") and len(lines) == 2 and len(lines[0]) < 1000, f"{what}: {result.output}"
            assert result.stderr.replace("\n", "").isprintable(), f"{what}: {result.stderr!r}"
            # a model or a layout that is damaged but whole shows when the device has trained: its weights are kept then
            kept = "learned.onnx does not compute what the device does" in lines[0] and f"{out / 'learned.npz'} holds" in lines[0]
            assert kept or tree(out) == changed, f"{what}: something was written"
        codes += result.exit_code
    restore(out, before)
    return codes


def flipped(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Flipped bits, cut ends, doubled and lost parts."""
    rng = random.Random(seed)
    for _ in range(count):
        made = bytearray(data)
        at = rng.randrange(len(made))
        match rng.randrange(4):
            case 0:
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                del made[at:]
            case 2:
                made[at : at + rng.randrange(1, 64)] = b""
            case _:
                made[at:at] = rng.randbytes(rng.randrange(1, 16))
        yield bytes(made)


def fields(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to everything inside a JSON value but the single elements of long lists."""
    if way:
        yield way
    if isinstance(value, dict):
        for key in value:
            yield from fields(value[key], (*way, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 4)):
            yield from fields(value[i], (*way, i))


@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("name", ["manifest.json", "learned.npz", "model.onnx"])
def test_bytes(name: str, count: int, out: Path) -> None:
    data = (out / name).read_bytes()
    codes = [check(out, name, damaged, (name, number)) for number, damaged in enumerate(flipped(data, count, 1))]
    assert any(codes)


@pytest.mark.parametrize("count", LENGTHS)
def test_fields_of_the_manifest(count: int, out: Path) -> None:
    described = json.loads((out / "manifest.json").read_text())
    read = [way for way in fields(described) if way[0] not in ("memory", "macs", "constants_bytes")]
    rng = random.Random(2)
    refused = 0
    for _ in range(3 * count):
        damaged, way, value = copy.deepcopy(described), rng.choice(read), rng.choice(VALUES)
        inner = damaged
        for key in way[:-1]:
            inner = inner[key]
        if rng.random() < 0.1 and isinstance(way[-1], str):
            del inner[way[-1]]
        else:
            inner[way[-1]] = value
        refused += check(out, "manifest.json", json.dumps(damaged).encode(), (way, str(value)[:40])) > 0
    assert refused > 2 * count


def _member(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def _npy(shape: tuple[int, ...], dtype: str, data: bytes) -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def test_weights_that_are_none(out: Path) -> None:
    """Each array of learned.npz: of another shape, type or range, missing, or larger than it can be when it is unpacked."""
    with np.load(out / "learned.npz") as file:
        arrays = {key: file[key] for key in file.files}
    assert {"fc_weight", "conv2_weight", "state/learning_rate", "record.json"} <= set(arrays)
    for key, array in arrays.items():
        if key == "record.json":
            continue
        nan = array.copy()
        nan.reshape(-1)[0] = np.nan
        wrong = {
            "nan": nan, "longer": np.concatenate([array.ravel(), [0]]).astype(array.dtype), "complex": array.astype(complex),
            "text": array.astype(str), "too large": np.full(array.shape, 1e300), "empty": np.zeros(0, np.float32),
            "time": array.astype("M8[s]"),
        }
        for what, value in wrong.items():
            assert check(out, "learned.npz", npz({**arrays, key: value}), (key, what)) == 4
        assert check(out, "learned.npz", npz({k: v for k, v in arrays.items() if k != key}), (key, "missing")) == 4
    assert check(out, "learned.npz", npz({**arrays, "more": np.zeros(3)}), "more") == 4
    bomb = _member("fc_weight", b"\0" * (300 << 20))
    assert len(bomb) < 1 << 20
    for damaged in (bomb, _member("fc_weight", _npy((2**40,), "<f4", b"")), _member("fc_weight", _npy((10, 256), "|O", b"\x80\x04N."))):
        assert check(out, "learned.npz", damaged, "bomb") == 4
    for member in (_npy((2**40,), "<f4", b""), _npy((10, 256), "|O", b"."), _npy((-1, -2560), "<f4", bytes(10240)), b"\x93NUMPY\x09\x00"):
        assert check(out, "learned.npz", _with(out / "learned.npz", "fc_weight", member), member[:120]) == 4


def _with(path: Path, name: str, member: bytes) -> bytes:
    """The file with one member replaced, unread."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, member if info.filename == f"{name}.npy" else old.read(info))
    return buffer.getvalue()


@pytest.mark.parametrize("count", LENGTHS)
def test_fields_of_the_record(count: int, out: Path) -> None:
    with np.load(out / "learned.npz") as file:
        arrays = {key: file[key] for key in file.files}
    record = json.loads(arrays["record.json"].tobytes())
    rng = random.Random(3)
    for _ in range(count):
        damaged, way, value = copy.deepcopy(record), rng.choice([*fields(record)]), rng.choice(VALUES)
        inner = damaged
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = value
        content = np.frombuffer(json.dumps(damaged).encode(), np.uint8)
        check(out, "learned.npz", npz({**arrays, "record.json": content}), (way, str(value)[:40]))


def test_files_that_are_not_read(out: Path) -> None:
    for name in ("history.json", "scheme.toml", "golden.npz", "learned.onnx"):
        assert check(out, name, b"\xff" * 100, name) == 0


def test_weights_in_another_file(out: Path) -> None:
    """The folder's model.onnx may not reach for other files."""
    import onnx

    model = onnx.load(out / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (out / "model.onnx").write_bytes(model.SerializeToString())
    text = sentence("train", out, "--data", out.parent / "d.npz", "--trust", "--force")
    assert f"{out / 'model.onnx'}: tensor 'conv1_weight' has its data in another file; expected the ONNX model of the project." in text
