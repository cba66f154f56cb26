// SPDX-License-Identifier: Apache-2.0
// Training as a person follows it: epochs over shuffled samples, some kept back, loss and a confusion matrix as they come.

import { randomU32 } from "./random.js";

const AT_ONCE_MS = 60; // of steps, between two looks at the page

/** The list in another order, the same for the same seed. */
export function shuffled(list, seed) {
    const result = [...list];
    for (let i = result.length - 1; i > 0; --i) {
        const j = randomU32(seed, i) % (i + 1);
        [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
}

/** [to train, kept back]: of each class its last ones, one in `part`; none of a class with fewer than `part` samples. */
export function split(samples, part = 5) {
    const seen = new Map(), kept = [], trained = [];
    for (const sample of samples) {
        const count = (seen.get(sample.label) ?? 0) + 1;
        seen.set(sample.label, count);
        (count % part === 0 ? kept : trained).push(sample);
    }
    return [trained, kept];
}

export function largest(values) {
    return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

/** { loss, accuracy, confusion }: rows are what samples are, columns what the model takes them for. */
export async function evaluated(session, samples, classes) {
    const confusion = Array.from({ length: classes }, () => new Array(classes).fill(0));
    let loss = 0, right = 0;
    for (let at = 0; at < samples.length; at += 16) {
        const some = samples.slice(at, at + 16);
        const found = await session.evaluate(some.map(({ x, label }) => ({ x, target: label })));
        found.forEach((one, i) => {
            const guess = largest(one.output), { label } = some[i];
            loss += one.loss;
            right += guess === label ? 1 : 0;
            confusion[label][guess] += 1;
        });
    }
    return { loss: loss / samples.length, accuracy: right / samples.length, confusion };
}

/**
 * Train for some epochs. `told({ epoch, steps, losses, ms, evaluated })` is called as it goes on, with `evaluated` at the end of each epoch;
 * `stopped()` ends it between two steps. Samples are shuffled by the number of the epoch, so that each run has the same bits.
 */
export async function train(session, samples, { epochs, classes, first = 0, told, stopped = () => false }) {
    const [trained, kept] = split(samples);
    let some = 1, steps = 0;
    for (let epoch = first; epoch < first + epochs; ++epoch) {
        const order = shuffled(trained, epoch);
        for (let at = 0; at < order.length && !stopped();) {
            const batch = order.slice(at, at + some);
            const { losses, ms } = await session.train(batch.map(({ x, label }) => ({ x, target: label })));
            at += batch.length;
            steps += batch.length;
            some = Math.max(1, Math.min(64, Math.round((AT_ONCE_MS * batch.length) / Math.max(ms, 0.1))));
            told({ epoch, steps, losses, ms: ms / batch.length });
        }
        if (stopped()) return;
        told({ epoch, steps, losses: [], evaluated: await evaluated(session, kept.length ? kept : trained, classes), kept: kept.length });
    }
}
