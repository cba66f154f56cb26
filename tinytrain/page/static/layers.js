// SPDX-License-Identifier: Apache-2.0
// What each layer takes, and which kernels its calls have and why.

import { html } from "./dom.js";
import { bytes, count, digits, milliseconds, plural } from "./format.js";
import { time } from "./kinds.js";
import { sortable } from "./table.js";

/** The table of an entry's layers, in the order in which they run first. */
export function layers(build, entry) {
    const rows = gathered(build, entry);
    const sum = (key) => rows.reduce((total, row) => total + (row[key] ?? 0), 0);
    const counted = rows.some((row) => row.instructions !== null);
    const ms = time(build, counted ? sum("cycles") : null);
    const whole = sum("cycles") || sum("macs");
    const number = (title, key, help, shown = (value) => (value ? count(value) : "–")) => (
        { title, help, number: true, sort: (row) => row[key], text: (row) => shown(row[key]) }
    );
    const columns = [
        { title: "layer", text: (row) => row.name, sort: (row) => row.position },
        { title: "trained", text: trained, sort: (row) => row.trained, help: "elements of weights that are trained, and that are not" },
        number("kept B", "ram_bytes", "bytes of RAM for good: trained weights and the state of the optimiser"),
        number("in use B", "used_bytes", "most bytes of the arena that are in use while a call of the layer runs"),
        number("flash B", "flash_bytes", "constants and first weights; code is counted once for all layers"),
        number("MACs", "macs", "multiply-accumulates, forward and backward"),
        ...(counted ? [
            number("instructions", "instructions", "estimate from counts under emulation"),
            number("ms", "ms", "estimated cycles at the clock that the firmware sets", (value) => (value ? digits(value) : "–")),
        ] : []),
        number("share", "share", "of the step", (value) => `${(100 * value).toFixed(1)} %`),
    ];
    for (const row of rows) {
        row.ms = time(build, row.cycles);
        row.share = whole ? (row.cycles ?? row.macs) / whole : 0;
    }
    const total = [
        plural(rows.length, "layer"), `${count(sum("trained"))} of ${count(sum("trained") + sum("frozen"))}`, count(sum("ram_bytes")),
        count(Math.max(...rows.map((row) => row.used_bytes))), count(sum("flash_bytes")), count(sum("macs")),
        ...(counted ? [count(sum("instructions")), ms === null ? "–" : digits(ms)] : []), "100 %",
    ];
    return html("div", {},
        sortable("Layers", columns, rows, { more: (row) => calls(build, row), total }),
        html("p", { class: "soft" }, basis(build, counted, ms)));
}

function basis(build, counted, ms) {
    if (!counted) return `No kernel was counted on ${build.board.core}: there are no instructions and no times here.`;
    const { counted_on: core, uncounted } = build.plan.estimate;
    const on = core === build.board.core ? "" : `, from kernels that were counted on ${core}`;
    const guessed = uncounted.length ? ` Never counted, and taken for others of their kind: ${uncounted.join(", ")}.` : "";
    const at = ms === null ? "" : `, of ${milliseconds(ms)} in all at ${count(build.board.clock_hz / 1e6)} MHz`;
    return `Instructions and times are estimates${at}: cycles of the timing table of ${build.board.core}, without wait states and caches${on}.${guessed}`;
}

function gathered(build, entry) {
    const rows = new Map();
    const kept = new Map(build.plan.layers.map((layer) => [layer.name, layer]));
    for (const node of entry.nodes) {
        if (!rows.has(node.layer)) {
            rows.set(node.layer, {
                trained: 0, frozen: 0, ram_bytes: 0, flash_bytes: 0, ...kept.get(node.layer),
                name: node.layer || "(no layer)", position: rows.size, calls: [], macs: 0, instructions: null, cycles: null, used_bytes: 0,
            });
        }
        const row = rows.get(node.layer);
        row.macs += node.macs;
        if (node.instructions !== null) row.instructions = (row.instructions ?? 0) + node.instructions;
        if (node.cycles !== null) row.cycles = (row.cycles ?? 0) + node.cycles;
        row.used_bytes = Math.max(row.used_bytes, node.used_bytes);
        if (node.choice !== null) row.calls.push(node);
    }
    return [...rows.values()].filter((row) => row.calls.length);       // others only show bytes in another shape
}

function trained(row) {
    if (!row.trained && !row.frozen) return "–";
    if (!row.trained) return "frozen";
    return row.frozen ? `${count(row.trained)} of ${count(row.trained + row.frozen)}` : `all ${count(row.trained)}`;
}

function calls(build, row) {
    return html("ul", { class: "calls" }, row.calls.map((node) => {
        const choice = build.plan.choices[node.choice];
        const took = node.instructions === null ? "" : `, ${count(node.instructions)} instructions${choice.counted ? " as counted" : ""}`;
        const others = Object.entries(choice.refused);
        return html("li", {},
            html("strong", {}, node.op), ` ${node.phase}: ${count(node.macs)} MACs${took}, ${bytes(node.used_bytes)} in use. Kernel `,
            html("code", {}, choice.kernel), choice.counted ? ", the quickest that was counted." : ", the last of the op's list that suits.",
            others.length ? html("details", {}, html("summary", {}, "why no other"),
                html("ul", {}, others.map(([why, kernels]) => html("li", {}, `${why}: `, html("code", {}, kernels.join(", ")))))) : null);
    }));
}
