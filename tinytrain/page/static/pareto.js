// SPDX-License-Identifier: Apache-2.0
// What a sweep has found: schemes by what they cost and gain, those that no other is better than joined, with what the board has.

import { ticks } from "./arena.js";
import { html, svg } from "./dom.js";
import { bytes, count, digits } from "./format.js";
import { sortable } from "./table.js";

const COSTS = { ram_bytes: ["RAM", bytes], flash_bytes: ["flash", bytes], instructions: ["instructions a step", count], milliseconds: ["ms a step", digits] };
const SIZE = { height: 340, left: 66, right: 16, top: 20, bottom: 40 };
const FAR = 3;                                            // times the dearest scheme: a limit beyond is told, and not drawn

export function pareto(sweep) {
    const measured = sweep.points.every((point) => point.accuracy !== null);
    const gain = measured ? (point) => point.accuracy * 100 : (point) => point.gain;
    const gained = measured ? "accuracy, %" : sweep.points[0]?.gained ?? "sum of contributions";
    const known = Object.keys(COSTS).filter((key) => sweep.points.every((point) => point[key] !== null));
    const picture = html("div", { class: "arena plot" });
    const cost = html("select", { id: "cost", onchange: draw }, known.map((key) => html("option", { value: key }, COSTS[key][0])));

    let width = 760;

    function draw() {
        picture.replaceChildren(plot(sweep, cost.value, gain, gained, width));
    }
    if (!sweep.points.length) return html("p", {}, "Every budget of the sweep was too small.");
    draw();
    new ResizeObserver(() => {
        if (!picture.clientWidth || picture.clientWidth === width) return;
        width = picture.clientWidth;
        draw();
    }).observe(picture);
    return html("div", {},
        html("p", { class: "controls" }, html("label", { for: "cost" }, `${sweep.model} on ${sweep.board.title}: ${gained} over`), cost),
        picture, sortable("Schemes of the sweep", columns(known, measured), sweep.points));
}

function plot(sweep, key, gain, gained, width) {
    const { height, left, right, top, bottom } = SIZE;
    const [title, shown] = COSTS[key];
    const costs = sweep.points.map((point) => point[key]);
    const gains = sweep.points.map(gain);
    const limit = limitOf(sweep.board, key);
    const near = limit !== null && limit <= FAR * Math.max(...costs);
    const high = Math.max(...costs, near ? limit : 0) * 1.06;
    const [least, most] = spread(Math.min(...gains), Math.max(...gains));
    const x = (value) => left + (value / high) * (width - left - right);
    const y = (value) => height - bottom - ((value - least) / (most - least)) * (height - top - bottom);
    const best = front(sweep.points, (point) => point[key], gain);
    const label = `${gained} of ${sweep.points.length} schemes over ${title}; the table below has the same figures`;
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" },
        ticks(0, high, width / 120).map((value) => [
            svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: height - bottom }),
            svg("text", { class: "axis", x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, count(value)),
        ]).flat(),
        ticks(least, most, 5).map((value) => [
            svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
            svg("text", { class: "axis", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(6)).toString()),
        ]).flat(),
        svg("text", { class: "axis", x: (left + width) / 2, y: height - 6, "text-anchor": "middle" },
            limit !== null && !near ? `${title}; ${sweep.board.name} has ${shown(limit)}` : title),
        svg("text", { class: "axis", x: 4, y: top - 6 }, gained),
        near ? [
            svg("line", { class: "mark whole", x1: x(limit), x2: x(limit), y1: top, y2: height - bottom }),
            svg("text", { class: "mark", x: x(limit) - 5, y: top + 12, "text-anchor": "end" }, `${sweep.board.name} has ${shown(limit)}`),
        ] : [],
        svg("polyline", { class: "in-use", points: stairs(best.map((point) => [x(point[key]), y(gain(point))])) }),
        sweep.points.map((point) => svg("circle", {
            class: best.includes(point) ? "scheme best" : "scheme", cx: x(point[key]), cy: y(gain(point)), r: 5,
        }, svg("title", {}, `${named(point)}: ${shown(point[key])}, ${gained} ${digits(gain(point))}`))),
        best.map((point) => svg("text", { class: "mark", x: x(point[key]) + 8, y: y(gain(point)) + 16 }, named(point))));
}

/** Those that no other is better than in both, the cheapest first. */
function front(points, cost, gain) {
    const found = [];
    for (const point of [...points].sort((a, b) => cost(a) - cost(b) || gain(b) - gain(a))) {
        if (!found.length || gain(point) > gain(found[found.length - 1])) found.push(point);
    }
    return found;
}

/** What is reached at a cost holds until the next. */
function stairs(places) {
    return places.flatMap(([x, y], index) => (index ? [[x, places[index - 1][1]], [x, y]] : [[x, y]])).map((place) => place.join(",")).join(" ");
}

function limitOf(board, key) {
    const kind = { ram_bytes: "ram", flash_bytes: "flash" }[key];
    const sizes = board.memories.filter((memory) => memory.kind === kind).map((memory) => memory.bytes);
    return sizes.length ? Math.max(...sizes) : null;
}

function spread(least, most) {
    const margin = (most - least || Math.abs(most) || 1) * 0.1;
    return [least - margin, most + margin];
}

function named(point) {
    return `≤ ${count(point.budget_bytes / 1024)} KB`;
}

function columns(known, measured) {
    const number = (title, of, shown) => ({ title, number: true, sort: of, text: (row) => shown(of(row)) });
    return [
        { title: "budget", text: named, sort: (row) => row.budget_bytes },
        ...known.map((key) => number(COSTS[key][0], (row) => row[key], COSTS[key][1])),
        number("contributions", (row) => row.gain, (value) => value.toFixed(4)),
        ...(measured ? [number("accuracy", (row) => row.accuracy, (value) => `${(value * 100).toFixed(1)} %`)] : []),
        number("trained", (row) => row.weights + row.biases, count),
        { title: "layers", text: (row) => row.layers.join(", ") },
    ];
}
