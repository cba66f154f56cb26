// SPDX-License-Identifier: Apache-2.0
// Each module of the page is text in a script element; here it becomes a data URL, with those of the modules that it names as "./name.js".
// Workers may be made of data URLs in a file, too, and import others there, which they may not of blobs.
(() => {
    "use strict";
    const texts = new Map();
    for (const script of document.querySelectorAll("script[data-module]")) texts.set(script.dataset.module, script.textContent);
    const known = new Map();
    function address(name) {
        if (!known.has(name)) {
            const text = texts.get(name).replace(/"\.\/([\w-]+\.js)"/g, (_, other) => JSON.stringify(address(other)));
            const bytes = new TextEncoder().encode(`${text}\n//# sourceURL=${name}`);
            known.set(name, `data:text/javascript;base64,${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}`);
        }
        return known.get(name);
    }
    import(address("shell.js"));
})();
