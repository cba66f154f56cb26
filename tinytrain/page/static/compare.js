// SPDX-License-Identifier: Apache-2.0
// Several builds side by side: a row for each quantity, with what it is more or less than in the first build. Or one build in short.

import { html } from "./dom.js";
import { bytes, count, milliseconds } from "./format.js";
import { flashBytes, macs, mainEntry, ramBytes } from "./kinds.js";

const ROWS = [
    { title: "board", text: (build) => build.board.title },
    { title: "trains", text: scheme },
    { title: "numbers", text: numbers },
    quantity("weights trained", (build) => build.plan.layers.reduce((sum, layer) => sum + layer.trained, 0), count),
    quantity("arena", (build) => build.plan.memory.arena_bytes, bytes),
    quantity("lower bound", (build) => build.plan.memory.lower_bound_bytes, bytes),
    quantity("RAM in all", ramBytes, bytes),
    quantity("flash", flashBytes, bytes),
    quantity("MACs forward", (build) => macs(build.plan.entries[mainEntry(build)], "forward"), count),
    quantity("MACs backward", (build) => macs(build.plan.entries[mainEntry(build)], "backward"), count),
    quantity("instructions a step", (build) => build.plan.estimate?.instructions ?? null, count),
    quantity("time a step", (build) => build.plan.estimate?.milliseconds ?? null, milliseconds),
];

function quantity(title, of, shown) {
    return { title, of, shown };
}

/** A table of several builds; of one alone its facts, side by side. */
export function compare(builds) {
    const [first] = builds;
    const value = (row, build) => (row.text ? row.text(build) : cell(row, build, first));
    if (builds.length === 1) {
        return html("dl", { class: "facts" }, ROWS.map((row) => html("div", {}, html("dt", {}, row.title), html("dd", {}, value(row, first)))));
    }
    return html("div", { class: "scroll", role: "region", "aria-label": "Builds side by side", tabindex: "0" }, html("table", {},
        html("thead", {}, html("tr", {}, html("td"), builds.map((build) => html("th", { scope: "col", class: "number" }, build.folder)))),
        html("tbody", {}, ROWS.map((row) => html("tr", {}, html("th", { scope: "row" }, row.title), builds.map((build) => (
            html("td", { class: row.text ? "text" : "number" }, value(row, build))
        )))))));
}

function cell(row, build, first) {
    const [value, before] = [row.of(build), row.of(first)];
    if (value === null) return "not counted";
    if (build === first || !before || value === before) return row.shown(value);
    const percent = (value / before - 1) * 100;
    return [row.shown(value), html("span", { class: "soft" }, ` ${percent > 0 ? "+" : "−"}${Math.abs(percent).toFixed(Math.abs(percent) < 10 ? 1 : 0)} %`)];
}

function scheme(build) {
    const layers = build.plan.layers.filter((layer) => layer.trained).map((layer) => layer.name);
    if (!layers.length) return "nothing";
    return layers.length > 3 ? `${layers.length} layers from ${layers[0]} on` : layers.join(", ");
}

function numbers(build) {
    const integer = build.plan.entries.infer.buffers.some((buffer) => buffer.type.startsWith("s8["));
    return integer ? `int8, gradients ${build.manifest.gradients}` : build.manifest.dtype;
}
