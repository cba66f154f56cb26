# SPDX-License-Identifier: Apache-2.0
"""What no file says of itself: the scale of values, the order of axes, names of classes, what is normal; and what is odd about samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinytrain.data.concerns import concerns
from tinytrain.data.dataset import Dataset, Labels, Target, Vectors, load_dataset
from tinytrain.data.file import FIRST, LAST, DataFile, data_file
from tinytrain.data.layout import Layout
from tinytrain.errors import DataError

MAP, FLAT, STEPS = Layout((3, 4, 5), (1, 2, 0)), Layout((6,), (0,)), Layout((8, 2), (0, 1))
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 255, (7, 3, 4, 5)).astype(np.uint8), np.array([0, 1, 2, 0, 1, 2, 0])


def load(path: Path, layout: Layout, target: Target = None, classes: tuple[str, ...] = (), **how: object) -> Dataset:
    return load_dataset(DataFile(path, **how), layout, target, classes=classes)


def refusal(path: Path, layout: Layout, target: Target = None, classes: tuple[str, ...] = (), **how: object) -> str:
    with pytest.raises(DataError) as caught:
        load(path, layout, target, classes, **how)
    return caught.value.sentences[0]


def save(folder: Path, x: np.ndarray, y: np.ndarray | None = None) -> Path:
    path = folder / "d.npz"
    np.savez(path, x=x, **({} if y is None else {"y": y}))
    return path


def test_scale_then_mean_then_std_channel_by_channel(tmp_path: Path) -> None:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    want = ((X / 255 - mean[:, None, None]) / std[:, None, None]).transpose(0, 2, 3, 1)
    for stored in (X, X.transpose(0, 2, 3, 1)):
        found = load(save(tmp_path, stored), MAP, scale=(1 / 255,), mean=tuple(mean), std=tuple(std))
        np.testing.assert_allclose(found.x, want, rtol=1e-6)
    assert "(each times 0.00392157, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)" in found.summary


def test_channels_of_other_models_are_last(tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 8, 2))
    np.testing.assert_allclose(load(save(tmp_path, x), STEPS, mean=(1, 2)).x, x - [1, 2], rtol=1e-6)
    said = refusal(save(tmp_path, x), STEPS, mean=(1, 2, 3))
    assert said == "--mean has 3 numbers; expected one, or one for each of 2 channels."


def test_nothing_is_scaled_in_silence(tmp_path: Path) -> None:
    assert f"7 samples of (3, 4, 5), {X.min()} to {X.max()} taken as they are" in load(save(tmp_path, X), MAP).summary
    assert refusal(save(tmp_path, X), MAP, std=(0.0,)) == "--std is 0: nothing would be left of a value; expected another number."
    assert refusal(save(tmp_path, X), MAP, scale=(0.0,)).startswith("--scale is 0")
    assert "7 of 7 samples hold NaN, infinite" in refusal(save(tmp_path, X + 1.0), MAP, scale=(1e300,), std=(1e-300,))


def test_what_gives_itself_back_is_scaled_on_both_sides(tmp_path: Path) -> None:
    found = load(save(tmp_path, X), MAP, Vectors(MAP), scale=(0.5,))
    np.testing.assert_array_equal(found.x, found.y)
    assert found.itself and found.x.max() == X.max() / 2


def test_the_order_of_axes_may_be_said(tmp_path: Path) -> None:
    rows = save(tmp_path, X.transpose(0, 2, 3, 1).reshape(7, -1))
    np.testing.assert_array_equal(load(rows, MAP, order=LAST).x, X.transpose(0, 2, 3, 1))
    assert load(rows, MAP, order=LAST).doubts == () == load(rows, MAP, order=FIRST).doubts
    assert load(rows, MAP).doubts == (
        "rows of 60 numbers are taken as (3, 4, 5), channels first, as the model has them: give --layout channels-last if they are not",
    )
    cube, cubic = RNG.normal(size=(2, 3, 3, 3)), Layout((3, 3, 3), (1, 2, 0))
    assert "axes of the same sizes, (3, 3, 3), are taken channels first" in load(save(tmp_path, cube), cubic).doubts[0]
    np.testing.assert_array_equal(load(save(tmp_path, cube), cubic, order=LAST).x, cube.astype(np.float32))
    assert "have the shape (3, 4, 5); expected (4, 5, 3)." in refusal(save(tmp_path, X), MAP, order=LAST)
    assert "no axis of the model's samples, (6), is known to be that of channels" in refusal(save(tmp_path, X), FLAT, order=LAST)
    flattened = Layout((3, 4, 5), (0, 1, 2))              # a model that begins with Flatten
    np.testing.assert_array_equal(load(save(tmp_path, X.transpose(0, 2, 3, 1)), flattened).x, X)


def test_one_channel_has_no_order(tmp_path: Path) -> None:
    assert load(save(tmp_path, np.zeros((2, 20))), Layout((1, 4, 5), (1, 2, 0))).doubts == ()


NAMES = np.array(["dog", "cat", "ant"])[Y]


def test_names_of_classes_are_numbered_in_alphabetical_order(tmp_path: Path) -> None:
    for named in (NAMES, NAMES.astype("S")):
        found = load(save(tmp_path, X, named), MAP, Labels(3))
        np.testing.assert_array_equal(found.y, 2 - Y)
        assert found.classes == ("ant", "cat", "dog") and "classes 0 ant, 1 cat, 2 dog" in found.summary
    (tmp_path / "d.csv").write_text("".join(f"{i},2,3,4,5,6,{name}\n" for i, name in enumerate(NAMES)))
    assert load(tmp_path / "d.csv", FLAT, Labels(3)).classes == ("ant", "cat", "dog")


def test_names_in_another_encoding_are_names(tmp_path: Path) -> None:
    found = load(save(tmp_path, X[:3], np.array(["Öl".encode("latin-1"), b"air", "Öl".encode("latin-1")])), MAP, Labels(2))
    assert found.classes == (r"\xd6l", "air") and found.y is not None and found.y.tolist() == [0, 1, 0]


def test_a_model_knows_its_classes(tmp_path: Path) -> None:
    path = save(tmp_path, X, NAMES)
    found = load(path, MAP, Labels(4), ("cow", "dog", "cat", "ant"))
    np.testing.assert_array_equal(found.y, Y + 1)
    assert refusal(path, MAP, Labels(2), ("dog", "cat")) == f"{path} has the class 'ant'; the model knows dog, cat."
    assert load(save(tmp_path, X, Y), MAP, Labels(3), ("a", "b", "c")).classes == ("a", "b", "c")


def test_an_archive_may_name_its_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, class_names=np.array(["dog", "cat", "ant"]))
    found = load(tmp_path / "d.npz", MAP, Labels(3))
    np.testing.assert_array_equal(found.y, Y)
    assert found.classes == ("dog", "cat", "ant")
    np.testing.assert_array_equal(load(tmp_path / "d.npz", MAP, Labels(3), ("ant", "cat", "dog")).y, 2 - Y)
    np.savez(tmp_path / "d.npz", x=X, y=Y, classes=np.array(["dog", "cat"]))
    assert "label 2 of sample 2 is out of range; the model has 2 outputs" in refusal(tmp_path / "d.npz", MAP, Labels(3), ("cat", "dog"))


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, classes=np.array(["cat", "cat", "ant"]))
    assert refusal(tmp_path / "d.npz", MAP, Labels(3)).endswith("calls two classes 'cat'; expected a name for each.")


def test_a_class_that_a_folder_lacks_shifts_no_other(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("ant", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        image.new("RGB", (5, 4)).save(tmp_path / "set" / name / "1.png")
    found = load(tmp_path / "set", MAP, Labels(3), ("ant", "cat", "dog"))
    np.testing.assert_array_equal(found.y, [0, 2])
    assert concerns(found, 3) == ("all 2 samples are the same", "1 of 3 classes have no sample: cat")
    alone = load(tmp_path / "set", MAP, Labels(2))
    assert "classes 0 ant, 1 dog" in alone.summary
    one = load(tmp_path / "set", MAP, Vectors(Layout((1,), (0,))))
    np.testing.assert_array_equal(one.y, [[0], [1]])
    assert "is a folder of images: --layout has no effect on it." in refusal(tmp_path / "set", MAP, Labels(2), order=LAST)
    assert "holds no recordings; expected files .csv, .npy, .npz in it, or in one" in refusal(tmp_path / "set", MAP, Labels(2), window=4)


def test_what_is_normal(tmp_path: Path) -> None:
    x, target = RNG.normal(size=(6, 6)), Vectors(FLAT)
    plain = load(save(tmp_path, x), FLAT, target)
    assert plain.itself and plain.odd is None
    twice = load(save(tmp_path, x, x), FLAT, target, scale=(2.0,))
    assert twice.itself and (twice.y == twice.x).all()
    numbered = load(save(tmp_path, x, np.array([0, 0, 1, 1, 0, 0])), FLAT, target)
    np.testing.assert_array_equal(numbered.odd, [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(numbered.y, numbered.x)
    assert "label 0 is normal, and each sample its own target" in numbered.summary
    assert concerns(numbered, 0) == ("2 of 6 samples are not normal: the model learns to give these back, too",)
    names = save(tmp_path, x, np.array(["OK", "OK", "bent", "bent", "OK", "OK"]))
    np.testing.assert_array_equal(load(names, FLAT, target).odd, numbered.odd)
    np.testing.assert_array_equal(load(names, FLAT, target, normal="bent").odd, ~numbered.odd)
    assert "no class is called 'fine'; expected one of OK, bent." in refusal(names, FLAT, target, normal="fine")
    unknown = load(save(tmp_path, x, np.array(["a", "b"] * 3)), FLAT, target)
    assert unknown.odd is None and "no class is called normal, ok, good, healthy: --normal says which one is" in unknown.summary
    assert "for a model that does not give back its input: --normal has no effect" in refusal(names, FLAT, Labels(2), normal="OK")
    soft = load(save(tmp_path, x, x * 2), FLAT, target)
    assert not soft.itself and soft.odd is None
    hot = load(save(tmp_path, x, np.array([5, 0, 0, 0, 0, 0])), FLAT, target)
    assert not hot.itself and hot.y[0].tolist() == [0, 0, 0, 0, 0, 1]         # labels of all outputs


def test_what_is_odd_about_samples(tmp_path: Path) -> None:
    def said(x: np.ndarray, y: np.ndarray, classes: int = 3) -> tuple[str, ...]:
        return concerns(load(save(tmp_path, x, y), FLAT, Labels(classes)), classes)

    x = RNG.normal(size=(4, 6))
    assert said(x[:1], np.array([0])) == ("there is one sample only: whatever is learned is about that one",
                                          "2 of 3 classes have no sample: 1, 2")
    assert said(x, np.array([1] * 4)) == ("all samples are of one class, 1: a model learns to say nothing else",)
    assert said(x, np.array([0, 1, 0, 1]), 10) == ("8 of 10 classes have no sample: 2, 3, 4, 5, 6, 7 and 2 more",)
    assert said(np.ones((3, 6)), np.array([0, 1, 2])) == ("all 3 samples are the same",)
    assert said(x, np.array([0, 1, 2, 0])) == ()
    np.savez(tmp_path / "d.npz", x=x, y=np.array([0, 1, 1, 0]), classes=np.array(["cat", "dog", "ant", "bee"]))
    more = load(tmp_path / "d.npz", FLAT, Labels(3))
    assert concerns(more, 3) == ("1 of 3 classes have no sample: ant",)       # more names than the model has outputs


def test_a_program_says_it_as_the_command_line_does(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="layout 'nhwc' is none; expected channels-first or channels-last"):
        data_file("d.npz", layout="nhwc")
    with pytest.raises(DataError, match="window is -1 and step 0; expected numbers of rows"):
        data_file("d.npz", window=-1)
    said = data_file("d.csv", label="y", channels=["a", "b"], window=8, step=4, scale=0.5, mean=[1, 2], std=np.array([3, 4]), layout=LAST)
    assert said == DataFile(Path("d.csv"), ("y",), ("a", "b"), 8, 4, (0.5,), (1, 2), (3, 4), LAST)


def test_only_tables_have_columns(tmp_path: Path) -> None:
    assert refusal(save(tmp_path, X), MAP, targets=("a",)).endswith("is no table: --label has no effect on it.")
    assert refusal(save(tmp_path, X), MAP, columns=("a",)).endswith("is no table: --channels has no effect on it.")


def test_columns_of_a_table_by_name(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("id;Name;a;b;price;size\n1;one;1;2;10;0.5\n2;two;3;4;20;1.5\n")
    two = Layout((2,), (0,))
    found = load(path, two, Vectors(two), columns=("b", "A"), targets=("price", "SIZE"))
    np.testing.assert_array_equal(found.x, [[2, 1], [4, 3]])
    np.testing.assert_array_equal(found.y, [[10, 0.5], [20, 1.5]])
    assert load(path, two, Labels(2), columns=("a", "b"), targets=("name",)).classes == ("one", "two")
    assert load(path, two, None, columns=("a", "b")).y is None
    path.write_text("1,2,a\n3,4,b\n")
    assert "--label name: no column of that name; it has 3 columns without names." in refusal(path, two, Labels(2), targets=("name",))
    path.write_text(",a,b\n0,1,2\n1,3,4\n")               # an index does not matter where columns are chosen
    np.testing.assert_array_equal(load(path, two, None, columns=("a", "b")).x, [[1, 2], [3, 4]])
    path.write_text("a,a,b\n0,1,2\n1,3,4\n")
    assert "--channels a: 2 columns of that name; its columns are a, a, b." in refusal(path, two, None, columns=("a", "b"))
