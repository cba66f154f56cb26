// SPDX-License-Identifier: Apache-2.0
// Arrays between a device and ONNX: the axes of the two are in another order, and of a weight the device may have a part only.

export function size(shape) {
    return shape.reduce((a, b) => a * b, 1);
}

/** transpose(array of `shape`, perm), as NumPy does it. */
export function transposed(array, shape, perm) {
    const steps = shape.map((_, axis) => size(shape.slice(axis + 1)));
    const sizes = perm.map((axis) => shape[axis]), strides = perm.map((axis) => steps[axis]);
    const result = new array.constructor(array.length);
    const index = new Array(sizes.length).fill(0);
    for (let to = 0, from = 0; to < result.length; ++to) {
        result[to] = array[from];
        for (let axis = sizes.length - 1; axis >= 0; --axis) {
            from += strides[axis];
            if (++index[axis] < sizes[axis]) break;
            from -= strides[axis] * sizes[axis];
            index[axis] = 0;
        }
    }
    return result;
}

export function inverse(perm) {
    return perm.map((_, axis) => perm.indexOf(axis));
}

/** A sample as the device has it → as ONNX has it, without the batch. */
export function sampleToOnnx(array, { shape, perm }) {
    return perm.length === shape.length ? transposed(array, shape, inverse(perm)) : array;
}

/** The same the other way round. */
export function sampleToDevice(array, { shape, perm }) {
    if (perm.length !== shape.length) return array;
    return transposed(array, inverse(perm).map((axis) => shape[axis]), perm);
}

/** Positions in the whole weight of what the device has of it, in its order: null for all. */
function taken({ whole, take }) {
    if (!take.length) return null;
    const indices = whole.map((count, axis) => take.find(([other]) => other === axis)?.[1] ?? Array.from({ length: count }, (_, i) => i));
    return indices.reduce((found, list, axis) => found.flatMap((at) => list.map((i) => at * whole[axis] + i)), [0]);
}

/** Half-way cases go to the even neighbour, as NumPy's rint does. */
export function rint(x) {
    const rounded = Math.round(x);
    return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** The number that 16 bits stand for, as IEEE 754 has it. Arrays of Uint16 are halves, here and in files. */
export function fromHalf(bits) {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** The 16 bits of the nearest number that they can stand for. */
export function toHalf(x) {
    const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0, size = Math.abs(x);
    if (Number.isNaN(x)) return 0x7e00;
    if (size >= 65520) return sign | 0x7c00;
    const exponent = Math.max(-14, (new Uint32Array(Float32Array.of(size).buffer)[0] >>> 23) - 127);
    return sign | (((exponent + 14) << 10) + rint(size / 2 ** (exponent - 10)));
}

/**
 * What a device has of a weight, put into the weight in ONNX layout: numbers of `before` that it does not have stay. `source` is that of the
 * manifest; integers that stand for reals become these.
 */
export function weightToOnnx(array, source, before) {
    const { shape, perm, scale, offset } = source;
    const whole = Float64Array.from(transposed(before, shape, perm));
    const at = taken(source);
    const number = (value, i) => (scale.length ? Math.fround(value * scale[scale.length > 1 ? i : 0]) : value + offset);
    array.forEach((value, i) => {
        const to = at ? at[i] : i;
        whole[to] = number(array instanceof Uint16Array ? fromHalf(value) : value, to);
    });
    return transposed(whole, perm.map((axis) => shape[axis]), inverse(perm));
}

/** The part of a weight in ONNX layout that the device has, as numbers of its order. */
export function weightToDevice(array, source) {
    const { shape, perm, scale, offset } = source;
    const whole = transposed(array, shape, perm);
    const at = taken(source) ?? Array.from({ length: whole.length }, (_, i) => i);
    const limit = 2 ** 31 - 1;
    const number = (i) => {
        if (!scale.length) return whole[i] - offset;
        return Math.max(-limit, Math.min(limit, rint(whole[i] / scale[scale.length > 1 ? i : 0])));
    };
    return Float64Array.from(at, number);
}
