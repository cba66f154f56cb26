# SPDX-License-Identifier: Apache-2.0
"""Arrays from files: what NumPy writes is read as NumPy reads it, within limits; the rest is one sentence that names the entry."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import data_refusal
import numpy as np
import pytest
from cli_runs import save_model, sentence, succeed, tree

from tinytrain.data import arrays
from tinytrain.data.dataset import Labels, Layout, Target, Vectors, load_dataset
from tinytrain.errors import DataError

MAP = Layout((1, 4, 4), (1, 2, 0))
LABELS = Labels(3)
X = np.random.default_rng(1).integers(0, 100, (5, 1, 4, 4)).astype(np.float32)
Y = np.arange(5) % 3


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def archive(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def patched(path: Path, local: int, central: int, value: bytes) -> Path:
    """Bytes at an offset into the first local header and into the first entry of the directory."""
    data = bytearray(path.read_bytes())
    for at in (local, data.index(b"PK\x01\x02") + central):
        data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


def refusal(path: Path, target: Target = LABELS, layout: Layout = MAP) -> str:
    return data_refusal.refusal(path, target, layout)


KINDS = [
    X.astype(dtype) for dtype in ("<f4", ">f4", "<f8", ">f8", "f2", ">i2", "i4", "u1", "i8", "u8", "?", np.longdouble)
] + [np.asfortranarray(X), X[:, 0], X[::-1], X.transpose(0, 2, 3, 1), X.reshape(5, -1), np.asfortranarray(X.reshape(5, -1))]


@pytest.mark.parametrize("given", KINDS, ids=lambda a: f"{a.dtype.str}{'F' if a.flags.f_contiguous else ''}{a.shape}")
@pytest.mark.parametrize("how", ["npy", "npz", "deflated", "version 2"])
def test_arrays_are_read_as_numpy_reads_them(given: np.ndarray, how: str, tmp_path: Path) -> None:
    path = tmp_path / ("d.npy" if how == "npy" else "d.npz")
    if how == "npy":
        np.save(path, given)
    elif how == "npz":
        np.savez(path, x=given, y=Y)
    elif how == "deflated":
        np.savez_compressed(path, x=given, y=Y)
    else:
        archive(path, ("x.npy", npy(given, (2, 0))), ("y.npy", npy(Y, (2, 0))), method=zipfile.ZIP_STORED)
    found = load_dataset(path, MAP, None if how == "npy" else LABELS)
    want = np.load(path)
    want = want if how == "npy" else want["x"]
    np.testing.assert_array_equal(found.x.reshape(5, 16), want.reshape(5, 16).astype(np.float32))
    if found.y is not None:
        np.testing.assert_array_equal(found.y, Y)
    assert found.notes == ()


@pytest.mark.parametrize("y", [*(Y.astype(t) for t in ("u1", ">i4", "f2", "<f8", "u8")), Y[:, None]], ids=lambda y: y.dtype.str)
def test_labels_of_any_integer_type(y: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=y)
    np.testing.assert_array_equal(load_dataset(tmp_path / "d.npz", MAP, LABELS).y, Y)


def test_what_else_an_npz_holds_is_left_alone(tmp_path: Path) -> None:
    """Texts, objects, notes of another program: only samples and targets are read."""
    names = np.array(["cat", "dog"], dtype=object)
    others = (("readme.txt", b"hello"), ("bad.npy", b"?"), ("more/x.npy", npy(X[:1])))
    archive(tmp_path / "d.npz", ("x.npy", npy(X)), ("y.npy", npy(Y)), *others)
    assert len(load_dataset(tmp_path / "d.npz", MAP, LABELS)) == 5
    np.savez(tmp_path / "o.npz", x=X, y=Y, names=names)
    assert len(load_dataset(tmp_path / "o.npz", MAP, LABELS)) == 5


def test_samples_and_targets_are_of_one_split(tmp_path: Path) -> None:
    """y_test beside x alone is of other samples."""
    np.savez(tmp_path / "d.npz", x=X, y=Y, y_test=Y[::-1])
    np.testing.assert_array_equal(load_dataset(tmp_path / "d.npz", MAP, LABELS, split="test").y, Y)
    np.savez(tmp_path / "e.npz", x_test=X, y=Y)
    with pytest.raises(DataError, match="holds samples but no targets"):
        load_dataset(tmp_path / "e.npz", MAP, LABELS, split="test")


def test_a_choice_between_names_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X[:1], x=X, y=Y, target=Y)
    found = load_dataset(tmp_path / "d.npz", MAP, LABELS)
    assert len(found) == 5
    assert found.notes == (
        "x is taken as the samples; images may be meant as well, and is left out",
        "y is taken as the targets; target may be meant as well, and is left out",
    )


ENTRIES: dict[str, tuple[bytes, str | None]] = {
    "no npy": (b"hello", ": is damaged or of another kind (EOF: reading magic string, expected 8 bytes got 5); expected arrays of"),
    "text": (b"hello, world", ": is damaged or of another kind (the magic string is not correct;"),
    "empty": (b"", ": is damaged or of another kind (EOF: reading magic string"),
    "version 3": (npy(X, (3, 0)), ": is of version 3.0 of the format; expected 1.0 or 2.0."),
    "version 9": (b"\x93NUMPY\x09\x00" + npy(X)[8:], ": is of version 9.0 of the format; expected 1.0 or 2.0."),
    "objects": (npy(np.array([{}, 1], object)), ": holds values of type object; expected numbers."),
    "records": (npy(np.zeros(5, [("a", "f4"), ("b", "u1")])), ": holds values of type [('a', '<f4'), ('b', 'u1')]; expected numbers."),
    "complex": (npy(X.astype(np.complex64)), None),
    "texts": (npy(np.full((5, 1, 4, 4), "a")), None),
    "dates": (npy(X.astype("datetime64[s]")), None),
    "nested header": (header("(" * 9000), ": is damaged or of another kind (Header info length (9000) is large and"),
    "nested a little": (header("(" * 900), ": is damaged or of another kind ("),
    "header is code": (header("__import__('os').system('true')"), ": is damaged or of another kind (malformed node or string"),
    "header without shape": (header("{'descr': '<f4', 'fortran_order': False}"), ": is damaged or of another kind (Header does not"),
    "unknown type": (header("{'descr': '<q9', 'fortran_order': False, 'shape': (5,)}"), ": is damaged or of another kind ("),
    "huge shape": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
        ": holds 1,000,000,000,000 values of type float32; expected at most 800,000,000 bytes, as they are and as fp32.",
    ),
    "beyond all integers": (header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**62}, {2**62})}}"), ": holds 21,267,647,"),
    "pixels too many as fp32": (
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (300000000,)}"),
        ": holds 300,000,000 values of type uint8; expected at most 800,000,000 bytes, as they are and as fp32.",
    ),
    "no bytes a value": (header(f"{{'descr': '<U0', 'fortran_order': False, 'shape': ({10**15},)}}"), ": holds 1,000,000,000,000,000 "),
    "more than there is": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 16)}", bytes(40)),
        ": holds 40 bytes of values; expected 320 for the shape (5, 16) that it names.",
    ),
    "less than there is": (npy(X) + b"!", ": holds 321 bytes of values; expected 320 for the shape (5, 1, 4, 4) that it names."),
    "two arrays": (npy(X) + npy(Y), ": holds 488 bytes of values; expected 320 for the shape (5, 1, 4, 4) that it names."),
    "below zero": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 16)}"), ": has the shape (-1, 16); expected"),
    "no number": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (5.0, 16)}"), ": is damaged or of another kind (shape is not"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_entries_that_are_no_arrays_of_numbers(case: str, tmp_path: Path) -> None:
    """Told of the file, or of the entry in the archive, whether it holds samples or targets."""
    content, expected = ENTRIES[case]
    (tmp_path / "d.npy").write_bytes(content)
    alone = refusal(tmp_path / "d.npy", None)
    samples = refusal(archive(tmp_path / "d.npz", ("x.npy", content), ("y.npy", npy(Y))))
    targets = refusal(archive(tmp_path / "e.npz", ("x.npy", npy(X)), ("y.npy", content)))
    if expected is None:
        assert alone.startswith(": its samples are of type ") and alone.endswith("; expected numbers.")
        assert samples == alone
        return
    assert alone.startswith(expected)
    assert samples.startswith("/x.npy" + expected)
    assert targets.startswith("/y.npy" + expected)


def test_archives_that_are_damaged(tmp_path: Path) -> None:
    good = archive(tmp_path / "g.npz", ("x.npy", npy(X)), ("y.npy", npy(Y)), method=zipfile.ZIP_STORED).read_bytes()

    def fresh() -> Path:
        (tmp_path / "d.npz").write_bytes(good)
        return tmp_path / "d.npz"

    assert refusal(patched(fresh(), 8, 10, b"\x63")) == "/x.npy: is packed by method 99 of zip; expected stored or deflated."
    assert refusal(patched(fresh(), 6, 8, b"\x01")).startswith("/x.npy: is encrypted; expected arrays of numbers as numpy.save or")
    assert refusal(patched(fresh(), 14, 16, b"\x01\x02")).startswith("/x.npy: is damaged or of another kind (Bad CRC-32 for file 'x.npy')")
    assert "/x.npy: " in refusal(patched(fresh(), 22, 24, (2**31).to_bytes(4, "little")))
    assert "/x.npy: " in refusal(patched(fresh(), 22, 24, (100).to_bytes(4, "little")))
    flipped = fresh()
    flipped.write_bytes(good.replace(X.tobytes(), X.tobytes()[::-1]))
    assert refusal(flipped).startswith("/x.npy: is damaged or of another kind (Bad CRC-32")
    flipped.write_bytes(good[:-30])
    assert refusal(flipped).startswith(": is damaged or of another kind (File is not a zip file)")
    packed = archive(tmp_path / "b.npz", ("x.npy", npy(X)), ("y.npy", npy(Y)), method=zipfile.ZIP_BZIP2)
    assert refusal(packed) == "/x.npy: is packed by method 12 of zip; expected stored or deflated."
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(tmp_path / "t.npz", ("x.npy", npy(X)), ("y.npy", npy(Y)), ("x.npy", npy(X[:1])))
    assert refusal(twice) == " holds the array 'x' twice; expected each once."
    odd = archive(tmp_path / "n.npz", *((f"a\x07{i}" * 50, b"") for i in range(20)))
    assert refusal(odd).endswith(" and 12 more; expected the samples under the name x or x_train.")


def test_a_small_file_that_unpacks_to_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A true header beyond the limit, and a directory that lies: neither takes more memory than the limit."""
    monkeypatch.setattr(arrays, "MOST_BYTES", 1_000_000)
    zeros = np.zeros((2_000_000,), np.uint8)
    big = archive(tmp_path / "big.npz", ("x.npy", npy(zeros)))
    assert big.stat().st_size < 5_000
    assert refusal(big).startswith("/x.npy: holds 2,000,000 values of type uint8; expected at most 1,000,000 bytes")
    small = npy(X)
    lying = archive(tmp_path / "lying.npz", ("x.npy", small + bytes(50_000_000)))
    patched(lying, 22, 24, len(small).to_bytes(4, "little"))
    assert refusal(lying).startswith("/x.npy: is damaged or of another kind (Bad CRC-32 for file 'x.npy')")


def test_memory_is_bounded(tmp_path: Path) -> None:
    """In a child that may take 3 GB of addresses: headers that promise terabytes, and a table of one endless line."""
    huge = header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}", bytes(1000))
    archive(tmp_path / "a.npz", ("x.npy", huge))
    (tmp_path / "b.npy").write_bytes(header("{'descr': '|u1', 'fortran_order': False, 'shape': (3400000000,)}"))
    (tmp_path / "c.csv").write_text("1," * 20_000_000)
    code = f"""if True:
        import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
        from tinytrain.data.dataset import Layout, load_dataset; from tinytrain.errors import DataError
        for name in ("a.npz", "b.npy", "c.csv"):
            try: load_dataset({str(tmp_path)!r} + "/" + name, Layout((1, 4, 4), (1, 2, 0)), None)
            except DataError as error: print("MemoryError" in str(error), "too large" in str(error))
        print(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) < 500_000)
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False"] * 6 + ["True"]


def test_values_that_fp32_does_not_hold(tmp_path: Path) -> None:
    x = X.astype(np.float64)
    x[3, 0, 1, 1] = 1e39
    np.savez(tmp_path / "d.npz", x=x, y=Y)
    said = ": 1 of 5 samples hold NaN, infinite values or some beyond fp32, the first at index 3; expected finite numbers."
    with np.errstate(all="raise"):                        # and without a warning of NumPy
        assert refusal(tmp_path / "d.npz") == said
    np.savez(tmp_path / "t.npz", x=X, y=x)
    assert refusal(tmp_path / "t.npz", Vectors(MAP)) == said.replace("samples", "targets")
    np.savez(tmp_path / "l.npz", x=X, y=Y + np.array([0, 0, np.nan, 0, 0]))
    assert refusal(tmp_path / "l.npz") == ": its labels are not integers (the first is 0.0); expected 0 to 2."


@pytest.mark.parametrize("target", [LABELS, Vectors(Layout((3,), (0,)))], ids=["labels", "vectors"])
def test_targets_that_do_not_match(target: Target, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=np.int64(1))
    assert refusal(tmp_path / "d.npz", target) == ": its targets are a single number; expected one target for each of 5 samples."
    np.savez(tmp_path / "d.npz", x=np.float32(1), y=Y)
    assert refusal(tmp_path / "d.npz", target) == " holds no samples; expected at least one."
    np.savez(tmp_path / "d.npz", x=X, y=Y + 7)
    assert refusal(tmp_path / "d.npz", target) == ": label 7 of sample 0 is out of range; the model has 3 outputs, expected 0 to 2."


def test_a_new_head_is_advised_where_it_would_help(tmp_path: Path) -> None:
    def hint(y: np.ndarray) -> str:
        np.savez(tmp_path / "d.npz", x=X, y=y)
        with pytest.raises(DataError) as caught:
            load_dataset(tmp_path / "d.npz", MAP, LABELS)
        return str(caught.value.hint)

    assert hint(np.arange(5)) == "Count classes from 0, or compile the model with --new-head 5."
    assert hint(np.array([0, 1, 2, 1, 255])) == "Count classes from 0."
    assert hint(np.array([-1, 1, 2, 3, 0])) == "Count classes from 0."
    assert hint(np.array([0, 1, 2, 1, 1e300])) == "Count classes from 0."


# --- not a file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.csv"])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    """Nothing of it is opened: a pipe would wait for ever, /dev/zero never ends."""
    os.mkfifo(tmp_path / name)
    assert ": is no file; expected " in refusal(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert ": is no file; expected " in refusal(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / name)
    assert refusal(tmp_path / name) == " does not exist; expected a data file: .npz, .npy, .csv, or a folder of images."
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert refusal(tmp_path / name) == " has no subfolders; expected one subfolder with images for each class."
    with pytest.raises(DataError, match=r": cannot be read \(File name too long\); expected a data file: "):
        load_dataset(tmp_path / ("a" * 300 + name), MAP, LABELS)


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_refuses_and_writes_nothing(tmp_path: Path) -> None:
    succeed("compile", save_model(tmp_path), "--no-build", "-o", tmp_path / "out")
    x = np.zeros((5, 64), np.float32)
    archive(tmp_path / "method.npz", ("x.npy", npy(x)), ("y.npy", npy(Y)), method=zipfile.ZIP_BZIP2)
    patched(archive(tmp_path / "secret.npz", ("x.npy", npy(x)), ("y.npy", npy(Y))), 6, 8, b"\x01")
    (tmp_path / "deep.npy").write_bytes(header("(" * 9000))
    archive(tmp_path / "hello.npz", ("x.npy", b"hello"), ("y.npy", npy(Y)))
    np.savez(tmp_path / "scalar.npz", x=x, y=np.int64(1))
    (tmp_path / "comma.csv").write_text("1,5;2\n")
    before = tree(tmp_path)
    for name, said in {
        "method.npz": "method.npz/x.npy: is packed by method 12", "secret.npz": "secret.npz/x.npy: is encrypted",
        "deep.npy": "deep.npy: is damaged or of another kind (Header info length (9000)", "hello.npz": "hello.npz/x.npy: is damaged",
        "scalar.npz": "scalar.npz: its targets are a single number", "comma.csv": "comma.csv: line 1, column 1 holds '1,5'",
    }.items():
        assert said in sentence("train", tmp_path / "out", "--data", tmp_path / name)
    assert "deep.npy: is damaged" in sentence("infer", tmp_path / "out", "--data", tmp_path / "deep.npy")
    assert tree(tmp_path) == before
