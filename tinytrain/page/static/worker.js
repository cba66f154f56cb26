// SPDX-License-Identifier: Apache-2.0
// Runs a model beside the page, so that the page stays quick while it trains. { id, load } or { id, calls } → { id, answers, ms } or { id, error }.

import { Module } from "./module.js";

let model = null;

async function answered({ load, calls }) {
    if (load) model = await Module.load(load);
    const began = performance.now();
    const answers = (calls ?? []).map((request) => model.call(request));
    return { answers, ms: performance.now() - began };
}

self.onmessage = async ({ data }) => {
    try {
        self.postMessage({ id: data.id, ...(await answered(data)) });
    } catch (error) {
        self.postMessage({ id: data.id, error: error.message });
    }
};
