// SPDX-License-Identifier: Apache-2.0
// How a person gives a sample, by what the model takes. An input is { element, read() → array as the device has it, or null, clear()? }; it calls
// `changed()` when there is something else to read, and `add(arrays)` with samples of files.

import { readCsv } from "./csv.js";
import { html } from "./dom.js";
import { sampleToDevice, size } from "./layout.js";
import { motionInput } from "./motion.js";
import { pictureInput } from "./picture.js";

const MOST_SLIDERS = 24, MOST_CHANNELS = 16;

/** What a model takes: a picture, a series (steps × channels), a few numbers, or many. */
export function kindOf({ shape }) {
    const [rows, columns] = shape.length === 3 ? shape : [1, ...shape], channels = shape.at(-1);
    if (shape.length === 3 && rows > 1 && columns > 1) return [1, 3].includes(channels) ? "picture" : "rows";
    if (shape.length > 1 && rows * columns > 1 && channels <= MOST_CHANNELS) return "series";
    return size(shape) <= MOST_SLIDERS ? "sliders" : "rows";
}

export function makeInput(build, changed, add) {
    const port = build.manifest.input;
    const kind = kindOf(port);
    if (kind === "picture") return pictureInput(port.shape, changed, add);
    if (kind === "series") {
        const steps = size(port.shape.slice(0, -1)), channels = port.shape.at(-1);
        return motionInput(steps, channels, changed, add, csvFiles(`csv files of ${steps} rows and ${channels} columns`, (rows, file) => windows(rows, steps, channels, file), add));
    }
    const count = size(port.shape);
    const files = csvFiles(`csv files of ${count} columns, a row for each sample`, (rows, file) => {
        checkColumns(rows, count, file);
        return rows.map((row) => sampleToDevice(Float32Array.from(row), port));
    }, add);
    return kind === "sliders" ? sliders(count, changed, files) : { element: files, read: () => null };
}

function checkColumns(rows, count, file) {
    if (rows[0].length !== count) throw new Error(`${file} has ${rows[0].length} columns, and the model takes ${count}.`);
}

/** A long recording is several samples, one behind the other; what is left of it is too short for one. */
export function windows(rows, steps, channels, file) {
    checkColumns(rows, channels, file);
    if (rows.length < steps) throw new Error(`${file} has ${rows.length} rows, and a sample ${steps}.`);
    return Array.from({ length: Math.floor(rows.length / steps) }, (_, i) => Float32Array.from(rows.slice(i * steps, (i + 1) * steps).flat()));
}

function csvFiles(label, samples, add) {
    const input = html("input", {
        type: "file", accept: ".csv,.txt,text/csv", multiple: true,
        onchange: () => add(async () => {
            const found = [];
            for (const file of input.files) found.push(...samples(readCsv(await file.text(), file.name), file.name));
            input.value = "";
            return found;
        }),
    });
    return html("label", { class: "field" }, `Add ${label}`, input);
}

function sliders(count, changed, files) {
    const values = new Float32Array(count);
    const range = { least: 0, most: 1 };
    const rows = Array.from({ length: count }, (_, i) => {
        const shown = html("output", {}, "0");
        const input = html("input", {
            type: "range", step: "any", "aria-label": `Input ${i + 1}`,
            oninput: () => {
                values[i] = input.valueAsNumber;
                shown.textContent = Number(values[i].toPrecision(3));
                changed();
            },
        });
        return { input, element: html("label", { class: "slider" }, html("span", {}, `${i + 1}`), input, shown) };
    });
    const ends = () => rows.forEach(({ input }) => {
        Object.assign(input, { min: range.least, max: range.most });
        input.dispatchEvent(new Event("input"));
    });
    const end = (key, label) => {
        const input = html("input", {
            type: "number", step: "any", value: range[key],
            onchange: () => {
                if (Number.isFinite(input.valueAsNumber)) range[key] = input.valueAsNumber;
                ends();
            },
        });
        return html("label", { class: "field" }, label, input);
    };
    for (const { input } of rows) Object.assign(input, { min: 0, max: 1, value: 0 });
    return {
        element: html("div", {}, html("div", { class: "row" }, end("least", "From"), end("most", "to")), rows.map(({ element }) => element), files),
        read: () => values.slice(),
    };
}
