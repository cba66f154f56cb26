# SPDX-License-Identifier: Apache-2.0
"""What the Teach panel takes besides drawings: sliders, recordings, files of numbers, a camera; and the socket of `tinytrain open`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import save_model, save_text, succeed
from fake_firmware import need_tools
from page_browser import browser, faults, needs_browser, shown
from test_page_server import served

from tinytrain.device.project import BROWSER
from tinytrain.target.board import load_board

pytestmark = needs_browser
WAIT_MS = 60_000
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    need_tools(load_board(BROWSER))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as started:
        yield started


def page_of(folder: Path, model: Path) -> str:
    succeed("compile", model, "--no-build", "-o", folder / "out")
    succeed("page", folder / "out", "-o", folder / "page.html")
    return f"{(folder / 'page.html').as_uri()}#teach"


def counts(page: Any) -> list[int]:
    return [int(text) for text in page.locator(".count").all_text_contents()]


def says(page: Any, text: str) -> None:
    page.get_by_text(text).first.wait_for(timeout=WAIT_MS)


def three(folder: Path) -> Path:
    """Three numbers, two classes."""
    weights = {"w": RNG.normal(size=(2, 3)).astype(np.float32), "b": np.zeros(2, np.float32)}
    return save_text(folder / "three.onnx", "g (float[1,3] x) => (float[1,2] y) { [fc] y = Gemm<transB = 1>(x, w, b) }", **weights)


def test_sliders_and_rows_of_a_file(chromium: Any, tmp_path: Path) -> None:
    """Short vectors: by hand, or a row for each sample; ragged rows are a sentence, and add nothing."""
    (tmp_path / "low.csv").write_text("a,b,c\n" + "\n".join(f"{x},0.1,0.5" for x in np.linspace(0, 0.3, 12)))
    (tmp_path / "high.csv").write_text("\n".join(f"{x};0.9;0.5" for x in np.linspace(0.7, 1, 12)))
    (tmp_path / "ragged.csv").write_text("1,2,3\n4,5\n")
    (tmp_path / "words.csv").write_text("1,2,3\n4,five,6\n")
    with shown(chromium, page_of(tmp_path, three(tmp_path))) as page:
        for label, file in enumerate(("low.csv", "high.csv")):
            page.get_by_role("radio").nth(label).check()
            page.get_by_label("Add csv files of 3 columns").set_input_files(tmp_path / file)
            page.locator(".count").nth(label).filter(has_text="12").wait_for()
        said = {"ragged.csv": "ragged.csv: line 2 has 2 columns, and the first has 3.", "words.csv": 'words.csv: line 2 has "five" where'}
        for file, sentence in said.items():
            page.get_by_label("Add csv files").set_input_files(tmp_path / file)
            says(page, sentence)
        page.get_by_label("Learning rate").fill("0.5")
        page.get_by_label("Epochs").fill("20")
        page.get_by_role("button", name="Train", exact=True).click()
        says(page, "Accuracy 100.0 %")
        for name, value in (("Input 1", "0.9"), ("Input 2", "0.9")):
            page.get_by_label(name).fill(value)
        says(page, "“1”, ")
        page.get_by_role("button", name="Add as “1”").click()
        assert counts(page) == [12, 13] and faults(page) == []


# Readings come in the moment in which the page listens: how long a page waits for the first must not decide a test.
MOTION = """async ([button, steps]) => {
    button.click();
    while (!document.body.innerText.includes("Recording …")) await new Promise((done) => setTimeout(done));
    for (let i = 0; i < steps; ++i) dispatchEvent(new DeviceMotionEvent("devicemotion",
        { accelerationIncludingGravity: { x: Math.sin(i / 3), y: i / 30, z: 9.8 } }));
}"""


def test_recordings_of_a_sensor_and_of_files(chromium: Any, tmp_path: Path) -> None:
    """Series: as many readings as a sample has steps; long files are several samples; a computer without a sensor says so."""
    np.savetxt(tmp_path / "long.csv", RNG.normal(size=(70, 3)), delimiter=",")
    np.savetxt(tmp_path / "short.csv", RNG.normal(size=(7, 3)), delimiter=",")
    with shown(chromium, page_of(tmp_path, save_model(tmp_path, "gesture"))) as page:
        record = page.get_by_role("button", name="Record 32 readings")
        page.evaluate(MOTION, [record.element_handle(), 32])
        page.get_by_label("Last recording, 32 steps of 3 channels").wait_for()
        says(page, " %")
        page.get_by_role("button", name="Add as “0”").click()
        page.get_by_label("Add csv files of 32 rows and 3 columns").set_input_files(tmp_path / "long.csv")
        page.locator(".count").nth(0).filter(has_text="3").wait_for()
        page.get_by_label("Add csv files").set_input_files(tmp_path / "short.csv")
        says(page, "short.csv has 7 rows, and a sample 32.")
        record.click()
        says(page, "The motion sensor says nothing: this device may have none.")
        assert faults(page) == []


def test_a_camera(chromium: Any, tmp_path: Path) -> None:
    """Frames of a camera become samples while it runs."""
    with shown(chromium, page_of(tmp_path, save_model(tmp_path, "cnn"))) as page:
        page.get_by_role("button", name="Camera").click()
        page.get_by_role("button", name="Stop the camera").wait_for()
        says(page, " %")
        for _ in range(3):
            page.get_by_role("button", name="Add as “0”").click()
            page.wait_for_timeout(300)
        assert counts(page)[0] == 3
        page.get_by_role("button", name="Stop the camera").click()
        page.get_by_role("button", name="Camera", exact=True).wait_for()


def test_a_device_behind_the_socket(chromium: Any, tmp_path: Path) -> None:
    """`tinytrain open`: the device it runs, from the page it serves; what one page has, another does not get."""
    succeed("compile", save_model(tmp_path, "cnn"), "-o", tmp_path / "out")
    with served(tmp_path / "out") as (host, token):
        address = f"http://{host}/{token}/#device"
        with shown(chromium, address) as page:
            page.get_by_role("button", name="Connect the host twin").click()
            says(page, "Connected: cnn on This computer (host twin)")
            page.get_by_role("button", name="Compare").click()
            says(page, "Every bit is the same")
            with shown(chromium, address) as other:
                other.get_by_role("button", name="Connect the host twin").click()
                says(other, "the host twin is in use by another page.")
            page.get_by_role("button", name="Disconnect").click()
            says(page, "Not connected.")


def test_one_thing_at_a_time(chromium: Any, tmp_path: Path) -> None:
    """Comparing begins an update on both, whatever was summed before; while one trains it is refused, as are rates that are no numbers."""
    succeed("compile", save_model(tmp_path, "cnn"), "--accumulate", "3", "-o", tmp_path / "out")
    np.savez(tmp_path / "some.npz", x=np.float32(RNG.random((4, 1, 8, 8))), y=[0, 1, 0, 1])
    with served(tmp_path / "out") as (host, token), shown(chromium, f"http://{host}/{token}/#teach") as page:
        teach, device = page.locator("#teach"), page.locator("#device")
        teach.get_by_label("Add samples of a file").set_input_files(tmp_path / "some.npz")
        start = teach.get_by_role("button", name="Train", exact=True)
        for label, value, sentence in (
            ("Learning rate", "", "The learning rate should be a number from 0 on."),
            ("Epochs", "1.5", "Epochs should be a whole number from 1 to 1000."),
        ):
            before = teach.get_by_label(label).input_value()
            teach.get_by_label(label).fill(value)
            start.click()
            says(page, sentence)
            teach.get_by_label(label).fill(before)
        teach.get_by_label("Epochs").fill("1")
        start.click()
        says(page, "Done: 4 steps")
        page.get_by_role("tab", name="Device").click()
        device.get_by_role("button", name="Connect the host twin").click()
        says(page, "Connected: ")
        compare = device.get_by_role("button", name="Compare")
        compare.click()
        says(page, "Every bit is the same")
        page.get_by_role("tab", name="Teach").click()
        teach.get_by_label("Epochs").fill("1000")
        start.click()
        teach.get_by_role("status").filter(has_text="Epoch ").wait_for()
        page.get_by_role("tab", name="Device").click()
        compare.click()
        says(page, "this page is training or being compared: wait for its end, or stop it.")


def test_what_cannot_be_taught_says_why(chromium: Any, tmp_path: Path) -> None:
    """A model that only infers: the panels say so, and the page has no fault."""
    succeed("compile", three(tmp_path), "--loss", "none", "--no-build", "-o", tmp_path / "out")
    succeed("page", tmp_path / "out", "-o", tmp_path / "page.html")
    for panel in ("teach", "device"):
        with shown(chromium, f"{(tmp_path / 'page.html').as_uri()}#{panel}") as page:
            says(page, "was compiled for inference only. Compile it with --loss and --scheme.")
