# SPDX-License-Identifier: Apache-2.0
"""The panels Teach and Device in a browser: drawing and training raise accuracy, files are those of the commands, boards are driven."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_model, succeed
from fake_firmware import need_tools
from page_browser import NARROW, browser, faults, needs_browser, shown
from sklearn.datasets import load_digits

from tinytrain.device.link import Transport
from tinytrain.device.project import BROWSER, Project
from tinytrain.learn.weights import restore
from tinytrain.target.board import load_board

pytestmark = needs_browser
BOARD = "netduinoplus2"
WAIT_MS = 60_000
# A serial port whose other end is in this program; `refuses` is what opening it says.
SERIAL = """(refuses) => {
    const port = {
        async open() {
            if (refuses) throw new DOMException("Failed to open serial port.", "NetworkError");
            this.readable = new ReadableStream({ async pull(to) {
                for (;;) {
                    const data = await window.deviceRead();
                    if (data === null) return to.close();
                    if (data.length) return to.enqueue(Uint8Array.from(data));
                }
            } });
            this.writable = new WritableStream({ write: (data) => window.deviceWrite(Array.from(data)) });
        },
        async close() {},
    };
    Object.defineProperty(navigator, "serial", { configurable: true, value: { requestPort: async () => port } });
}"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_tools(load_board(BROWSER))
    need_tools(load_board(BOARD))
    folder = tmp_path_factory.mktemp("teach")
    succeed("compile", save_model(folder, "cnn"), "--board", BOARD, "--lr", "0.02", "-o", folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def address(project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    succeed("page", project, "-o", path)
    return path.as_uri()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    digits = load_digits()
    path = tmp_path_factory.mktemp("samples") / "digits.npz"
    np.savez(path, x=np.float32(digits.images[:500, None] / 16), y=digits.target[:500])
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


def says(page: Any, text: str) -> str:
    """A sentence of the page with that beginning, once it is there."""
    found = page.locator("[role=status]:visible", has_text=text).first
    found.wait_for(timeout=WAIT_MS)
    return str(found.text_content())


def accuracy(sentence: str) -> float:
    return float(sentence.split("Accuracy ")[1].split(" %")[0])


def stroke(page: Any, *points: tuple[float, float]) -> None:
    """Draw along points of the picture, from 0 to 1."""
    canvas = page.locator("canvas.drawing")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def train(page: Any, epochs: int, button: str = "Train") -> float:
    page.locator("[role=tabpanel]:visible").get_by_label("Epochs").fill(str(epochs))
    page.get_by_role("button", name=button, exact=True).click()
    return accuracy(says(page, "Done: "))


def kept(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator("[role=tabpanel]:visible").get_by_role("button", name=button).click()
    path = folder / str(download.value.suggested_filename)
    download.value.save_as(path)
    return path


def test_drawings_are_learned(chromium: Any, address: str) -> None:
    """Two classes drawn with a pointer, a name, a prediction; the same page by keys alone."""
    rng = np.random.default_rng(2)
    with shown(chromium, f"{address}#teach") as page:
        page.get_by_label("Name of class 2").fill("lying")
        for label, name in enumerate(("0", "lying")):
            page.get_by_role("radio").nth(label).check()
            for at in rng.uniform(0.3, 0.7, 10):
                stroke(page, *((at, 0.15), (at, 0.85)) if label == 0 else ((0.15, at), (0.85, at)))
                page.get_by_role("button", name=f"Add as “{name}”").click()
        assert page.locator(".count").all_text_contents()[:3] == ["10", "10", "0"]
        page.get_by_role("button", name="Remove the last sample of class 1").click()
        assert page.locator(".count").all_text_contents()[:2] == ["10", "9"]
        assert train(page, 20) == 100
        page.get_by_label("Epochs").fill("1000")
        page.get_by_role("button", name="Train", exact=True).click()
        says(page, "Epoch ")
        page.get_by_role("button", name="Stop").click()
        says(page, "Stopped: ")
        assert page.locator("table.confusion tbody tr").count() == 2
        stroke(page, (0.1, 0.5), (0.9, 0.5))
        assert says(page, "“lying”, ").endswith("%")
        page.get_by_role("button", name="Clear").click()
        page.locator("canvas.drawing").focus()
        for key in ["ArrowLeft"] * 3 + ["ArrowUp"] * 3 + ["Shift+ArrowDown"] * 6:
            page.keyboard.press(key)
        assert says(page, "“0”, ").endswith("%")


def test_training_and_its_files(chromium: Any, address: str, project: Path, samples: Path, tmp_path: Path) -> None:
    """Real digits, whose accuracy rises; what the page writes the commands read, and the twin then says the same."""
    with shown(chromium, f"{address}#teach", accept_downloads=True) as page:
        page.get_by_label("Add samples of a file").set_input_files(samples)
        says(page, "500 samples")
        page.get_by_label("Name of class 10").fill("neun")
        first = train(page, 1)
        assert first < train(page, 6) > 85
        table = page.locator("table.confusion")
        assert table.locator("tbody tr").count() == 10
        files = {name: kept(page, label, tmp_path) for name, label in (("npz", "Weights ("), ("onnx", "Model ("), ("samples", "Samples ("))}
        page.get_by_role("button", name="Forget what was learned").click()
        page.get_by_label("Take weights of a file").set_input_files(files["npz"])
        page.get_by_label("Add image files").wait_for()
    onnx.checker.check_model(onnx.load(files["onnx"]))
    opened = Project.open(project)
    with opened.session() as session:
        restore(opened, session, files["npz"])
        data = np.load(files["samples"])
        assert data["x"].shape == (500, 1, 8, 8) and data["classes"].tolist() == [*map(str, range(9)), "neun"]
        right = [int(np.argmax(session.infer(x.transpose(1, 2, 0)))) == y for x, y in zip(data["x"][:60], data["y"], strict=False)]
    assert np.mean(right) > 0.85
    assert "accuracy" in succeed("train", project, "--data", files["samples"], "--epochs", "1")


@pytest.mark.parametrize("panel", ["teach", "device"])
@pytest.mark.parametrize("context", [{}, {"viewport": NARROW, "color_scheme": "dark"}], ids=["wide", "narrow and dark"])
def test_everybody_can_use_it(chromium: Any, address: str, panel: str, context: dict[str, Any]) -> None:
    with shown(chromium, f"{address}#{panel}", **context) as page:
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@contextmanager
def ported(page: Any, transport: Transport) -> Iterator[None]:
    """The page's serial port is a line to this transport."""
    with closing(transport):
        page.expose_function("deviceRead", lambda: list(transport.read(time.monotonic() + 0.005)))
        page.expose_function("deviceWrite", lambda data: transport.write(bytes(data), time.monotonic() + 10))
        page.evaluate(SERIAL, False)
        yield


def test_a_board_on_a_serial_port(chromium: Any, address: str, project: Path, samples: Path) -> None:
    """Web Serial, with an emulated board at its other end: the same bits there and here, training there, weights both ways."""
    with shown(chromium, f"{address}#teach") as page, ported(page, Project.open(project).transport()):
        page.get_by_label("Add samples of a file").set_input_files(samples)
        says(page, "500 samples")
        before = train(page, 1)
        page.get_by_role("tab", name="Device").click()
        page.get_by_role("button", name="Connect a board").click()
        assert "cnn on Netduino Plus 2" in says(page, "Connected: ")
        page.get_by_role("button", name="Compare").click()
        assert "Every bit is the same: 8 outputs" in says(page, "Every bit")
        page.get_by_role("button", name="Push").click()
        says(page, "The device has the weights of this page.")
        assert train(page, 1, "Train on the device") > before
        page.get_by_role("button", name="Pull").click()
        says(page, "This page has the weights of the device.")
        page.get_by_role("button", name="Compare").click()
        says(page, "Every bit is the same")
        page.get_by_role("button", name="Disconnect").click()
        says(page, "Not connected.")


def test_a_board_that_is_unplugged(chromium: Any, address: str, project: Path) -> None:
    transport: Any = Project.open(project).transport()
    with shown(chromium, f"{address}#device") as page, ported(page, transport):
        page.get_by_role("button", name="Connect a board").click()
        says(page, "Connected: ")
        transport.kill()
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("alert").filter(has_text="the board has gone").wait_for(timeout=WAIT_MS)
        says(page, "Not connected.")


def test_another_firmware_is_refused(chromium: Any, address: str, tmp_path: Path) -> None:
    save_model(tmp_path, "mlp")
    succeed("compile", tmp_path / "mlp.onnx", "--board", BOARD, "-o", tmp_path / "other")
    with shown(chromium, f"{address}#device") as page, ported(page, Project.open(tmp_path / "other").transport()):
        page.get_by_role("button", name="Connect a board").click()
        page.get_by_text("is of another model (mlp) than cnn of this page. Flash this project").wait_for(timeout=WAIT_MS)


def test_what_is_not_permitted_is_a_sentence(chromium: Any, address: str, tmp_path: Path) -> None:
    """A port that another program holds, no camera, and files of other kinds."""
    (tmp_path / "no.npz").write_bytes(b"no")
    np.savez(tmp_path / "wide.npz", x=np.zeros((2, 1, 9, 9), np.float32), y=[0, 1])
    (tmp_path / "no.png").write_bytes(b"no")
    with shown(chromium, f"{address}#device") as page:
        page.evaluate(SERIAL, True)
        page.get_by_role("button", name="Connect a board").click()
        page.get_by_text("The port cannot be opened: another program may hold it").wait_for()
        page.get_by_role("tab", name="Teach").click()
        page.get_by_role("button", name="Camera").click()
        page.get_by_text("The camera was not").wait_for()
        for file, label, said in (
            ("no.npz", "Add samples of a file", "no.npz is not an .npz that the page can read"),
            ("wide.npz", "Add samples of a file", "samples have the shape 1 × 9 × 9, and the model takes 1 × 8 × 8"),
            ("no.npz", "Take weights of a file", "no.npz is not an .npz"), ("no.png", "Add image files", "no.png is no image"),
        ):
            page.get_by_label(label).set_input_files(tmp_path / file)
            page.get_by_text(said).wait_for()


def test_the_pages_project_says_what_it_has(project: Path, tmp_path: Path) -> None:
    """A project that does not train has a reason in place of a module."""
    succeed("compile", save_model(tmp_path, "mlp"), "--loss", "none", "-o", tmp_path / "out")
    succeed("page", tmp_path / "out", project, "-o", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text().split('id="project">')[1].split("</script>")[0]
    builds = json.loads(text)["builds"]
    assert [bool(build["teaching"]["why_not"]) for build in builds] == [True, False]
    assert "was compiled for inference only" in builds[0]["teaching"]["why_not"] and builds[0]["files"] == {}
    assert {*builds[1]["files"]} == {"model.wasm", "learned.onnx"}
