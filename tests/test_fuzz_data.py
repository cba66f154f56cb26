# SPDX-License-Identifier: Apache-2.0
"""Damaged data files: what is read is what NumPy reads, or one sentence names the file; never a traceback, a hang or much memory."""

from __future__ import annotations

import io
import random
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutations import BYTES, Mutation, swapped

from tinytrain.data.dataset import Dataset, Labels, Layout, load_dataset
from tinytrain.errors import TinytrainError

MAP = Layout((1, 4, 4), (1, 2, 0))
X = np.random.default_rng(7).integers(-50, 50, (6, 1, 4, 4)).astype(np.float32)
Y = np.arange(6, dtype=np.int64) % 3
SHORT, LONG = 60, 700                                     # mutations of each kind of file
SECONDS, BYTES_MOST = 20.0, 300_000_000

HEADER = swapped([
    b"'<f4'", b"'>f4'", b"'<f8'", b"'|O'", b"'<U4'", b"'<c8'", b"'|b1'", b"'<M8[s]'", b"'|V4'", b"'<f4,<i4'", b"[('a','<f4')]",
    b"(6, 1, 4, 4)", b"(6,)", b"()", b"(96,)", b"(0, 1, 4, 4)", b"(-6, 1, 4, 4)", b"(6, 1, 4, 4, 1)", b"(6, 1, 4, 10000000000)",
    b"(4294967296, 4294967296)", b"(6, 1, 4, '4')", b"(6.0, 16)", b"(True, 96)", b"None", b"False", b"True", b"'descr'", b"'shape'",
    b"'fortran_order'", b"{", b"}", b"((((", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00",
])
CELLS = swapped([
    b",", b";", b"\t", b"\n", b"\r\n", b"\n\n", b",,", b'"', b"#", b"label", b"y", b"ax", b"nan", b"1e400", b"1_0", b"-", b"2",
    b"2.5", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa4", b"\x00", b"1,5", b"0x1", b" ", b"e", b".",
])


def entry_field(data: bytes, rng: random.Random) -> bytes:
    """A field of a zip archive: of a local header, of the directory or of its end."""
    mark, size = rng.choice(((b"PK\x03\x04", 30), (b"PK\x01\x02", 46), (b"PK\x05\x06", 22)))
    places = [i for i in range(len(data)) if data.startswith(mark, i)]
    if not places:
        return data[1:]
    width = rng.choice((1, 2, 4))
    at = rng.choice(places) + rng.randrange(4, size - width + 1)
    value = rng.choice((0, 1, 8, 9, 12, 14, 99, 256**width - 1, 256**width // 2)) % 256**width
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def inside(data: bytes, rng: random.Random) -> bytes:
    """The array in an archive is damaged, and the archive written well around it."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    victim = rng.choice(sorted(contents))
    contents[victim] = (HEADER if rng.random() < 0.6 else rng.choice(BYTES))(contents[victim], rng)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return made.getvalue()


def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def table() -> bytes:
    rows = [f"{y},{','.join(f'{v:g}' for v in x.reshape(-1))}" for x, y in zip(X, Y, strict=True)]
    return "\n".join(["label," + ",".join(f"p{i}" for i in range(16)), *rows, ""]).encode()


def image() -> bytes:
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").fromarray(X[0, 0].astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


VALID: dict[str, tuple[Callable[[], bytes], tuple[Mutation, ...]]] = {
    "d.npy": (lambda: saved(np.save, X), (*BYTES, HEADER, HEADER)),
    "stored.npz": (lambda: saved(np.savez, x=X, y=Y), (*BYTES, entry_field, entry_field, inside, inside)),
    "packed.npz": (lambda: saved(np.savez_compressed, x=X, y=Y), (*BYTES, entry_field, entry_field, inside)),
    "d.csv": (table, (*BYTES, CELLS, CELLS, CELLS)),
    "set/a/i.png": (image, BYTES),
}


def with_numpy(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """What NumPy reads, as float32 rows, and labels."""
    loaded = np.load(path)
    x, y = (loaded, None) if isinstance(loaded, np.ndarray) else (loaded["x"], loaded["y"])
    return x.reshape(len(x), -1).astype(np.float32), y


def check(path: Path, found: Dataset) -> None:
    assert found.x.dtype == np.float32 and found.x.shape[1:] == (4, 4, 1) and np.isfinite(found.x).all()
    assert found.y is None or (found.y.dtype == np.int32 and found.y.shape == (len(found.x),) and set(found.y) <= {0, 1, 2})
    if path.suffix in (".npy", ".npz"):
        x, y = with_numpy(path)
        np.testing.assert_array_equal(found.x.reshape(len(x), -1), x)
        if found.y is not None:
            np.testing.assert_array_equal(found.y, np.asarray(y).reshape(-1))
    elif path.suffix == ".csv" and path.read_bytes().startswith(table().partition(b"\n")[0] + b"\n"):
        _, *rows = re.split(r"\r\n|\r|\n", path.read_text())
        cells = [re.findall(r"[^\s,;\"]+", row) for row in rows if not row.startswith("#")]
        want = np.array([row for row in cells if row], np.float64)
        np.testing.assert_array_equal(found.x.reshape(len(found), -1), want[:, 1:].astype(np.float32))
        np.testing.assert_array_equal(found.y, want[:, 0])


def cases(name: str, count: int, folder: Path) -> int:
    """Reads `count` damaged files; the number that could be read."""
    make, mutations = VALID[name]
    valid, path = make(), folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    asked, target = (folder / "set" if "/" in name else path), None if path.suffix == ".npy" else Labels(3)
    read = 0
    for seed in range(count):
        rng = random.Random(f"{name} {seed}")
        path.write_bytes(rng.choice(mutations)(valid, rng))
        began = time.monotonic()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            found = load_dataset(asked, MAP, target)
        except TinytrainError as error:
            assert len(error.sentences) == 1 and str(asked) in error.sentences[0] and error.hint, (seed, error)
            assert error.sentences[0].isprintable() and error.sentences[0].endswith(".") and len(error.sentences[0]) < 2000, (seed, error)
        else:
            check(path, found)
            read += 1
        assert time.monotonic() - began < SECONDS, seed
        assert tracemalloc.get_traced_memory()[1] - before < BYTES_MOST, seed
    return read


@pytest.fixture(autouse=True)
def traced() -> object:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VALID)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    read = cases(name, SHORT, tmp_path)
    assert read < SHORT, "nothing was refused"


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VALID)
def test_many_damaged_files(name: str, tmp_path: Path) -> None:
    assert 0 < cases(name, LONG, tmp_path) < LONG
