// SPDX-License-Identifier: Apache-2.0
// What was learned or collected as files: learned.npz and learned.onnx of docs/training.md, samples as `tinytrain train --data` reads them.

import { fromHalf, sampleToDevice, sampleToOnnx, size, toHalf, weightToDevice, weightToOnnx } from "./layout.js";
import { readNpz, writeNpz } from "./npz.js";

const ARRAYS = { "<f4": Float32Array, "<f8": Float64Array, "|i1": Int8Array, "|u1": Uint8Array, "<i2": Int16Array, "<i4": Int32Array };
const RANGES = { "|i1": [-128, 127], "|u1": [0, 255], "<i2": [-32768, 32767], "<i4": [-(2 ** 31), 2 ** 31 - 1] };

/** Base64 of the page's JSON → bytes. */
export function decoded(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function placed(model, { at, bytes, dtype }) {
    return new ARRAYS[dtype](model.slice(at, at + bytes).buffer);
}

/** What a device has learned (key → array) by initializer: name → { data, shape, place }, no place where a method of learning added it. */
export function learned(build, weights) {
    const model = decoded(build.files["learned.onnx"]);
    const places = new Map(build.teaching.places.map((place) => [place.name, place]));
    const found = Object.create(null);                    // a name may be one that objects have of themselves
    for (const { name, key, source } of build.manifest.parameters) {
        const place = places.get(name);
        const before = found[name]?.data ?? (place ? placed(model, place) : new Float32Array(size(source.onnx_shape)));
        found[name] = { data: weightToOnnx(weights.get(key), source, before), shape: source.onnx_shape, place };
    }
    for (const [name, array] of Object.entries(found)) {
        const dtype = array.place?.dtype ?? "<f4";
        const [least, most] = RANGES[dtype] ?? [-Infinity, Infinity];
        if (array.data.some((value) => !Number.isFinite(value))) throw new Error(`${name} is not finite; nothing was kept. Train with a lower learning rate.`);
        if (array.data.some((value) => value < least || value > most)) {
            throw new Error(`${name} has learned numbers that its type in the ONNX file cannot hold. Push the weights to a device, and use \`tinytrain pull\`.`);
        }
        array.data = ARRAYS[dtype].from(array.data);
    }
    return found;
}

/** learned.npz: what was learned in ONNX layout, and the optimiser's state as the device has it. */
export function learnedNpz(build, weights) {
    const keys = new Set(build.manifest.parameters.map(({ key }) => key));
    const state = [...weights].filter(([key]) => !keys.has(key)).map(([key, data]) => [`state/${key}`, { data, shape: [data.length] }]);
    return writeNpz({ ...learned(build, weights), ...Object.fromEntries(state) });
}

export function learnedOnnx(build, weights) {
    const model = decoded(build.files["learned.onnx"]);
    for (const { data, place } of Object.values(learned(build, weights))) {
        if (place) model.set(new Uint8Array(data.buffer), place.at);
    }
    return model;
}

/** Numbers as an array of that kind. Throws where it cannot hold them. */
function heldBy(kind, numbers, what) {
    const halves = kind === Uint16Array;
    const array = halves ? kind.from(numbers, toHalf) : kind.from(numbers);
    const held = halves ? (value) => Number.isFinite(fromHalf(value)) : kind === Float32Array ? Number.isFinite : (value, i) => value === numbers[i];
    if (!array.every(held)) throw new Error(`${what} has numbers that the model cannot hold.`);
    return array;
}

/** Weights of an .npz as the page or `tinytrain train` wrote it, as the device has them: key → array; `kinds` are their types there. */
export async function weightsOf(build, bytes, file, kinds) {
    const arrays = await readNpz(bytes, file);
    const record = arrays["record.json"]?.data; // of `tinytrain train`
    if (record && JSON.parse(new TextDecoder().decode(record)).model_sha256 !== build.manifest.model_sha256) {
        throw new Error(`${file} was learned by another model than ${build.manifest.name} of this page.`);
    }
    const found = new Map();
    for (const { name, key, source } of build.manifest.parameters) {
        const array = arrays[name];
        if (array === undefined) throw new Error(`${file} has no ${name}: it was not learned by this model.`);
        if (array.shape.join() !== source.onnx_shape.join()) {
            throw new Error(`${file}: ${name} has the shape ${array.shape.join(" × ")}, and the model's ${source.onnx_shape.join(" × ")}.`);
        }
        found.set(key, heldBy(kinds.get(key), weightToDevice(array.data, source), `${file}: ${name}`));
    }
    for (const [key, kind] of kinds) {
        const array = arrays[`state/${key}`];
        if (array && !found.has(key)) found.set(key, heldBy(kind, array.data, `${file}: state/${key}`));
    }
    return found;
}

/** Samples [{ x, label }] as `tinytrain train --data` reads them: x in the order of ONNX, y the numbers of the classes, and their names. */
export function samplesNpz(build, samples, names) {
    const twice = names.find((name, i) => !name.trim() || names.indexOf(name) < i);
    if (twice !== undefined) throw new Error(twice.trim() ? `Two classes are called “${twice}”: give them names of their own.` : "A class has no name.");
    const { input } = build.manifest;
    const count = size(input.shape), rows = new Float32Array(samples.length * count);
    samples.forEach(({ x }, i) => rows.set(sampleToOnnx(x, input), i * count));
    const shape = [samples.length, ...input.onnx_shape.slice(input.onnx_shape.length - input.perm.length)];
    const y = Int32Array.from(samples, ({ label }) => label);
    return writeNpz({ x: { data: rows, shape }, y: { data: y, shape: [y.length] }, classes: { texts: names } });
}

/** { samples, names } of such a file: x in the order of ONNX or of the device, y the numbers of `classes` classes; names where it has them. */
export async function samplesOf(build, bytes, file, classes) {
    const { x, y, classes: named } = await readNpz(bytes, file);
    const { input } = build.manifest;
    if (!x?.data || !y?.data) throw new Error(`${file} has no arrays x and y of numbers.`);
    const onnx = input.onnx_shape.slice(input.onnx_shape.length - input.perm.length), shape = x.shape.slice(1);
    const asOnnx = shape.join() === onnx.join();
    if (!asOnnx && shape.join() !== input.shape.join()) {
        throw new Error(`${file}: samples have the shape ${shape.join(" × ")}, and the model takes ${onnx.join(" × ")}.`);
    }
    if (y.data.length !== x.shape[0] || y.data.some((label) => !Number.isInteger(label) || label < 0 || label >= classes)) {
        throw new Error(`${file}: y should be ${x.shape[0]} numbers of classes from 0 to ${classes - 1}.`);
    }
    const count = size(input.shape);
    const samples = Array.from(y.data, (label, i) => {
        const row = Float32Array.from(x.data.subarray(i * count, (i + 1) * count));
        return { x: asOnnx ? sampleToDevice(row, input) : row, label };
    });
    return { samples, names: named?.texts?.length === classes ? named.texts : null };
}
