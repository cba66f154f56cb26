# SPDX-License-Identifier: Apache-2.0
"""Folders of images: pixels are taken as they are or not at all, and nothing is decoded that does not have the size of the model."""

from __future__ import annotations

import io
import os
from pathlib import Path

import data_refusal
import numpy as np
import pytest

from tinytrain.data import images
from tinytrain.data.dataset import Labels, Layout, load_dataset

COLOUR = Layout((3, 4, 4), (1, 2, 0))
LABELS = Labels(3)


def refusal(folder: Path) -> str:
    return data_refusal.refusal(folder, LABELS, COLOUR)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (4, 4), **more: object) -> Path:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, size).save(path, **more)
    return path


def bomb(size: int) -> bytes:
    """A PNG of few bytes and many pixels."""
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").new("1", (size, size)).save(file, "PNG")
    return file.getvalue()


def test_what_images_may_be(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    colour = image.fromarray(pixels)
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    colour.save(folder / "a.png")
    colour.convert("RGBA").save(folder / "b.png")         # opaque
    colour.save(folder / "c.bmp")
    colour.save(folder / "d.ppm")
    colour.save(folder / "e.TIFF")
    found = load_dataset(tmp_path / "set", COLOUR, Labels(1))
    np.testing.assert_array_equal(found.x, np.stack([pixels] * 5).astype(np.float32))
    assert found.notes == ()


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    picture(folder / "a" / "1.png")
    picture(folder / "b" / "inside" / "2.png")
    picture(folder / "c" / "3.png")
    picture(folder / "4.png")
    (folder / "a" / "5.heic").touch()
    (folder / ".DS_Store").touch()
    found = load_dataset(folder, COLOUR, LABELS)
    np.testing.assert_array_equal(found.y, [0, 2])
    assert found.notes == ("3 left out: 5.heic, inside, 4.png", "1 classes without images: 1 (b)")


def test_images_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    file = tmp_path / "set" / "a" / "a.png"

    def said() -> str:
        return refusal(tmp_path / "set").removeprefix("/a/a.png")

    picture(file, "CMYK", format="TIFF")
    assert said() == " has pixels of the kind CMYK; expected grey or RGB of 8 bits a channel."
    picture(file, "I;16")
    assert said() == " has pixels of the kind I;16; expected grey or RGB of 8 bits a channel."
    picture(file, "F", format="TIFF")
    assert said() == " has pixels of the kind F; expected grey or RGB of 8 bits a channel."
    for mode in ("RGBA", "LA"):
        picture(file, mode)
        assert said() == " has transparent pixels; expected opaque ones."
    picture(file, "P", transparency=0)
    assert said() == " has transparent pixels; expected opaque ones."
    image.new("RGB", (4, 4)).save(file, format="GIF", save_all=True, append_images=[image.new("RGB", (4, 4), "red")])
    assert said() == " holds several pictures; expected one."
    picture(file, format="BMP")
    file.write_bytes(file.read_bytes()[:-20])
    assert ": cannot be read (image file is truncated (" in said()
    with pytest.MonkeyPatch.context() as patch:
        refused, warned = bomb(200), bomb(100)
        patch.setattr(image, "MAX_IMAGE_PIXELS", 6000)
        patch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded before its size was looked at"))
        file.write_bytes(refused)                         # by Pillow
        assert ": is damaged or of another kind (Image size (40000 pixels) exceeds limit" in said()
        file.write_bytes(warned)
        assert said() == " is 100x100 pixels (width x height); expected 4x4, as the model takes it."
    file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    assert ": is no image that Pillow can read; expected an image" in said()      # Pillow would have started Ghostscript
    file.unlink()
    os.mkfifo(file)
    assert said() == ": is no file; expected an image: .png, .jpg, .jpeg or the like."
    file.unlink()
    file.symlink_to(file)
    assert ": cannot be read (Too many levels of symbolic links); expected an image" in said()
    file.unlink()
    file.mkdir()
    assert said() == ": is no file; expected an image: .png, .jpg, .jpeg or the like."
    file.rmdir()
    picture(file)
    monkeypatch.setattr(images, "MOST_BYTES", 100)
    assert said() == " holds 1 images of shape (3, 4, 4); expected at most 100 bytes of them as fp32."
