// SPDX-License-Identifier: Apache-2.0
// Memory by kind, against what the board has: a bar for each of its memories.

import { html } from "./dom.js";
import { bytes, count } from "./format.js";
import { KINDS, colour, memories } from "./kinds.js";

export function bars(build) {
    const found = memories(build);
    if (!found.length) return html("p", { class: "soft" }, `${build.board.title} has as much memory as it takes: nothing to compare with.`);
    return html("div", { class: "bars" }, found.map((memory) => bar(memory)));
}

function bar(memory) {
    const used = memory.parts.reduce((sum, part) => sum + part.bytes, 0);
    const whole = Math.max(used, memory.bytes);
    const left = memory.bytes - used;
    const fits = left >= 0 ? `${bytes(left)} left` : `${bytes(-left)} too much`;
    const shown = memory.parts.filter((part) => part.bytes > 0);
    return html("figure", {},
        html("figcaption", {}, html("strong", {}, memory.name), ` ${count(used)} of ${bytes(memory.bytes)}, `,
            html("span", { class: left >= 0 ? "good" : "bad" }, fits), memory.note ? html("span", { class: "soft" }, ` (${memory.note})`) : null),
        html("div", { class: "bar", "aria-hidden": "true" }, shown.map((part) => {
            const piece = html("span", { title: `${KINDS[part.kind]}: ${bytes(part.bytes)}` });
            piece.style.width = `${(part.bytes / whole) * 100}%`;
            piece.style.background = colour(part.kind);
            return piece;
        })),
        html("ul", { class: "legend" }, shown.map((part) => html("li", {}, swatch(part.kind), `${KINDS[part.kind]} ${bytes(part.bytes)}`))));
}

/** A square of a kind's colour. */
export function swatch(kind) {
    const square = html("span", { class: "swatch", "aria-hidden": "true" });
    square.style.background = colour(kind);
    return square;
}
