// SPDX-License-Identifier: Apache-2.0
// The Memory panel: where the bytes are, what each layer takes, builds side by side, and what a sweep has found.

import { arena } from "./arena.js";
import { bars } from "./bars.js";
import { compare } from "./compare.js";
import { html } from "./dom.js";
import { mainEntry } from "./kinds.js";
import { layers } from "./layers.js";
import { pareto } from "./pareto.js";

export const name = "memory";
export const title = "Memory";

const HINT = "Drag to move, pinch to zoom. When the picture is clicked, the wheel or + and − zoom, and arrow keys go from buffer to buffer.";

export function offered() {
    return true;
}

export function mount(element, { builds, sweep }) {
    const several = builds.length > 1;
    const beside = (of) => html("div", { class: several ? "side" : null }, builds.map((build) => (
        html("div", {}, several ? html("h3", {}, build.folder) : null, of(build))
    )));
    const keys = [...new Set(builds.flatMap((build) => Object.keys(build.plan.entries)))];
    const pictures = html("div");
    const table = html("div");
    const entry = chooser("call", keys, called, draw);
    const build = chooser("build", builds.map((one, index) => index), (index) => builds[index].folder, draw);
    entry.value = builds.map(mainEntry)[0];

    function draw() {
        const has = (one) => one.plan.entries[entry.value];
        const top = Math.max(...builds.map((one) => one.plan.memory.arena_bytes));
        const missing = () => html("p", { class: "soft" }, "There is no such call in this build.");
        pictures.replaceChildren(beside((one) => (has(one) ? arena(one, entry.value, top) : missing())));
        const shown = builds[Number(build.value)];
        table.replaceChildren(has(shown) ? layers(shown, has(shown)) : missing());
    }
    draw();
    element.append(
        several ? html("h2", {}, "Side by side") : "", compare(builds),
        html("p", { class: "controls" }, html("label", { for: "call" }, "show a"), entry),
        html("h2", {}, "The arena over the call"), html("p", { class: "soft controls" }, HINT), pictures,
        html("h2", {}, "Memory by kind"), beside(bars),
        html("h2", {}, "Layer by layer"), several ? html("p", { class: "controls" }, html("label", { for: "build" }, "of"), build) : "", table,
        ...(sweep ? [html("h2", {}, "Schemes of a sweep"), pareto(sweep)] : []),
    );
}

function chooser(id, values, text, changed) {
    return html("select", { id, onchange: changed }, values.map((value) => html("option", { value }, text(value))));
}

function called(key) {
    const [kind, number] = key.split("_");
    const what = { train: "training step", infer: "inference", apply: "update after the last sample of a batch" }[kind] ?? kind;
    return number ? `${what}, scheme ${number}` : what;
}
