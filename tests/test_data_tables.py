# SPDX-License-Identifier: Apache-2.0
"""Tables in text: one and the same table in every way that programs write it, and each way that could mean two things is refused."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_text, sentence, succeed, tree

from tinytrain.data import tables
from tinytrain.data.dataset import Dataset, Labels, Layout, Vectors, load_dataset
from tinytrain.errors import DataError

THREE = Layout((3,), (0,))
LABELS = Labels(3)
X = np.array([[0.5, -1.25, 3e-4], [4, 5, 6], [-7, 8.75, 0]])
Y = np.array([2, 0, 1])
ROWS = [f"{y},{a:g},{b:g},{c:g}" for y, (a, b, c) in zip(Y, X, strict=True)]
PLAIN = "\n".join(["label,ax,ay,az", *ROWS]) + "\n"


def load(folder: Path, content: str | bytes, target: Labels | Vectors | None = LABELS, layout: Layout = THREE) -> Dataset:
    path = folder / "d.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return load_dataset(path, layout, target)


def refusal(folder: Path, content: str | bytes, target: Labels | Vectors | None = LABELS, layout: Layout = THREE) -> str:
    with pytest.raises(DataError) as caught:
        load(folder, content, target, layout)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2, "one sentence and what to try"
    assert str(folder / "d.csv") in lines[0] and lines[0].endswith(".") and lines[0].isprintable()
    return lines[0].removeprefix(str(folder / "d.csv"))


SAME: dict[str, str | bytes] = {
    "plain": PLAIN,
    "utf-8 mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "utf-16 little": codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"),
    "utf-16 big": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "utf-32 little": codecs.BOM_UTF32_LE + PLAIN.encode("utf-32-le"),
    "utf-32 big": codecs.BOM_UTF32_BE + PLAIN.encode("utf-32-be"),
    "quoted names": PLAIN.replace("label", '"label"').replace("ax", '"a, x"'),
    "quoted names and mark": codecs.BOM_UTF8 + PLAIN.replace("label", '"label"').encode(),
    "quoted numbers": PLAIN.replace("4,5,6", '"4","5","6"'),
    "blanks and case": PLAIN.replace("label,ax", " LaBel , ax"),
    "blanks before quotes": PLAIN.replace("label,ax", '  "label", "ax"'),
    "blanks around numbers": PLAIN.replace(",", " , "),
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and mark": codecs.BOM_UTF8 + PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t"),
    "commas inside names": PLAIN.replace("\n0,4", "\n0;4").replace(",", ";").replace("ax", "a,x"),
    "trailing commas": PLAIN.replace("\n", ",\n"),
    "trailing tabs": PLAIN.replace(",", "\t").replace("\n", "\t\t\n"),
    "crlf": PLAIN.replace("\n", "\r\n"),
    "cr": PLAIN.replace("\n", "\r"),
    "no last end of line": PLAIN.rstrip("\n"),
    "empty lines": "\n\n" + PLAIN.replace("\n", "\n \n"),
    "rows that a spreadsheet leaves": PLAIN + ",,,\n,,,\n",
    "comments": "# recorded at 50 Hz\n" + PLAIN.replace("\n0,", "\n# a pause, longer than before\n0,"),
    "names in a comment": "# " + PLAIN,
    "names in a comment after another": '# "free" text\n#' + PLAIN,
    "signs and exponents": PLAIN.replace("\n0,4,5,6", "\n+0.,+4.0,.5e1,0060e-1"),
}


@pytest.mark.parametrize("case", SAME)
def test_one_table_however_it_is_written(case: str, tmp_path: Path) -> None:
    found = load(tmp_path, SAME[case])
    np.testing.assert_array_equal(found.x, X.astype(np.float32))
    np.testing.assert_array_equal(found.y, Y)
    assert found.notes == ()                              # a column that is called label is no choice


@pytest.mark.parametrize("name", ["label", "labels", "class", "target", "y", "Class"])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_the_label_may_stand_anywhere(name: str, at: int, tmp_path: Path) -> None:
    columns = ["a", "b", "c"]
    columns.insert(at, name)
    lines = [",".join(columns), *(",".join(map(str, np.insert(x, at, y))) for x, y in zip(X, Y, strict=True))]
    found = load(tmp_path, "\n".join(lines))
    np.testing.assert_array_equal(found.x, X.astype(np.float32))
    np.testing.assert_array_equal(found.y, Y)
    said = (f"column {at + 1} (y) is taken as the target",) if name == "y" else ()
    assert found.notes == said


@pytest.mark.parametrize(("first", "said"), [
    ("", "the last column"), ("label_id,ax,ay,button\n", "the last column (button)"),
    ("x,y,z,activity\n", "the last column (activity)"), ("0,ax,ay,b\n", None),
])
def test_a_last_column_that_nobody_called_label_is_said(first: str, said: str | None, tmp_path: Path) -> None:
    """y beside z is an axis of a sensor."""
    body = "".join(f"{a},{b},{c},{y}\n" for y, (a, b, c) in zip(Y, X, strict=True))
    if said is None:
        assert "line 1, column 2 holds 'ax'" in refusal(tmp_path, first + body)
        return
    found = load(tmp_path, first + body)
    np.testing.assert_array_equal(found.x, X.astype(np.float32))
    np.testing.assert_array_equal(found.y, Y)
    assert found.notes == (f"{said} is taken as the target: no column is called label",)
    assert load(tmp_path, first + body, None).notes == found.notes


def test_targets_that_are_vectors(tmp_path: Path) -> None:
    found = load(tmp_path, "1,2,3,0.5,0.25\n4,5,6,7,8\n", Vectors(Layout((2,), (0,))))
    np.testing.assert_array_equal(found.y, [[0.5, 0.25], [7, 8]])
    assert found.notes == ("the last 2 columns are taken as the target: no column is called label",)
    plain = load(tmp_path, "1,2,3\n4,5,6\n", None)
    assert plain.y is None and plain.notes == ()


def test_a_counting_first_line_is_said(tmp_path: Path) -> None:
    """pandas numbers columns that have no names."""
    found = load(tmp_path, "0,1,2,3\n4,5,6,1\n", None, Layout((4,), (0,)))
    assert len(found) == 2
    assert found.notes == ("line 1 counts 0, 1, 2, … as a line of names may; it is read as a sample",)


NUMBERS = {
    "1_000": "'1_000'", "１２": "'１２'", "0x10": "'0x10'", "nan": "'nan'", "inf": "'inf'", "-Infinity": "'-Infinity'", "1 000": "'1 000'",
    "1,5": "'1,5'", "": None, "4/2": "'4/2'", "1e": "'1e'", "1.2.3": "'1.2.3'", "--1": "'--1'", "\x07bell": "'\\x07bell'", "½": "'½'",
    "+": "'+'",
}


@pytest.mark.parametrize("cell", NUMBERS, ids=ascii)
@pytest.mark.parametrize("line", [1, 2, 3])
def test_what_is_no_decimal_number(cell: str, line: int, tmp_path: Path) -> None:
    """Wherever it stands: a first line with such a cell is no line of names, and nothing of it is lost in silence."""
    rows = [["1", "2", "3", "0"] for _ in range(3)]
    rows[line - 1][1] = cell
    text = refusal(tmp_path, "\n".join(";".join(row) for row in rows))
    found = f"holds {NUMBERS[cell]}" if cell else "is empty"
    assert text == f": line {line}, column 2 {found} (columns are separated by semicolons); expected a number."


def test_a_first_line_of_nothing_but_nan_is_no_line_of_names(tmp_path: Path) -> None:
    assert "line 1, column 1 holds 'nan'" in refusal(tmp_path, "nan,nan,nan,nan\n" + "\n".join(ROWS))
    assert "line 1, column 1 holds 'NA'" in refusal(tmp_path, "NA,null,N/A,None\n" + "\n".join(ROWS))


def test_decimal_commas_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("label;a;b;c\n0;1,5;2,5;3\n")
    with pytest.raises(DataError) as caught:
        load_dataset(path, THREE, LABELS)
    assert str(caught.value) == (
        f"{path}: line 2, column 2 (a) holds '1,5' (columns are separated by semicolons); expected a number.\n"
        "Write decimals with a point: 1.5 in place of 1,5."
    )


@pytest.mark.parametrize("cell", ["1e39", "-4e38", "1e400"])
def test_numbers_beyond_fp32(cell: str, tmp_path: Path) -> None:
    text = refusal(tmp_path, PLAIN.replace("8.75", cell))
    assert text == ": 1 of 3 samples hold NaN, infinite values or some beyond fp32, the first at index 2; expected finite numbers."


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "two labels": ("label,a,b,c,label\n0,1,2,3,0\n", ": columns 1 (label) and 5 (label) are both called labels; expected one."),
    "label and class": ("label,a,b,class\n0,1,2,3\n", ": columns 1 (label) and 4 (class) are both called labels; expected one."),
    "index of pandas": (",a,b,c\n0,1,2,3\n", ": column 1 has no name, as an index of lines has none; expected a name"),
    "index of R": ('"","a","b","label"\n"1",1,2,3\n', ": column 1 has no name, as an index of lines has none; expected a name"),
    "index kept": ("Unnamed: 0,a,b,c\n0,1,2,3\n", ": column 1 has no name, as an index of lines has none; expected a name"),
    "label among too few": ("label,a,b\n0,1,2\n", ": its rows hold 2 numbers beside the column 'label'; expected 3"),
    "label among too many": ("label,a,b,c,d\n0,1,2,3,4\n", ": its rows hold 4 numbers beside the column 'label'; expected 3"),
    "a name": ("a,b,c,label\n1,2,3,1\n1,2,3,cat\n", ": line 3, column 4 (label) holds 'cat' (columns are separated by commas); expected"),
    "a number": ("1,2,3,cat\n1,2,3,1\n", ": line 2, column 4 holds '1' (columns are separated by commas); expected a name, as line 1 has."),
    "no name": ("1,2,3,cat\n1,2,3,N/A\n", ": line 2, column 4 holds 'N/A' (columns are separated by commas); expected a name, as"),
    "too many names": ("1,2,3,a\n1,2,3,b\n1,2,3,c\n1,2,3,d\n", ": label 3 of sample 3 is out of range; the model has 3 outputs, exp"),
    "labels between": (PLAIN.replace("\n2,", "\n2.5,"), ": its labels are not integers (the first is 2.5); expected 0 to 2."),
    "labels below": (PLAIN.replace("\n2,", "\n-2,"), ": label -2 of sample 0 is out of range; the model has 3 outputs, expected 0 to 2."),
    "labels above": (PLAIN.replace("\n1,", "\n3,"), ": label 3 of sample 2 is out of range; the model has 3 outputs, expected 0 to 2."),
    "missing label": ("a,b,c,label\n1,2,3,\n", ": line 2, column 4 (label) is empty (columns are separated by commas); expected"),
    "missing first label": ("1,2,3,\n1,2,3,0\n", ": line 2 holds 4 values (separated by commas), the first one 3; expected as many"),
    "short line": ("1,2,3,0\n1,2,0\n", ": line 2 holds 3 values (separated by commas), the first one 4; expected as many"),
    "names again": (PLAIN * 2, ": line 5, column 1 (label) holds 'label' (columns are separated by commas); expected"),
    "mark inside": (PLAIN + "\ufeff1,2,3,4\n", ": line 5, column 1 (label) holds '\\ufeff1' (columns are separated by commas); expected"),
    "bars": ("1|2|3|0\n", ": line 1, column 1 holds '1|2|3|0' (columns are separated by commas); expected"),
    "blanks": ("1 2 3 0\n", ": line 1, column 1 holds '1 2 3 0' (columns are separated by commas); expected"),
    "two separators": ("1,2;3,0\n", ": line 1, column 1 holds '1,2' (columns are separated by semicolons); expected a number."),
    "open quote": ('"1,2,3,0\n', ": is damaged or of another kind (unexpected end of data); expected a table of numbers in"),
    "latin": ("größe,b,c,label\n1,2,3,0\n".encode("latin-1"), ": is damaged or of another kind ('utf-8' codec can't decode byte 0xf6 in"),
    "half utf-16": (codecs.BOM_UTF16_LE + b"1\0,", ": is damaged or of another kind ('utf-16-le' codec can't decode byte 0x2c in"),
    "utf-16 without mark": (PLAIN.encode("utf-16-le"), ": line 1 holds zero bytes, as UTF-16 without its mark does; expected text"),
    "nothing": ("", " holds no lines of numbers; expected one line a sample."),
    "nothing but a mark": (codecs.BOM_UTF8, " holds no lines of numbers; expected one line a sample."),
    "nothing but names": ("label,a,b,c\n# 1,2,3,4\n,,,\n", " holds no lines of numbers; expected one line a sample."),
    "binary": (bytes(range(256)), ": is damaged or of another kind ('utf-8' codec can't decode byte 0x80 in position"),
    "one endless line": ("1," * 10_000, ": line 1 has more than 6,000 characters; expected one sample."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_mean_two_things_is_refused(case: str, tmp_path: Path) -> None:
    content, expected = REFUSED[case]
    assert refusal(tmp_path, content).startswith(expected)


def test_size_is_checked_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_TABLE_BYTES", len(PLAIN) - 1)
    assert refusal(tmp_path, PLAIN) == (
        f": has {len(PLAIN)} bytes; expected a table of numbers in text, separated by commas of at most {len(PLAIN) - 1} bytes."
    )


def test_the_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "D.CSV").write_text(PLAIN)
    np.testing.assert_array_equal(load_dataset(tmp_path / "D.CSV", THREE, LABELS).y, Y)


def test_a_mark_does_not_take_the_label_away_and_choices_are_said(tmp_path: Path) -> None:
    """Four features, of which `button` is the last: with the mark read as a part of `label`, it was trained on."""
    rng = np.random.default_rng(5)
    label = rng.integers(0, 3, 60)
    x = np.column_stack([rng.normal(0, 0.4, (60, 3)) + 2 * np.eye(3)[label], rng.integers(0, 3, 60)]).round(4)
    text = "label,ax,ay,az,button\n" + "".join(f"{y},{','.join(map(str, row))}\n" for y, row in zip(label, x, strict=True))
    model = save_text(
        tmp_path / "m.onnx", "g (float[N, 4] x) => (float[N, 3] y) { [fc] y = Gemm<transB = 1>(x, w, b) }",
        w=rng.normal(0, 1, (3, 4)).astype(np.float32), b=np.zeros(3, np.float32),
    )
    assert onnx.load(model).graph.node[0].name == "fc"
    out = tmp_path / "out"
    succeed("compile", model, "--lr", 0.1, "-o", out)
    (tmp_path / "mark.csv").write_bytes(codecs.BOM_UTF8 + text.encode())
    said = succeed("train", out, "--data", tmp_path / "mark.csv", "--epochs", 5)
    assert "epoch 5/5" in said and "accuracy 100.00%" in said.partition("epoch 5/5")[2]
    read = f"60 samples of 4 numbers, {x.min():.5g} to {x.max():.5g} taken as they are, labels 0 to 2"
    assert f"data       {tmp_path / 'mark.csv'}: {read}" in said
    (tmp_path / "other.csv").write_text(text.replace("label", "kind"))
    note = "; the last column (button) is taken as the target: no column is called label"
    assert succeed("infer", out, "--data", tmp_path / "other.csv").splitlines()[0].endswith(note)
    before = tree(tmp_path)
    assert "holds '1,5'" in sentence("train", out, "--data", _written(tmp_path / "bad.csv", "1,5;2;3;4;0\n"), "--force")
    (tmp_path / "bad.csv").unlink()
    assert tree(tmp_path) == before


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
