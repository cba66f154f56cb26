# SPDX-License-Identifier: Apache-2.0
"""Data files: every accepted layout gives the same samples, and each wrong file is told in a sentence."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinytrain.data.dataset import Labels, Layout, Vectors, load_dataset
from tinytrain.errors import DataError, ToolError

RNG = np.random.default_rng(3)
MAP = Layout((3, 4, 5), (1, 2, 0))
FLAT = Layout((6,), (0,))
LABELS = Labels(3)
X = RNG.standard_normal((7, 3, 4, 5)).astype(np.float32)
Y = np.arange(7) % 3


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def refusal(path: Path, layout: Layout = MAP, target: Any = LABELS) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(path, layout, target)
    return str(caught.value)


@pytest.mark.parametrize("given", [X, X.transpose(0, 2, 3, 1), X.reshape(7, -1)], ids=["onnx", "channels-last", "flat"])
@pytest.mark.parametrize("names", [("x", "y"), ("X", "labels"), ("data", "target"), ("images", "label"), ("x_train", "y_train")])
def test_layouts_and_names(given: np.ndarray, names: tuple[str, str], tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path / "d.npz", **{names[0]: given, names[1]: Y.astype(np.uint8)}), MAP, Labels(3))
    np.testing.assert_array_equal(data.x, X.transpose(0, 2, 3, 1))
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.y is not None
    assert data.y.dtype == np.int32
    np.testing.assert_array_equal(data.y, Y)
    assert len(data) == 7


def test_a_cube_is_taken_in_onnx_layout(tmp_path: Path) -> None:
    cube = RNG.standard_normal((2, 3, 3, 3)).astype(np.float32)
    data = load_dataset(save(tmp_path / "d.npz", x=cube), Layout((3, 3, 3), (1, 2, 0)), None)
    np.testing.assert_array_equal(data.x, cube.transpose(0, 2, 3, 1))


def test_one_channel_needs_no_axis(tmp_path: Path) -> None:
    images = RNG.integers(0, 255, (5, 8, 6)).astype(np.uint8)
    data = load_dataset(save(tmp_path / "d.npz", x=images), Layout((1, 8, 6), (1, 2, 0)), None)
    assert data.x.shape == (5, 8, 6, 1)
    np.testing.assert_array_equal(data.x[..., 0], images)
    assert data.y is None


def test_splits(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2])
    assert len(load_dataset(path, MAP, Labels(3))) == 7
    assert len(load_dataset(path, MAP, Labels(3), split="test")) == 2


def test_npy_holds_samples_only(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X)
    assert len(load_dataset(tmp_path / "d.npy", MAP, None)) == 7
    assert "d.npy holds samples but no targets; expected both." in refusal(tmp_path / "d.npy")


def test_autoencoder_and_soft_targets(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path / "d.npz", x=X[:, 0, 0, :3].repeat(2, 1)), FLAT, Vectors(FLAT))
    np.testing.assert_array_equal(data.y, data.x)
    soft = load_dataset(save(tmp_path / "s.npz", x=X, y=Y), MAP, Vectors(Layout((3,), (0,))))
    np.testing.assert_array_equal(soft.y, np.eye(3)[Y])
    maps = load_dataset(save(tmp_path / "m.npz", x=X, y=X * 2), MAP, Vectors(MAP))
    np.testing.assert_array_equal(maps.y, X.transpose(0, 2, 3, 1) * 2)


def test_csv(tmp_path: Path) -> None:
    rows = np.hstack([np.arange(12).reshape(2, 6), [[1], [2]]])
    path = tmp_path / "d.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    data = load_dataset(path, FLAT, Labels(3))
    np.testing.assert_array_equal(data.x, rows[:, :6])
    np.testing.assert_array_equal(data.y, [1, 2])
    path.write_text("label,a,b,c,d,e,f\n" + "\n".join(",".join(map(str, np.roll(row, 1))) for row in rows))
    np.testing.assert_array_equal(load_dataset(path, FLAT, Labels(3)).x, rows[:, :6])
    np.testing.assert_array_equal(load_dataset(path, FLAT, None).x, rows[:, :6])
    path.write_text("\n".join(",".join(map(str, row[:6])) for row in rows))
    assert load_dataset(path, FLAT, None).y is None


def test_wrong_csv(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("1,2,3\n4,5,6\n")
    assert f"{path}: its rows hold 3 numbers; expected 6 for the sample and 1 for the target." in refusal(path, FLAT)
    path.write_text("1,2,3,4,5,6,0\n1,2,3,4,5,6,cat\n")
    assert f"{path}: line 2, column 7 holds 'cat' (columns are separated by commas); expected a number." in refusal(path, FLAT)
    path.write_text("a,b\n")
    assert f"{path} holds no lines of numbers; expected one line a sample." in refusal(path, FLAT)


def images(folder: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    pillow = pytest.importorskip("PIL.Image")
    for name, (height, width) in sizes.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(np.full((height, width, 3), len(name), np.uint8)).save(file)
    return folder


def test_folder_of_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "set", {"cat/a.png": (4, 5), "dog/b.png": (4, 5), "dog/c2.png": (4, 5)})
    data = load_dataset(folder, MAP, Labels(2))
    np.testing.assert_array_equal(data.y, [0, 1, 1])
    assert data.x.shape == (3, 4, 5, 3)
    assert data.x[2, 0, 0, 0] == 10
    assert load_dataset(folder, Layout((1, 4, 5), (1, 2, 0)), None).x.shape == (3, 4, 5, 1)


def test_wrong_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "set", {"cat/a.png": (6, 5)})
    assert f"{folder}/cat/a.png is 5x6 pixels (width x height); expected 5x4, as the model takes it." in refusal(folder)
    (folder / "cat" / "a.png").write_text("no image")
    assert "a.png: is no image that Pillow can read; expected an image: .png" in refusal(folder)
    (folder / "cat" / "a.png").unlink()
    assert f"{folder} holds no images" in refusal(folder)
    (folder / "cat").rmdir()
    assert f"{folder} has no subfolders; expected one subfolder with images for each class." in refusal(folder)
    assert "is a folder of images, but the model takes samples of shape (6,)" in refusal(folder, FLAT)


def test_images_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / "a.png").write_bytes(b"")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolError, match="package Pillow, which is not installed") as caught:
        load_dataset(tmp_path / "set", MAP, Labels(3))
    assert "pip install pillow" in str(caught.value)


def test_missing_or_wrong_kind(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.npz") == (
        f"{tmp_path}/none.npz does not exist; expected a data file: .npz, .npy, .csv, or a folder of images.\nCheck the path."
    )
    (tmp_path / "d.pdf").write_bytes(b"%PDF")
    assert "d.pdf is a file of the kind .pdf; expected .npz, .npy, .csv, or a folder of images." in refusal(tmp_path / "d.pdf")
    (tmp_path / "d.npz").write_bytes(b"not a zip file")
    assert "d.npz: is damaged or of another kind (File is not a zip file)" in refusal(tmp_path / "d.npz")
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00")
    assert "d.csv: is damaged or of another kind ('utf-16" in refusal(tmp_path / "d.csv", FLAT)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{}, []], dtype=object))
    assert "d.npz/x.npy: holds values of type object; expected numbers." in refusal(tmp_path / "d.npz")


def test_truncated_npz(tmp_path: Path) -> None:
    good = save(tmp_path / "d.npz", x=X, y=Y).read_bytes()
    (tmp_path / "cut.npz").write_bytes(good[: len(good) // 2])
    assert "cut.npz: is damaged or of another kind (File is not a zip file)" in refusal(tmp_path / "cut.npz")


def test_unknown_names(tmp_path: Path) -> None:
    text = refusal(save(tmp_path / "d.npz", pixels=X))
    assert "d.npz holds the arrays pixels; expected the samples under the name x or x_train." in text


def test_wrong_sample_shape(tmp_path: Path) -> None:
    text = refusal(save(tmp_path / "d.npz", x=X[:, :, :3], y=Y))
    assert "d.npz: its samples have the shape (3, 3, 5); expected (3, 4, 5) as in the model, or channels-last (4, 5, 3)." in text


def test_wrong_type(tmp_path: Path) -> None:
    assert "its samples are of type <U1; expected numbers." in refusal(save(tmp_path / "d.npz", x=np.array(["a"]), y=Y))


def test_no_samples(tmp_path: Path) -> None:
    assert "d.npz holds no samples; expected at least one." in refusal(save(tmp_path / "d.npz", x=X[:0], y=Y[:0]))


def test_counts_differ(tmp_path: Path) -> None:
    assert "d.npz holds 7 samples but 6 targets; expected as many." in refusal(save(tmp_path / "d.npz", x=X, y=Y[:6]))


@pytest.mark.parametrize(("label", "shown"), [(3, "3"), (-1, "-1"), (255, "255")])
def test_label_out_of_range(label: int, shown: str, tmp_path: Path) -> None:
    y = Y.copy()
    y[4] = label
    text = refusal(save(tmp_path / "d.npz", x=X, y=y))
    assert f"d.npz: label {shown} of sample 4 is out of range; the model has 3 outputs, expected 0 to 2." in text


def test_labels_that_are_no_integers(tmp_path: Path) -> None:
    assert "its labels are not integers (the first is 0.5); expected 0 to 2." in refusal(save(tmp_path / "d.npz", x=X, y=Y + 0.5))
    assert "its labels are not integers (the first is 2026)" in refusal(save(tmp_path / "d.npz", x=X, y=np.array(["2026"] * 7, "M8[Y]")))
    assert "a label has 3 values; expected one integer for each sample." in refusal(save(tmp_path / "d.npz", x=X, y=np.eye(3)[Y]))


def test_not_finite(tmp_path: Path) -> None:
    x = X.copy()
    x[5, 0, 0, 0] = np.nan
    text = refusal(save(tmp_path / "d.npz", x=x, y=Y))
    assert "d.npz: 1 of 7 samples hold NaN, infinite values or some beyond fp32, the first at index 5; expected finite numbers." in text
