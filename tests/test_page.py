# SPDX-License-Identifier: Apache-2.0
"""`tinytrain page`: what is in the file, in a browser: pictures, tables, keys, names of any characters, two widths, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from cli_runs import save_model, sentence, succeed
from page_browser import NARROW, WIDE, browser, faults, needs_browser, shown

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, describe
from tinytrain.emit.plan_json import plan_json
from tinytrain.page.writer import NAMED, STATIC, modules

MOST_BYTES = 2_000_000
BOARD = "netduinoplus2"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small CNN on a Cortex-M4: two layers trained, and all of it."""
    folder = tmp_path_factory.mktemp("projects")
    model = save_model(folder, "cnn")
    for scheme, name in (("last:2", "two"), ("full", "all")):
        succeed("compile", model, "--board", BOARD, "--scheme", scheme, "--no-build", "-o", folder / name)
    return folder / "two", folder / "all"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


def written(folder: Path, *projects: Path) -> str:
    succeed("page", *projects, "-o", folder / "page.html")
    assert (folder / "page.html").stat().st_size < MOST_BYTES
    return (folder / "page.html").as_uri()


def plan_of(project: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((project / "plan.json").read_text())
    return plan


@pytest.mark.parametrize(("model", "options"), [
    ("cnn", Options(board=BOARD)), ("cnn", Options(board=BOARD, scheme="bias")), ("mlp", Options(loss=None)),
    ("gesture", Options(board="hifive1", scheme="last:1")), ("cnn", Options(board="mps3-an547", dtype="fp16")),
])
def test_the_plan_says_what_the_planner_did(model: str, options: Options, tmp_path: Path) -> None:
    onnx.save(zoo.model(model), tmp_path / "model.onnx")
    compiled = compile_model(tmp_path / "model.onnx", options)
    kernels = compiled.tuning.kernels(compiled.program)
    plan = json.loads(json.dumps(plan_json(compiled.program, compiled.plan, kernels, compiled.board)))
    for key, entry in plan["entries"].items():
        assert max(node["used_bytes"] for node in entry["nodes"]) == entry["peak"]["bytes"] == entry["lower_bound_bytes"]
        assert entry["nodes"][entry["peak"]["node"]]["used_bytes"] == entry["peak"]["bytes"]
        assert {node["phase"] for node in entry["nodes"]} == ({"forward"} if key == "infer" else {"forward", "backward"})
        assert sum(node["macs"] for node in entry["nodes"]) == describe(compiled)["macs"][key]
        whole = plan["memory"]["arena_bytes"]
        assert all(0 <= b["offset"] <= b["offset"] + b["bytes"] <= whole and b["start"] < b["end"] for b in entry["buffers"])
    trained = sum(v.type.numel for v in compiled.program.entries.get("train", compiled.program.entries["infer"]).updates if v.source)
    assert sum(layer["trained"] for layer in plan["layers"]) == trained


def test_every_module_is_reached_and_none_in_a_circle() -> None:
    texts = modules()
    assert {path.name for path in STATIC.glob("*.js")} == {*texts, "loader.js"}

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join((*way, name))}"
        for other in dict.fromkeys(NAMED.findall(texts[name])):
            follow(other, (*way, name))

    follow("shell.js", ())


def test_same_input_same_page(projects: tuple[Path, Path], tmp_path: Path) -> None:
    succeed("page", *projects, "-o", tmp_path / "a.html")
    succeed("page", *projects, "-o", tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@needs_browser
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anybody_can_read_it(chromium: Any, projects: tuple[Path, Path], tmp_path: Path, size: dict[str, int], scheme: str) -> None:
    with shown(chromium, written(tmp_path, *projects), viewport=size, color_scheme=scheme) as page:
        page.get_by_role("button", name="conv2").click()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"


@needs_browser
def test_the_arena_says_what_each_box_is(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    project = projects[1]
    plan = plan_of(project)
    entry, memory = plan["entries"]["train"], plan["memory"]
    with shown(chromium, written(tmp_path, project)) as page:
        boxes = page.locator(".arena .box")
        assert boxes.count() == len([*plan["fixed"], *entry["buffers"]])
        page.locator(".arena text.inside", has_text="fc_weight").evaluate("text => text.previousSibling.id = 'fc'")
        page.locator("#fc").hover()
        tip = page.locator(".tip")
        assert tip.inner_text().split("\n") == [
            "fc_weight", "trained weights, 10,240 B, f32[10x256]", "layer fc", "always there", tip.inner_text().split("\n")[-1],
        ]
        assert f"arena = lower bound, {memory['arena_bytes']:,} B" in page.locator(".arena svg").inner_html()
        peak = entry["nodes"][entry["peak"]["node"]]
        where = f"{peak['layer']} ({peak['op']}, {peak['phase']})"
        assert f"peak {entry['peak']['bytes']:,} B in {where}" in page.inner_text(".legend >> nth=0")
        assert page.locator(".facts div").nth(4).inner_text().split("\n") == ["arena", f"{memory['arena_bytes']:,} B"]
        assert page.locator(".phase.forward").count() == page.locator(".phase.backward").count() == 1


def axis(page: Any) -> str:
    """What is written below the picture of the arena."""
    return str(page.locator(".arena text.axis").last.text_content())


@needs_browser
def test_the_arena_is_zoomed_and_walked_by_keys(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    with shown(chromium, written(tmp_path, projects[1])) as page:
        def widest() -> float:
            return float(page.evaluate("Math.max(...[...document.querySelectorAll('.box')].map((box) => box.width.baseVal.value))"))

        def first_height() -> float:
            return float(page.locator(".arena .box").nth(1).evaluate("box => box.height.baseVal.value"))

        before = first_height()
        picture = page.get_by_role("application")
        picture.focus()
        page.keyboard.press("ArrowRight")
        first = page.get_by_role("status").inner_text()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("status").inner_text() != first
        for _ in range(3):
            page.keyboard.press("-")                       # no further out than the whole
        assert first_height() == before
        page.get_by_role("button", name="Zoom in").click()
        seen = axis(page)
        assert seen != "calls 1 to 13 of 13"
        picture.hover()
        page.mouse.down()
        page.mouse.move(300, 400, steps=3)
        page.mouse.up()
        assert axis(page) != seen
        page.get_by_role("button", name="Show the whole arena").click()
        assert first_height() == before and widest() > 1000
        page.get_by_role("button", name="by time").click()
        assert axis(page).startswith("estimated cycles 1 to ")
        page.keyboard.press("Escape")


@needs_browser
def test_the_arena_by_fingers_and_wheel(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    with shown(chromium, written(tmp_path, projects[1]), viewport=NARROW, has_touch=True) as page:
        picture = page.get_by_role("application")
        picture.scroll_into_view_if_needed()
        area = picture.bounding_box()
        x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
        page.touchscreen.tap(x, y)
        assert page.get_by_role("status").inner_text().startswith("fc_weight")
        fingers = page.context.new_cdp_session(page)

        def touch(kind: str, *apart: int) -> None:
            points = [{"x": x + by, "y": y, "id": i} for i, by in enumerate(apart)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        whole = axis(page)
        touch("touchStart", -20, 20)
        for by in (30, 45, 60):
            touch("touchMove", -by, by)
        touch("touchEnd")
        assert axis(page) != whole
        page.get_by_role("button", name="Show the whole arena").click()
        assert axis(page) == whole
        page.mouse.move(x, y)
        page.evaluate("document.activeElement.blur()")
        page.mouse.wheel(0, -300)                         # the page scrolls on
        assert axis(page) == whole
        picture.focus()
        picture.hover()                                   # it may have moved away below the pointer
        page.mouse.wheel(0, -300)
        page.wait_for_function("before => [...document.querySelectorAll('.arena text.axis')].pop().textContent !== before", arg=whole)


@needs_browser
def test_layers_are_sorted_and_unfolded(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    plan = plan_of(projects[0])
    with shown(chromium, written(tmp_path, projects[0])) as page:
        layers = page.get_by_role("region", name="Layers")

        def column(index: int) -> list[str]:
            return [str(text) for text in layers.locator(f"tbody tr:not(:has(.more)) > :nth-child({index})").all_inner_texts()]

        assert column(1)[:2] == ["conv1", "conv2"] and column(2)[:3] == ["frozen", "all 1,168", "all 2,570"]
        layers.get_by_role("button", name="MACs").click()
        assert layers.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
        assert column(1)[:3] == ["conv2", "fc", "conv1"]
        layers.get_by_role("button", name="MACs").click()
        assert layers.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending" and column(1)[-1] == "conv2"
        layers.get_by_role("button", name="conv2").click()
        chosen = plan["choices"][next(node["choice"] for node in plan["entries"]["train"]["nodes"] if node["op"] == "conv2d_grad_w")]
        text = layers.locator("tr.more, td.more").filter(visible=True).inner_text()
        assert "conv2d_grad_w backward: 18,432 MACs" in text and chosen["kernel"] in text
        layers.get_by_text("why no other").filter(visible=True).first.click()
        assert "the board has no mve: " in layers.locator("td.more").filter(visible=True).inner_text()
        page.select_option("#call", "infer")
        assert "all 1,168" in page.inner_text("main") and "conv2d_grad_w" not in page.inner_text("main")


@needs_browser
def test_builds_side_by_side(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    with shown(chromium, written(tmp_path, *projects)) as page:
        rows = page.get_by_role("region", name="Builds side by side").locator("tr").all_inner_texts()
        cells = {row.split("\t")[0]: row.split("\t")[1:] for row in rows}
        two, both = (plan_of(project)["memory"]["arena_bytes"] for project in projects)
        assert cells["arena"] == [f"{two:,} B", f"{both:,} B +{(both / two - 1) * 100:.1f} %"]
        assert cells["trains"] == ["conv2, fc", "conv1, conv2, fc"]
        assert page.locator(".arena").count() == 2
        page.select_option("#build", "1")
        assert "all 80" in page.get_by_role("region", name="Layers").inner_text()


@needs_browser
def test_every_kind_of_project_is_shown(chromium: Any, tmp_path: Path) -> None:
    """On the host, for inference only, and with two schemes whose gradients are summed: each call of each can be looked at."""
    model = save_model(tmp_path, "mlp")
    summed = ("--scheme", "last:1", "--scheme", "full", "--accumulate", 2)
    kinds = {"host": (), "infer": ("--loss", "none", "--board", BOARD), "several": summed}
    for name, given in kinds.items():
        succeed("compile", model, *given, "--no-build", "-o", tmp_path / name)
    with shown(chromium, written(tmp_path, *(tmp_path / name for name in kinds))) as page:
        keys = page.locator("#call option").evaluate_all("all => all.map((option) => option.value)")
        assert sorted(keys) == ["apply", "apply_1", "infer", "train", "train_1"]
        for key in keys:
            page.select_option("#call", key)
            assert page.locator(".arena").count() == sum(key in plan_of(tmp_path / name)["entries"] for name in kinds)
        for index in range(len(kinds)):
            page.select_option("#build", str(index))
        assert "There is no such call in this build." in page.inner_text("main")
        assert page.get_by_text("This computer (host twin) has as much memory as it takes").count() == 2


def sweep(*points: tuple[int, float, float | None], ram: int = 65_536) -> str:
    """A report of schemes (RAM, gain, accuracy) on a board with so much RAM."""
    def point(ram_bytes: int, gain: float, accuracy: float | None) -> dict[str, Any]:
        return {"budget_bytes": ram_bytes + 100, "ram_bytes": ram_bytes, "flash_bytes": 9_000, "instructions": None, "milliseconds": None,
                "gain": gain, "accuracy": accuracy, "weights": 5, "biases": 1, "layers": ["fc"], "scheme": ""}

    memories = [{"name": "ram", "kind": "ram", "bytes": ram}, {"name": "flash", "kind": "flash", "bytes": 1 << 20}]
    board = {"name": "small", "title": "Small board", "core": "c", "clock_hz": 0, "host": False, "memories": memories}
    return json.dumps({"format": 1, "model": "m.onnx", "model_sha256": "0", "board": board, "points": [point(*p) for p in points]})


@needs_browser
def test_a_sweep_and_its_front(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(sweep((20_000, 1.0, 0.5), (30_000, 2.0, 0.4), (40_000, 3.0, 0.9)))
    succeed("page", projects[0], "--sweep", tmp_path / "sweep.json", "-o", tmp_path / "page.html")
    with shown(chromium, (tmp_path / "page.html").as_uri()) as page:
        assert (page.locator(".scheme").count(), page.locator(".scheme.best").count()) == (3, 2)
        plot = page.get_by_role("img", name="accuracy, % of 3 schemes over RAM")
        assert "small has 65,536 B" in plot.text_content() and "≤ 20 KB" in plot.text_content()
        assert page.locator("#cost option").all_inner_texts() == ["RAM", "flash"]
        page.select_option("#cost", "flash_bytes")
        assert page.locator(".scheme.best").count() == 1
        assert "90.0 %" in page.get_by_role("region", name="Schemes of the sweep").inner_text()
        assert faults(page) == []
    (tmp_path / "sweep.json").write_text(sweep((20_000, 1.0, None), ram=1 << 20))
    succeed("page", projects[0], "--sweep", tmp_path / "sweep.json", "-o", tmp_path / "page.html")
    with shown(chromium, (tmp_path / "page.html").as_uri()) as page:
        assert "RAM; small has 1,048,576 B" in page.get_by_role("img", name="sum of contributions of 1 schemes").text_content()


@pytest.mark.parametrize(("text", "said"), [
    ("{", "sweep.json: is damaged or of another kind"),
    ('{"format": 1, "points": NaN}', "sweep.json: is damaged or of another kind (NaN is no JSON)"),
    ('{"format": 2}', "sweep.json has format 2; this version of tinytrain reads 1."),
])
def test_a_report_that_is_none(projects: tuple[Path, Path], tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    refused = sentence("page", projects[0], "--sweep", tmp_path / "sweep.json", "-o", tmp_path / "page.html")
    assert said in refused and "tinytrain search --sweep" in refused


@needs_browser
def test_names_of_a_model_are_only_text(chromium: Any, tmp_path: Path) -> None:
    model = zoo.model("mlp")
    evil = "</script><img src=x onerror=alert(1)><!--"
    for node in model.graph.node:
        node.name = f"{evil}{node.name}"
    onnx.save(model, tmp_path / "evil.onnx")
    succeed("compile", tmp_path / "evil.onnx", "--no-build", "-o", tmp_path / "<b>out")
    with shown(chromium, written(tmp_path, tmp_path / "<b>out")) as page:
        assert evil in page.get_by_role("region", name="Layers").inner_text()
        assert page.locator("img, b").count() == 0


@needs_browser
def test_print_shows_what_matters(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    with shown(chromium, written(tmp_path, projects[0])) as page:
        page.emulate_media(media="print")
        assert not page.get_by_role("button", name="Zoom in").is_visible() and page.locator(".arena svg").is_visible()
        assert page.pdf().startswith(b"%PDF")


@needs_browser
def test_data_of_another_format(chromium: Any, projects: tuple[Path, Path], tmp_path: Path) -> None:
    address = written(tmp_path, projects[0])
    page_file = tmp_path / "page.html"
    page_file.write_text(page_file.read_text().replace('{"format":1,"builds"', '{"format":2,"builds"'))
    with shown(chromium, address) as page:
        said = "This page shows projects of format 1, and it was given one of format 2. Write it again: tinytrain page."
        assert page.get_by_role("alert").inner_text() == said


def test_a_project_of_another_version(projects: tuple[Path, Path], tmp_path: Path) -> None:
    old = tmp_path / "old"
    succeed("compile", save_model(tmp_path, "mlp"), "--no-build", "-o", old)
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "plan.json").write_text('{"format": 7}')
    assert "plan.json has format 7; this version of tinytrain reads 1." in sentence("page", old, "--trust", "-o", tmp_path / "p.html")
    (old / "plan.json").write_text("[")
    assert "plan.json: is damaged or of another kind" in sentence("page", old, "--trust", "-o", tmp_path / "p.html")
    del manifest["files"]["plan.json"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    said = sentence("page", old, "--trust", "-o", tmp_path / "p.html")
    assert "was compiled by a version of tinytrain that wrote no plan.json." in said and "Make the project again" in said
    assert "was not compiled by you" in sentence("page", old, "-o", tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()
