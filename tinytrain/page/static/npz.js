// SPDX-License-Identifier: Apache-2.0
// NumPy's .npz: a ZIP file (APPNOTE 6.3, without ZIP64) of .npy arrays (NEP 1). Written without compression, read with or without.

import { fromHalf, size } from "./layout.js";
import { joined } from "./module.js";

const KINDS = {
    "<f4": Float32Array, "<f8": Float64Array, "|i1": Int8Array, "|u1": Uint8Array, "<i2": Int16Array, "<f2": Uint16Array, "<i4": Int32Array,
    "<u4": Uint32Array, "<i8": BigInt64Array, "<u8": BigUint64Array, "|b1": Uint8Array,
};
const MAGIC = "\x93NUMPY";
const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END_BYTES = 22;
const STORED = 0, DEFLATED = 8;

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; ++bit) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
    return byte;
});

function crc32(bytes) {
    return ~bytes.reduce((crc, byte) => CRC[(crc ^ byte) & 255] ^ (crc >>> 8), ~0) >>> 0;
}

function text(string) {
    return Uint8Array.from(string, (character) => character.charCodeAt(0));
}

/** Numbers of 16 and 32 bits, [bits, value]…, little-endian. */
function fields(...pairs) {
    return Uint8Array.from(pairs.flatMap(([bits, value]) => Array.from({ length: bits / 8 }, (_, i) => (value >>> (8 * i)) & 255)));
}

/** Texts as NumPy keeps them: code points of 32 bits, each text filled up with zeros to the longest. */
function pointsOf(texts) {
    const points = texts.map((one) => Array.from(one, (character) => character.codePointAt(0)));
    const longest = Math.max(1, ...points.map((one) => one.length));
    return { dtype: `<U${longest}`, data: Uint32Array.from(points.flatMap((one) => [...one, ...new Array(longest - one.length).fill(0)])) };
}

function textsOf(points, longest) {
    return Array.from({ length: points.length / longest }, (_, i) =>
        String.fromCodePoint(...points.subarray(i * longest, (i + 1) * longest)).replace(/\0+$/, ""));
}

function npy(array) {
    const { dtype, data } = array.texts ? pointsOf(array.texts) : { data: array.data, dtype: Object.keys(KINDS).find((key) => KINDS[key] === array.data.constructor) };
    const shape = array.texts ? [array.texts.length] : array.shape;
    const head = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
    const padded = `${head.padEnd(Math.ceil((head.length + 11) / 64) * 64 - 11)}\n`;
    return joined([text(`${MAGIC}\x01\x00`), fields([16, padded.length]), text(padded), new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
}

/** Bytes of an .npz with these arrays: name → { data: typed array, shape }, or { texts }. */
export function writeNpz(arrays) {
    const files = [], directory = [];
    let at = 0;
    for (const [key, array] of Object.entries(arrays)) {
        const name = new TextEncoder().encode(`${key}.npy`), data = npy(array);
        const common = [[16, 20], [16, 0x800], [16, STORED], [16, 0], [16, 0x21], [32, crc32(data)], [32, data.length], [32, data.length], [16, name.length], [16, 0]];
        const file = joined([fields([32, LOCAL], ...common), name, data]);
        directory.push(fields([32, CENTRAL], [16, 20], ...common, [16, 0], [16, 0], [16, 0], [32, 0], [32, at]), name);
        files.push(file);
        at += file.length;
    }
    const central = joined(directory), count = files.length;
    const end = fields([32, END], [16, 0], [16, 0], [16, count], [16, count], [32, central.length], [32, at], [16, 0]);
    return joined([...files, central, end]);
}

/** Name → { data, shape }, or { texts }, of an .npz; halves and integers of 64 bits become floats of 64. Throws one sentence where it is none, or holds what is not read. */
export async function readNpz(bytes, name) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    try {
        let end = bytes.length - END_BYTES;
        while (view.getUint32(end, true) !== END) --end;
        const found = Object.create(null);                // a name may be one that objects have of themselves
        for (let left = view.getUint16(end + 10, true), at = view.getUint32(end + 16, true); left > 0; --left) {
            if (view.getUint32(at, true) !== CENTRAL) throw new Error("its directory is damaged");
            const [method, packed, named, extra, comment] = [
                view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint16(at + 28, true), view.getUint16(at + 30, true), view.getUint16(at + 32, true),
            ];
            const start = view.getUint32(at + 42, true);
            const data = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
            const key = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + named)).replace(/\.npy$/, "");
            const content = await unpacked(bytes.subarray(data, data + packed), method);
            if (crc32(content) !== view.getUint32(at + 16, true)) throw new Error(`${key} is damaged`);
            found[key] = readNpy(content, key);
            at += 46 + named + extra + comment;
        }
        return found;
    } catch (error) {
        throw new Error(`${name} is not an .npz that the page can read: ${error.message}.`, { cause: error });
    }
}

async function unpacked(bytes, method) {
    if (method === STORED) return bytes;
    if (method !== DEFLATED) throw new Error(`it is packed by method ${method}`);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readNpy(bytes, key) {
    if (text(MAGIC).some((byte, i) => bytes[i] !== byte)) throw new Error(`${key} is no array`);
    const long = bytes[6] > 1;
    const start = long ? 12 : 10;
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true) & (long ? 0xffffffff : 0xffff);
    const head = new TextDecoder().decode(bytes.subarray(start, start + length));
    const dtype = /'descr': *'([^']*)'/.exec(head)?.[1], shape = /'shape': *\(([\d, ]*)\)/.exec(head)?.[1];
    const longest = Number(/^<U([1-9]\d*)$/.exec(dtype)?.[1] ?? 0);
    const kind = longest ? Uint32Array : KINDS[dtype];
    if (!kind || shape === undefined || !/'fortran_order': *False/.test(head)) throw new Error(`${key} has numbers of a kind that is not read here (${dtype})`);
    const data = new kind(bytes.slice(start + length).buffer);
    if (longest) return { texts: textsOf(data, longest) };
    const sizes = shape.split(",").map((part) => part.trim()).filter(Boolean).map(Number);
    if (data.length !== size(sizes)) throw new Error(`${key} has ${data.length} numbers, and a shape of ${size(sizes)}`);
    const number = { "<f2": fromHalf, "<i8": Number, "<u8": Number }[dtype];
    return { data: number ? Float64Array.from(data, number) : data, shape: sizes };
}
