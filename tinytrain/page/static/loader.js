// SPDX-License-Identifier: Apache-2.0
// Each module of the page is text in a script element. Here it becomes a blob, with the addresses of the modules that it names as
// "./name.js". What a worker is made of (`new URL("./name.js", …)`) becomes a data URL, and so does all that it imports, one inside
// the other: in a page that is a file no worker may be made of blobs.
(() => {
    "use strict";
    const texts = new Map();
    for (const script of document.querySelectorAll("script[data-module]")) texts.set(script.dataset.module, script.textContent);

    function remembered(make) {
        const known = new Map();
        return (name) => {
            if (!known.has(name)) known.set(name, make(name));
            return known.get(name);
        };
    }
    function bound(name, address) {
        const text = texts.get(name).replace(/(new URL\()?"\.\/([\w-]+\.js)"/g, (_, worker = "", other) => (
            `${worker}${JSON.stringify((worker ? data : address)(other))}`
        ));
        return new TextEncoder().encode(`${text}\n//# sourceURL=${name}`);
    }
    const data = remembered((name) => (
        `data:text/javascript;base64,${btoa(Array.from(bound(name, data), (byte) => String.fromCharCode(byte)).join(""))}`
    ));
    const blob = remembered((name) => URL.createObjectURL(new Blob([bound(name, blob)], { type: "text/javascript" })));
    import(blob("shell.js"));
})();
