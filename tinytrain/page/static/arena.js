// SPDX-License-Identifier: Apache-2.0
// The arena over a call of the model: a box for each buffer, as wide as it is in use and as high as its bytes.

import { html, svg } from "./dom.js";
import { bytes, count } from "./format.js";
import { swatch } from "./bars.js";
import { KINDS, colour } from "./kinds.js";
import { handled, view } from "./view.js";

const LEFT = 74;
const TOP = 24;
const BOTTOM = 26;
const RIGHT = 8;
const LEAST = 0.5;                                        // pixels of a box
const LETTER = 6.6;                                       // pixels of one, about

/** A picture of an entry of a build; `top` is where its bytes end, so that pictures side by side have one scale. */
export function arena(build, key, top) {
    const entry = build.plan.entries[key];
    const nodes = entry.nodes;
    const last = Math.max(1, nodes.length);
    const boxes = [
        ...build.plan.fixed.map((buffer) => ({ ...buffer, start: 0, end: last })),
        ...entry.buffers,
    ].sort((a, b) => a.start - b.start || a.offset - b.offset);
    const lanes = { calls: positions(nodes.map((node) => (isCall(node) ? 1 : 0))), time: positions(nodes.map((node) => node.cycles ?? 0)) };
    const timed = lanes.time[last] > 0;
    let lane = lanes.calls;
    let chosen = null;
    let width = 800;
    const height = 400;
    const whole = () => ({ x0: 0, x1: lane[last], y0: 0, y1: top * 1.06 });
    const picture = svg("svg", {
        tabindex: "0", role: "application", "aria-roledescription": "picture of the arena", "aria-label": summary(build, key),
        onkeydown: pressed, onpointerover: hovered, onpointerleave: left,
    });
    const tip = html("div", { class: "tip", role: "status", hidden: true });
    const frame = html("div", { class: "arena" }, picture, tip);
    const seen = view(whole(), draw);

    const x = (value) => LEFT + ((value - seen.now.x0) / (seen.now.x1 - seen.now.x0)) * (width - LEFT - RIGHT);
    const y = (value) => height - BOTTOM - ((value - seen.now.y0) / (seen.now.y1 - seen.now.y0)) * (height - TOP - BOTTOM);
    const clamped = (value, least, most) => Math.min(most, Math.max(least, value));
    const across = (value) => clamped(x(value), LEFT, width - RIGHT);
    const up = (value) => clamped(y(value), TOP, height - BOTTOM);

    function draw() {
        picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
        picture.replaceChildren(...phases(), ...boxes.map(box).filter(Boolean), inUse(), ...marks(), ...axis());
        if (chosen !== null) show(chosen);
    }

    function phases() {
        return runs(nodes).flatMap(({ phase, start, end }) => {
            const [from, to] = [across(lane[start]), across(lane[end])];
            if (to <= from) return [];
            const label = to - from > phase.length * LETTER + 6 ? [svg("text", { x: (from + to) / 2, y: TOP - 8, "text-anchor": "middle" }, phase)] : [];
            return [svg("rect", { class: `phase ${phase}`, x: from, y: TOP, width: to - from, height: height - TOP - BOTTOM }), ...label];
        });
    }

    function box(buffer, index) {
        const [from, to] = [across(lane[buffer.start]), across(lane[buffer.end])];
        const [low, high] = [up(buffer.offset), up(buffer.offset + buffer.bytes)];
        if (to === from || low === high) return null;     // not in what is seen
        const rect = svg("rect", {
            class: index === chosen ? "box chosen" : "box", x: from, y: high, "data-index": index,
            width: Math.max(LEAST, to - from), height: Math.max(LEAST, low - high),
        });
        rect.style.fill = colour(buffer.kind);
        const letters = Math.floor((to - from - 6) / LETTER);
        if (low - high < 13 || letters < 3) return rect;
        const text = buffer.name.length > letters ? `${buffer.name.slice(0, letters - 1)}…` : buffer.name;
        return svg("g", {}, rect, svg("text", { class: "inside", x: from + 4, y: (low + high) / 2 + 4 }, text));
    }

    function inUse() {
        const points = nodes.flatMap((node, i) => [[lane[i], node.used_bytes], [lane[i + 1], node.used_bytes]]);
        return svg("polyline", { class: "in-use", points: points.map(([at, used]) => `${across(at)},${up(used)}`).join(" ") });
    }

    function marks() {
        const found = [];
        const line = (value, name, label, below) => {
            if (value < seen.now.y0 || value > seen.now.y1) return;
            found.push(svg("line", { class: `mark ${name}`, x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
            found.push(svg("text", { class: "mark", x: width - RIGHT - 4, y: y(value) + (below ? 14 : -5), "text-anchor": "end" }, label));
        };
        const { arena_bytes: arena, lower_bound_bytes: bound } = entry;
        line(arena, "whole", arena === bound ? `arena = lower bound, ${bytes(arena)}` : `arena ${bytes(arena)}`, false);
        if (arena !== bound) line(bound, "bound", `lower bound ${bytes(bound)}`, true);
        const at = entry.peak.node;
        const [from, to] = [x(lane[at]), x(lane[Math.min(last, at + 1)])];
        if (nodes.length && to >= LEFT && from <= width - RIGHT) {
            const middle = clamped((from + to) / 2, LEFT, width - RIGHT);
            found.push(svg("line", { class: "mark peak", x1: middle, x2: middle, y1: TOP, y2: height - BOTTOM }));
            found.push(svg("path", { class: "peak", d: `M${middle - 5},${TOP - 6} h10 l-5,7 z` }));
        }
        return found;
    }

    function axis() {
        const found = ticks(seen.now.y0, seen.now.y1, 6).map((value) => (
            svg("text", { class: "axis", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, count(value))
        ));
        found.push(svg("text", { class: "axis", x: 4, y: TOP - 8 }, "bytes"));
        const words = lane === lanes.time ? "estimated cycles" : "calls";
        const label = `${words} ${count(Math.floor(seen.now.x0) + 1)} to ${count(Math.ceil(seen.now.x1))} of ${count(lane[last])}`;
        found.push(svg("text", { class: "axis", x: (LEFT + width) / 2, y: height - 8, "text-anchor": "middle" }, label));
        return found;
    }

    function show(index) {
        picture.querySelector(".chosen")?.classList.remove("chosen");
        chosen = index;
        tip.hidden = index === null;
        if (index === null) return;
        picture.querySelector(`[data-index="${index}"]`)?.classList.add("chosen");
        const buffer = boxes[index];
        tip.replaceChildren(...described(build, entry, buffer).map((text, i) => html(i ? "span" : "strong", {}, text)));
        const scale = frame.clientWidth / width;
        const middle = across((lane[buffer.start] + lane[buffer.end]) / 2) * scale;
        tip.style.left = `${clamped(middle - tip.offsetWidth / 2, 0, Math.max(0, frame.clientWidth - tip.offsetWidth))}px`;
        const above = up(buffer.offset + buffer.bytes) * scale - tip.offsetHeight - 8;
        tip.style.top = `${above >= 0 ? above : Math.min(up(buffer.offset) * scale + 8, frame.clientHeight)}px`;
    }

    function hovered(event) {
        const index = event.target.closest?.("[data-index]") ?? event.target.parentNode?.querySelector?.(":scope > [data-index]");
        if (event.pointerType !== "touch") show(index ? Number(index.dataset.index) : null);
    }

    function left(event) {
        if (event.pointerType !== "touch") show(null);    // a finger leaves with every tap
    }

    function pressed(event) {
        const step = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2] }[event.key];
        if (event.key === "+" || event.key === "=") seen.zoom(0.7);
        else if (event.key === "-") seen.zoom(1 / 0.7);
        else if (event.key === "0") seen.reset();
        else if (event.key === "Escape") show(null);
        else if (step && event.shiftKey) seen.move(step);
        else if (step) show(((chosen ?? (step[0] + step[1] > 0 ? -1 : 0)) + (step[0] + step[1] > 0 ? 1 : -1) + boxes.length) % boxes.length);
        else return;
        event.preventDefault();
    }

    function place(event) {
        const area = picture.getBoundingClientRect();
        const scale = width / area.width;
        return [
            ((event.clientX - area.left) * scale - LEFT) / (width - LEFT - RIGHT),
            1 - ((event.clientY - area.top) * scale - TOP) / (height - TOP - BOTTOM),
        ];
    }

    handled(picture, seen, place, (event) => {
        const found = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-index]");
        show(found ? Number(found.dataset.index) : null);
    });
    new ResizeObserver(() => {
        if (!frame.clientWidth || frame.clientWidth === width) return;
        width = frame.clientWidth;
        draw();
    }).observe(frame);
    draw();

    const button = (text, label, act) => html("button", { type: "button", "aria-label": label, onclick: act }, text);
    const scale = html("button", {
        type: "button", "aria-pressed": "false", onclick: () => {
            lane = lane === lanes.calls ? lanes.time : lanes.calls;
            scale.setAttribute("aria-pressed", String(lane === lanes.time));
            seen.reset(whole());
        },
    }, "by time");
    const controls = html("div", { class: "controls" },
        button("+", "Zoom in", () => seen.zoom(0.6)), button("−", "Zoom out", () => seen.zoom(1 / 0.6)),
        button("whole", "Show the whole arena", () => seen.reset()), timed ? scale : null);
    return html("div", {}, controls, frame, legend(boxes, entry));
}

/** What a screen reader says of the whole picture. */
function summary(build, key) {
    const entry = build.plan.entries[key];
    const node = entry.nodes[entry.peak.node];
    const where = node ? ` in ${node.layer} (${node.op}, ${node.phase})` : "";
    return `${build.folder}, ${key}: ${count(entry.buffers.length + build.plan.fixed.length)} buffers in an arena of ${bytes(entry.arena_bytes)}. `
        + `Peak ${bytes(entry.peak.bytes)}${where}, lower bound ${bytes(entry.lower_bound_bytes)}. Arrow keys go from buffer to buffer, + and − zoom.`;
}

/** Lines about a buffer. */
function described(build, entry, buffer) {
    const call = (position) => {
        const node = entry.nodes[position];
        return node ? `${node.layer} (${node.op})` : "the end";
    };
    const fixed = KINDS[buffer.kind] === KINDS.weights || KINDS[buffer.kind] === KINDS.optimiser;
    const when = fixed ? "always there" : buffer.end - buffer.start > 1 ? `from ${call(buffer.start)} to ${call(buffer.end - 1)}` : `in ${call(buffer.start)}`;
    return [
        buffer.name, `${KINDS[buffer.kind]}, ${bytes(buffer.bytes)}${buffer.type ? `, ${buffer.type}` : ""}`,
        buffer.layer ? `layer ${buffer.layer}` : "", when, `at ${count(buffer.offset)} to ${count(buffer.offset + buffer.bytes)}`,
    ].filter(Boolean);
}

function legend(boxes, entry) {
    const kinds = Object.keys(KINDS).filter((kind) => boxes.some((buffer) => buffer.kind === kind));
    const peak = entry.nodes[entry.peak.node];
    return html("ul", { class: "legend" },
        kinds.map((kind) => html("li", {}, swatch(kind), KINDS[kind])),
        html("li", {}, html("span", { class: "line", "aria-hidden": "true" }), "bytes in use"),
        peak ? html("li", {}, html("span", { class: "peak-sign", "aria-hidden": "true" }, "▼"),
            `peak ${bytes(entry.peak.bytes)} in ${peak.layer} (${peak.op}, ${peak.phase})`) : null);
}

/** Sums of all before: where each call begins, and where the last ends. */
function positions(sizes) {
    const found = [0];
    for (const size of sizes) found.push(found[found.length - 1] + size);
    if (found.length === 1) found.push(1);
    return found;
}

/** Whether a node is a call of a kernel; others only show bytes in another shape, and take no time. */
function isCall(node) {
    return node.choice !== null;
}

/** Calls of one phase that follow each other. */
function runs(nodes) {
    const found = [];
    nodes.forEach((node, index) => {
        const before = found[found.length - 1];
        if (before && (before.phase === node.phase || !isCall(node))) before.end = index + 1;
        else found.push({ phase: node.phase, start: index, end: index + 1 });
    });
    return found;
}

/** Round numbers from low to high, about so many. */
export function ticks(low, high, about) {
    const rough = (high - low) / about;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
    return found;
}
