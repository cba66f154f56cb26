# SPDX-License-Identifier: Apache-2.0
"""Weights out and in: whole, as ONNX, and as deltas, whose round trip is exact or as coarse as was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tinytrain.device import delta
from tinytrain.errors import DataError, TinytrainError
from tinytrain.learn.compression import Compression, code_book, packed, unpacked
from tinytrain.learn.state import read_state

HERE = Path("delta")


@pytest.fixture(scope="module", params=["fp32", "int8"])
def out(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has learned."""
    folder = tmp_path_factory.mktemp("exchange")
    model, data = save_model(folder), save_data(folder / "train.npz", count=60)
    if request.param == "int8":
        succeed("quantize", model, "--data", data, "-o", folder / "int8.onnx")
        model = folder / "int8.onnx"
    succeed("compile", model, "--loss", "ce", "-o", folder / "out")
    succeed("train", folder / "out", "--data", data, "--epochs", 2, "--lr", "0.02")
    return folder / "out"


def weights(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "record.json"}


def test_what_is_pulled_is_what_was_learned(out: Path, tmp_path: Path) -> None:
    succeed("pull", out, "--learned", "-o", tmp_path / "w.npz")
    learned = weights(out / "learned.npz")
    assert {name: array.tobytes() for name, array in weights(tmp_path / "w.npz").items()} == {n: a.tobytes() for n, a in learned.items()}
    succeed("pull", out, "--learned", "-o", tmp_path / "w.onnx")
    assert (tmp_path / "w.onnx").read_bytes() == (out / "learned.onnx").read_bytes()


@pytest.mark.parametrize("compress", [None, "exact", "topk:0.2", "kmeans:16", "topk:0.2,kmeans:8"])
def test_a_delta_goes_back(compress: str | None, out: Path, tmp_path: Path) -> None:
    """Pushed into a device with the compiled weights: bit for bit where nothing is left out, else nearer than they are."""
    before = weights(out / "learned.npz")
    kept = (out / "learned.npz").read_bytes(), (out / "learned.onnx").read_bytes()
    said = succeed("pull", out, "--learned", "--delta", *(["--compress", compress] if compress else []), "-o", tmp_path / "d")
    assert f" in {(tmp_path / 'd').stat().st_size:,} B" in said
    assert "numbers changed on the device" in succeed("push", out, tmp_path / "d")
    after = weights(out / "learned.npz")
    (out / "learned.npz").write_bytes(kept[0])
    (out / "learned.onnx").write_bytes(kept[1])
    model = onnx.load(out / "model.onnx")
    compiled = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, array in before.items():
        if name.startswith("state/"):
            continue
        if compress in (None, "exact"):
            assert after[name].tobytes() == array.tobytes()
        elif name in compiled and (compiled[name] != array).any():
            old = compiled[name].astype(np.float64)
            assert np.linalg.norm(after[name] - array.astype(np.float64)) < np.linalg.norm(old - array.astype(np.float64))


def test_whole_weights_go_back(out: Path, tmp_path: Path) -> None:
    succeed("pull", out, "-o", tmp_path / "compiled.npz")
    learned = (out / "learned.npz").read_bytes()
    succeed("push", out, tmp_path / "compiled.npz")
    assert (out / "learned.npz").read_bytes() == (tmp_path / "compiled.npz").read_bytes()
    (out / "learned.npz").write_bytes(learned)


def test_what_does_not_fit_is_refused(out: Path, tmp_path: Path) -> None:
    other = tmp_path / "cnn"
    succeed("compile", save_model(tmp_path, "cnn"), "--loss", "ce", "-o", other)
    succeed("pull", other, "--delta", "-o", tmp_path / "d")
    assert "changes the weights of another model or scheme than this project's" in sentence("push", out, tmp_path / "d")
    (tmp_path / "d").write_bytes((tmp_path / "d").read_bytes()[:-3])
    assert "is damaged, or no delta" in sentence("push", other, tmp_path / "d")
    assert "does not exist" in sentence("push", out, tmp_path / "nothing")
    assert "ends in neither .npz nor .onnx" in sentence("pull", out, "-o", tmp_path / "w.bin")
    assert "--compress has no effect without --delta" in sentence("pull", out, "-o", tmp_path / "w.npz", "--compress", "topk:0.1")


@pytest.mark.parametrize(
    "text", ["", "exact,topk:.1", "topk", "topk:0", "topk:2", "kmeans:0", "kmeans:300", "kmeans:2.5", "topk:.1,topk:.1", "zip:3"]
)
def test_compressions_that_are_none(text: str) -> None:
    with pytest.raises(TinytrainError, match="expected exact, topk:PART"):
        Compression.of(text)


def test_compressions() -> None:
    assert Compression.of("kmeans:16,topk:.1") == Compression(0.1, 16)


def tensors(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    old = {"f": rng.normal(0, 1, (7, 5)).astype(np.float32),
           "q": rng.integers(-128, 128, 40).astype(np.int8), "one": np.zeros(1, np.float32)}
    new = {"f": old["f"] + rng.normal(0, 0.1, (7, 5)).astype(np.float32) * (rng.random((7, 5)) < 0.5),
           "q": np.clip(old["q"] + rng.integers(-3, 4, 40), -128, 127).astype(np.int8), "one": np.zeros(1, np.float32)}
    return old, new


KINDS = (Compression(exact=True), Compression(), Compression(0.3), Compression(1.0, 256), Compression(0.5, 4))


@given(st.integers(0, 1000), st.sampled_from(KINDS))
def test_codec(seed: int, compression: Compression) -> None:
    """Without loss, or with no more of it than what is left out."""
    old, new = tensors(seed)
    back = unpacked(packed(new, old, compression), old, HERE)
    for name, array in new.items():
        if compression.exact:
            np.testing.assert_array_equal(back[name], array)
        if compression == Compression(1.0, 256):
            np.testing.assert_allclose(back[name], array, atol=1e-6)
        assert np.abs(back[name] - array.astype(np.float64)).sum() <= np.abs(old[name] - array.astype(np.float64)).sum() + 1e-5


@given(st.integers(0, 3), st.integers(0, 2**31), st.integers(1, 255))
def test_a_damaged_delta_is_one_sentence(seed: int, place: int, flip: int) -> None:
    old, new = tensors(seed)
    data = bytearray(delta.Head(delta.PACKED, bytes(16), 1, 2).sealed(packed(new, old, Compression(0.5, 4))))
    data[place % len(data)] ^= flip
    with pytest.raises(DataError):
        unpacked(delta.opened(bytes(data), HERE)[1], old, HERE)


def test_code_book_finds_clusters() -> None:
    values = np.repeat(np.array([-3.0, 0.5, 2.0], np.float32), [5, 50, 5])
    np.testing.assert_allclose(code_book(values, 16), [-3.0, 0.5, 2.0])
    assert len(code_book(np.zeros(0, np.float32), 4)) == 0


def test_pulled_weights_are_read_as_a_state(out: Path, tmp_path: Path) -> None:
    succeed("pull", out, "--learned", "-o", tmp_path / "w.npz")
    found = weights(tmp_path / "w.npz")
    shapes = {name: array.shape for name, array in found.items() if not name.startswith("state/")}
    counts = {name.removeprefix("state/"): array.size for name, array in found.items() if name.startswith("state/")}
    assert read_state(tmp_path / "w.npz", shapes, counts).record is None
