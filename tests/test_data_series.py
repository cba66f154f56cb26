# SPDX-License-Identifier: Apache-2.0
"""Series cut into windows: the same samples for every model that can take them, and no window of two minds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinytrain.data import windows
from tinytrain.data.dataset import Dataset, Labels, Target, Vectors, load_dataset
from tinytrain.data.file import FIRST, DataFile
from tinytrain.data.layout import Layout
from tinytrain.errors import DataError

ROWS, CHANNELS, WINDOW = 100, 3, 16
SERIES = np.random.default_rng(0).normal(size=(ROWS, CHANNELS)).round(4)
LABELS = np.where(np.arange(ROWS) < 40, "walk", "run")
TIMES_LAST, TIMES_FIRST = Layout((CHANNELS, WINDOW), (1, 0)), Layout((WINDOW, CHANNELS), (0, 1))
FLAT, IMAGE, WIDE = Layout((WINDOW * CHANNELS,), (0,)), Layout((1, WINDOW, CHANNELS), (1, 2, 0)), Layout((1, CHANNELS, WINDOW), (1, 2, 0))
STARTS = [0, 8, 16, 24, *range(40, ROWS - WINDOW + 1, 8)]             # windows of one label


def recording(folder: Path, separator: str = ",") -> Path:
    path = folder / "recording.csv"
    rows = [f"{20 * i},{','.join(map(str, row))},{label}" for i, (row, label) in enumerate(zip(SERIES, LABELS, strict=True))]
    path.write_text("\n".join(["time,ax,ay,az,Activity", *rows]).replace(",", separator) + "\n")
    return path


def load(path: Path, layout: Layout, target: Target = Labels(2), **how: object) -> Dataset:  # noqa: B008
    chosen = {"columns": ("ax", "ay", "az"), "targets": ("activity",)} if path.suffix == ".csv" else {}
    return load_dataset(DataFile(path, **{**chosen, "window": WINDOW, "step": 8, **how}), layout, target)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("layout", [TIMES_LAST, TIMES_FIRST, FLAT, IMAGE, WIDE], ids=["C,T", "T,C", "T*C", "1,T,C", "1,C,T"])
def test_one_series_for_every_model(layout: Layout, separator: str, tmp_path: Path) -> None:
    found = load(recording(tmp_path, separator), layout)
    want = np.stack([SERIES[start : start + WINDOW] for start in STARTS])
    turned = want.transpose(0, 2, 1) if layout is WIDE else want
    np.testing.assert_array_equal(found.x.reshape(len(want), -1), turned.reshape(len(want), -1).astype(np.float32))
    assert found.x.shape[1:] == layout.device_shape
    np.testing.assert_array_equal(found.y, [int(start < 40) for start in STARTS])
    assert found.classes == ("run", "walk")
    assert f"{len(STARTS)} windows of 16 rows, one each 8; 1 of 11 windows with more than one label are left out" in found.summary


def test_each_channel_in_one_piece(tmp_path: Path) -> None:
    found = load(recording(tmp_path), FLAT, order=FIRST)
    np.testing.assert_array_equal(found.x[1], SERIES[8 : 8 + WINDOW].T.reshape(-1).astype(np.float32))
    assert "each channel in one piece" in found.summary


def test_arrays_are_series_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=SERIES, y=LABELS)
    np.testing.assert_array_equal(load(tmp_path / "s.npz", TIMES_LAST).x, load(recording(tmp_path), TIMES_LAST).x)
    np.save(tmp_path / "s.npy", SERIES[:, 0])
    assert load(tmp_path / "s.npy", Layout((WINDOW,), (0,)), None).x.shape == (11, WINDOW)


def test_numbers_as_targets_are_those_of_the_last_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=SERIES, y=np.arange(ROWS) / 2)
    found = load(tmp_path / "s.npz", TIMES_LAST, Vectors(Layout((1,), (0,))))
    np.testing.assert_array_equal(found.y[:3, 0], [7.5, 11.5, 15.5])


def test_columns_may_be_counted(tmp_path: Path) -> None:
    found = load(recording(tmp_path), TIMES_LAST, columns=("2", "3", "4"), targets=("5",))
    np.testing.assert_array_equal(found.x, load(recording(tmp_path), TIMES_LAST).x)
    other = load(recording(tmp_path), TIMES_LAST, columns=("az", "ax", "ay"))
    np.testing.assert_array_equal(other.x[:, :, 0], found.x[:, :, 2])


def test_a_folder_of_recordings_has_a_class_in_each_subfolder(tmp_path: Path) -> None:
    for name, begin, end in (("wave", 0, 40), ("rest", 40, 100), ("rest", 0, 10), ("wave", 40, 60)):
        (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
        rows = [f"{i},{','.join(map(str, row))},?" for i, row in enumerate(SERIES[begin:end])]
        (tmp_path / "set" / name / f"{begin}.csv").write_text("\n".join(["time,ax,ay,az,remark", *rows]))
    found = load_dataset(DataFile(tmp_path / "set", columns=("ax", "ay", "az"), window=WINDOW, step=8), TIMES_LAST, Labels(2))
    want = [SERIES[start : start + WINDOW] for start in (*range(40, 85, 8), *range(0, 25, 8), 40)]
    np.testing.assert_array_equal(found.x, np.stack(want).astype(np.float32))
    np.testing.assert_array_equal(found.y, [0] * 6 + [1] * 5)
    assert found.classes == ("rest", "wave") and "11 windows of 16 rows, one each 8; from 3 recordings, 1 too short" in found.summary
    with pytest.raises(DataError, match="all of its 4 recordings are shorter than the 64 rows of one window"):
        load_dataset(DataFile(tmp_path / "set", columns=("ax", "ay", "az"), window=64), Layout((3, 64), (1, 0)), Labels(2))


def test_recordings_with_labels_of_their_own(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "set").mkdir(exist_ok=True)
        recording(tmp_path / "set").rename(tmp_path / "set" / f"{name}.csv")
    found = load(tmp_path / "set", TIMES_LAST, columns=("ax", "ay", "az"), targets=("activity",))
    one = load(recording(tmp_path), TIMES_LAST)
    np.testing.assert_array_equal(found.x, np.concatenate([one.x, one.x]))
    np.testing.assert_array_equal(found.y, np.concatenate([one.y, one.y]))
    np.save(tmp_path / "set" / "c.npy", SERIES)
    with pytest.raises(DataError, match="is no table: --label has no effect on it"):
        load(tmp_path / "set", TIMES_LAST, columns=("ax", "ay", "az"), targets=("activity",))


REFUSED = {
    "too short": ({}, Layout((3, 128), (1, 0)), {"window": 128}, "holds 100 rows; expected at least the 128 of one window."),
    "two labels everywhere": ({"y": np.arange(ROWS) % 2}, TIMES_LAST, {}, "none of its 11 windows of 16 rows has one label for"),
    "fewer targets": ({"y": np.zeros(99)}, TIMES_LAST, {}, "holds 100 rows but 99 targets; expected as many."),
    "a single target": ({"y": np.array(5)}, TIMES_LAST, {}, "holds 100 rows but 1 targets; expected as many."),
    "beyond the names": ({"y": np.repeat(2, ROWS), "classes": np.array(["a", "b"])}, TIMES_LAST, {}, "label 2 of sample 0 is out of range"),
    "windows already": ({"x": np.zeros((5, 16, 3))}, TIMES_LAST, {}, "holds samples of shape (16, 3); expected rows of numbers to cut"),
    "other model": ({}, Layout((4, 16), (1, 0)), {}, "its samples have the shape (16, 3); expected (4, 16) as in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_windows(case: str, tmp_path: Path) -> None:
    arrays, layout, how, expected = REFUSED[case]
    np.savez(tmp_path / "s.npz", **{"x": SERIES, "y": LABELS, **arrays})
    with pytest.raises(DataError) as caught:
        load(tmp_path / "s.npz", layout, **how)
    assert expected in caught.value.sentences[0]


def test_tables_that_make_no_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recording(tmp_path)

    def said(layout: Layout = TIMES_LAST, **how: object) -> str:
        with pytest.raises(DataError) as caught:
            load(path, layout, **how)
        return str(caught.value)

    assert "--window 15 does not fit the model, whose samples have 48 numbers." in said(window=15)
    assert "--channels names 2 columns; expected 3 for the row of a window." in said(columns=("ax", "ay"))
    assert "--channels bx: no column of that name; its columns are time, ax, ay, az, activity." in said(columns=("bx",))
    assert "column 4 (az) is both a channel and the label; expected one of them." in said(targets=("az",))
    assert "Where a line is one step of time: --window 16." in said(window=0, step=0)
    assert "--step has no effect without --window." in said(window=0)
    assert "line 2, column 5 (activity) holds 'walk'" in said(columns=(), targets=("time",))
    path.write_text(path.read_text().replace("40,", "40,5,", 1))
    assert ": line 4 holds 6 values (separated by commas), the first one 5; expected as many in each line." in said()
    monkeypatch.setattr(windows, "MOST_BYTES", 100)
    assert "gives more than 100 bytes of windows as fp32." in str(said_of(recording(tmp_path)))


def test_windows_are_counted_before_they_are_made(tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", np.zeros(1_000_000, np.float32))
    with pytest.raises(DataError, match="gives more than 800,000,000 bytes of windows as fp32"):       # of 200 GB
        load_dataset(DataFile(tmp_path / "long.npy", window=60_000, step=1), Layout((60_000,), (0,)), None)


def said_of(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load(path, TIMES_LAST)
    return caught.value
