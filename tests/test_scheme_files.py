# SPDX-License-Identifier: Apache-2.0
"""Scheme files: written for any name and read back the same; what no model needs is refused at once, in one sentence."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cli_runs import save_model, sentence, tree
from hypothesis import given
from hypothesis import strategies as st

from tinytrain.errors import DataError, SchemeError
from tinytrain.schemes import toml as toml_module
from tinytrain.schemes.scheme import Scheme, Select, load
from tinytrain.search.contribution import Candidate, Contribution, Contributions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ODD = ["", '"', "\\", 'a"]\nb', "\x7f", "\x00", "\u2028", "é", "𝄞", "\ufeff", "a.b", "x\r\ny", "\\u0041", "'''"]
TEXTS = st.text(max_size=12) | st.sampled_from(ODD)
CHANNELS = st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True).map(lambda found: tuple(sorted(found)))
SELECTS = st.just(Select()) | st.builds(
    Select, fraction=st.floats(1e-6, 1.0, exclude_max=True), side=st.sampled_from(["in", "out"])
) | st.builds(Select, channels=CHANNELS, side=st.sampled_from(["in", "out"])) | st.builds(
    Select, fraction=st.floats(1e-6, 1.0, exclude_max=True), smallest=st.just(True)
)
RATES = st.just(0.0) | st.floats(1e-6, 1e6)
SCHEMES = st.dictionaries(TEXTS, st.tuples(st.dictionaries(st.sampled_from(["weight", "bias"]), SELECTS), st.none() | RATES), max_size=4)


@given(tables=SCHEMES, preset=TEXTS)
def test_any_names_are_written_and_read_back(tables: dict[str, Any], preset: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    rates = {name: rate for name, (_, rate) in tables.items() if rate is not None}
    scheme = Scheme({name: kinds for name, (kinds, _) in tables.items()}, preset, rates)
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(scheme.to_toml().encode("utf-8"))
    assert load(path) == scheme
    data = tomllib.loads(scheme.to_toml())
    assert data.get("preset", "") == preset
    assert list(data.get("layers", {})) == list(tables)
    assert all(line.isprintable() for line in scheme.to_toml().split("\n"))


def test_plain_names_look_as_they_are() -> None:
    scheme = Scheme({"block1.conv/größe": {"weight": Select(0.25), "bias": Select()}}, "last:1", {"block1.conv/größe": 0.5})
    assert scheme.to_toml().splitlines()[1:] == [
        'preset = "last:1"', "", '[layers."block1.conv/größe"]', "weight = 0.25", "bias = true", "rate = 0.5",
    ]


def refusal(folder: Path, text: str | bytes) -> str:
    path = folder / "s.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    began = time.monotonic()
    with pytest.raises(SchemeError) as caught:
        load(path)
    assert time.monotonic() - began < 20
    lines = str(caught.value).splitlines()
    assert len(lines) == 2, "one sentence and what to try"
    assert lines[0].startswith(f"{path}: ") and lines[0].endswith(".") and lines[0].isprintable() and len(lines[0]) < 1000
    return lines[0].removeprefix(f"{path}: ")


def line(text: str) -> str:
    return f'[layers."fc"]\n{text}\n'


RATE = "layer 'fc' has the rate {}; expected a number: 0, or 1e-06 to 1,000,000."
SELECT = "layer 'fc' updates {} of its weight; expected"
TWICE = "layer 'fc' updates {} of its weight; channel {} is there twice."
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "rate beyond fp32": (line("rate = 1e39"), RATE.format("1e+39")),
    "rate of nothing in fp32": (line("rate = 1e-50"), RATE.format("1e-50")),
    "rate nan": (line("rate = nan"), RATE.format("NaN")),
    "rate inf": (line("rate = inf"), RATE.format("Infinity")),
    "rate below": (line("rate = -0.5"), RATE.format("-0.5")),
    "rate of many digits": (line(f"rate = {10**400}"), RATE.format("1" + "0" * 199 + " …")),
    "rate of more digits than Python reads": (line("rate = " + "9" * 5000), "is damaged or of another kind (Exceeds the limit (4300"),
    "rate of more than Python shows": (line("rate = 0x" + "f" * 5000), "is damaged or of another kind (Exceeds the limit (4300"),
    "rate true": (line("rate = true"), RATE.format("true")),
    "rate text": (line('rate = "1"'), RATE.format('"1"')),
    "rate date": (line("rate = 2024-01-01"), RATE.format('"2024-01-01"')),
    "date": (line("weight = 2024-01-01"), SELECT.format('"2024-01-01"')),
    "time": (line("weight = [07:32:00]"), SELECT.format('["07:32:00"]')),
    "range of millions": (line('weight = "0:60000000"'), SELECT.format('"0:60000000"') + " at most 1,000,000 channels in a file."),
    "range of more": (line('weight = "0:' + "9" * 5000 + '"'), SELECT.format('"0:' + "9" * 197 + " …")),
    "range of other digits": (line('weight = "０:12"'), SELECT.format('"\\uff10:12"')),
    "range backwards": (line('weight = "5:5"'), SELECT.format('"5:5"')),
    "range of out": (line('weight = { out = "0:60000000" }'), "layer 'fc' updates {\"out\": \"0:60000000\"} of its weight; expected"),
    "ranges together": (line("".join(f'k{i} = "0:900000"\n' for i in range(1000))), "names 1,800,000 channels up to layer 'fc'; expected"),
    "twice": (line("weight = [3, 2, 3]"), TWICE.format("[3, 2, 3]", 3)),
    "0 twice": (line("weight = [0, 1, 0]"), TWICE.format("[0, 1, 0]", 0)),
    "many twice": (line(f"weight = {[*range(60_000), 7]}"), "layer 'fc' updates [0, 1, 2, 3,"),
    "bool in a list": (line("weight = [true, false]"), SELECT.format("[true, false]")),
    "list of floats": (line("weight = [1.0]"), SELECT.format("[1.0]")),
    "empty list": (line("weight = []"), SELECT.format("[]")),
    "fraction nan": (line("weight = nan"), SELECT.format("NaN") + " a fraction above 0 and not above 1."),
    "fraction huge": (line(f"weight = {10**400}"), "layer 'fc' updates 1000"),
    "two sides": (line("weight = { in = 1, out = 1 }"), SELECT.format('{"in": 1, "out": 1}')),
    "name without quotes": ("[layers.block.conv]\nweight = true\n", "layer 'block' updates {\"weight\": true} of its conv;"),
    "deep lists": (line("weight = " + "[" * 20_000), "is nested too deeply; expected a scheme file."),
    "deep tables": (line("weight = " + "{a=" * 20_000), "is nested too deeply; expected a scheme file."),
    "preset date": ("preset = 2024-01-01\n", 'preset is "2024-01-01"; expected a text: it only says where the scheme came from.'),
    "other keys": ('"a\\u0007b" = 1\n', 'has a b; expected tables like [layers."fc1"].'),
    "odd layer": ('[layers]\n"a\\nb" = 1\n', "layer 'a b' must hold lines like `weight = true`."),
    "no utf-8": (b"\xff\xfe", "is damaged or of another kind ('utf-8' codec can't decode byte 0xff"),
    "too large": (b"#" * 1_000_001, "has 1,000,001 bytes; expected a scheme file of at most 1,000,000 bytes."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_model_needs_is_refused_at_once(case: str, tmp_path: Path) -> None:
    content, expected = REFUSED[case]
    assert refusal(tmp_path, content).startswith(expected)


def test_a_range_of_millions_takes_no_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        refusal(tmp_path, line('weight = "0:60000000"'))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_million_dotted_names_end_soon(tmp_path: Path) -> None:
    refusal(tmp_path, "[" + "a." * 450_000 + "a]\n")
    refusal(tmp_path, "a." * 450_000 + "a = 1\n")
    refusal(tmp_path, "".join(f"[a.b{i}]\n" for i in range(40_000)))


@pytest.mark.parametrize(("text", "selected"), [
    ("weight = 1", Select()), ("weight = 0.5", Select(0.5)), ('weight = "0:3"', Select(channels=(0, 1, 2))),
    ("weight = [7, 3]", Select(channels=(3, 7))), ("weight = { in = 0.5 }", Select(0.5)), ("weight = false", None),
    ("weight = { out = [0] }", Select(channels=(0,), side="out")),
])
def test_what_lines_say(text: str, selected: Select | None, tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "s.toml").write_bytes(mark + line(text).replace("\n", "\r\n").encode())
        assert load(tmp_path / "s.toml").layers == {"fc": {"weight": selected} if selected else {}}


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").symlink_to("/dev/zero")
    with pytest.raises(SchemeError, match=r"s\.toml: is no file; expected a scheme file\."):
        load(tmp_path / "s.toml")


def test_the_command_line_refuses_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml_module, "MOST_BYTES", 1_000)
    model, path = save_model(tmp_path), tmp_path / "s.toml"
    for text in ("rate = 1e39\nweight = true", "weight = 2024-01-01", 'weight = "0:60000000"', "weight = " + "[" * 990, "#" * 2_000):
        path.write_text(f"[layers.fc2]\n{text}\n")
        before = tree(tmp_path)
        assert f"{path}: " in sentence("compile", model, "--scheme", path, "--no-build", "-o", tmp_path / "out")
        assert tree(tmp_path) == before


# --- analyses -----------------------------------------------------------------------------------------------------

FOUND = Contributions(
    "m.onnx", "00" * 32, "trained", 0.5, {"epochs": 1},
    (Contribution(Candidate("fc", "weight", 0.5), 0.02, 0.1, (0.01, 0.03)), Contribution(Candidate("fc", "bias-last", depth=2), 0.01)),
    {"fc": {"weight": [0.25, 0.75]}}, {"x": "why"},
)


def change(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value
    return apply


DAMAGED = {
    "format": change("format", value=2), "found": change("found", value=5), "a found": change("found", 0, value=None),
    "more": change("found", 0, "more", value=1), "gain": change("found", 0, "gain", value=float("nan")),
    "gain text": change("found", 0, "gain", value="1"), "gains": change("found", 0, "gains", value=[1e400]),
    "ratio": change("found", 0, "candidate", "ratio", value=1.5), "ratio bool": change("found", 0, "candidate", "ratio", value=True),
    "depth": change("found", 0, "candidate", "depth", value=-1), "depth of a weight": change("found", 0, "candidate", "depth", value=1),
    "no depth": change("found", 1, "candidate", "depth", value=0), "depth float": change("found", 1, "candidate", "depth", value=1.5),
    "layer": change("found", 0, "candidate", "layer", value=["fc"]), "kind": change("found", 0, "candidate", "kind", value=None),
    "before": change("before", value="a"), "sum": change("model_sha256", value=5), "channels": change("channels", value=[]),
    "shares": change("channels", "fc", "weight", value=[None]), "refused": change("refused", value=None), "other": change("other", value=1),
    "huge": change("found", 0, "gain", value=10**400), "settings": change("settings", value=0),
}


def test_analyses_are_read_as_written(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "c.json")
    assert Contributions.load(tmp_path / "c.json") == FOUND


@pytest.mark.parametrize("case", DAMAGED)
def test_analyses_that_are_damaged(case: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    data = {"format": 1, **json.loads(json.dumps(asdict(FOUND)))}
    DAMAGED[case](data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"expected a contribution analysis\.\nMake one: `tinytrain contribution") as caught:
        Contributions.load(path)
    assert str(caught.value).startswith(f"{path}: is ")


@pytest.mark.parametrize("text", ["", "5", "[" * 100_000, '{"format": 1}', '{"format": 1, "found": []}', "\x00"])
def test_files_that_are_no_analysis(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match=r"c\.json: .*expected a contribution analysis\."):
        Contributions.load(tmp_path / "c.json")
