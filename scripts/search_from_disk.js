// SPDX-License-Identifier: Apache-2.0
// The site's search runs in a worker, which browsers refuse to pages that lie on a disk: there it runs in a frame that nobody sees.
if (location.protocol === "file:") {
    window.Worker = class extends EventTarget {
        constructor(url) {
            super();
            const frame = document.createElement("iframe");
            frame.hidden = true;
            document.documentElement.append(frame);
            const inner = frame.contentWindow;
            inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
            this.begun = new Promise(begun => {
                const script = inner.document.createElement("script");
                script.onload = () => begun(inner);
                script.src = new URL(url, location).href;
                inner.document.body.append(script);
            });
        }

        postMessage(data) {
            this.begun.then(inner => inner.dispatchEvent(new MessageEvent("message", { data })));
        }

        terminate() {}
    };
}
