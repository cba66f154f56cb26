/* SPDX-License-Identifier: Apache-2.0 */
/* For libFuzzer: what a device does with bytes that no host would send. tests/fuzz_link.py builds and runs it. */
#include "line_device.c"

#include <stdio.h>

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t answer_bytes[OUT_BYTES];
static uint8_t before[FAKE_ARENA_BYTES];
static uint64_t packets; /* that no host would send, and the device was given */

static void report(void)
{
    (void)fprintf(stderr, "%llu packets were given to the device\n", (unsigned long long)packets);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    return atexit(report);
}

/* As tt_link.c frames what it says; both sides frame alike. */
static uint32_t framed(const uint8_t *body, uint32_t bytes, uint32_t token, uint8_t *out_bytes)
{
    line.count = 0;
    tt_frame_begin();
    tt_frame_put(body, bytes);
    tt_frame_end(token);
    memcpy(out_bytes, line.bytes, line.count);
    return line.count;
}

static void greet(void)
{
    const uint32_t hello[5] = {0, TT_HELLO, 0, 4, UINT32_C(0x12345678)};
    uint8_t frame[64];
    const uint32_t bytes = framed((const uint8_t *)hello, sizeof hello, 0, frame);
    (void)device_give(frame, bytes, answer_bytes);
    if (state.token == 0) {
        abort();
    }
}

/* The first byte says how the rest goes over the line: as it is (weights, scheme and learning rate must stay), or as the body of a frame,
 * or of a packet of symbols, with the right CRC and token: then it only must not crash, hang, or write where it should not. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t frame[1 << 16];
    if (size < 1 || size > 4096) {
        return 0;
    }
    const uint8_t how = data[0];
    const uint32_t bytes = (uint32_t)size - 1u;
    device_start();
    greet();
    if (how % 4 == 0) {
        memcpy(before, arena, 52);
        ++packets;
        (void)device_give(data + 1, bytes, answer_bytes);
        const uint8_t zero = 0;
        (void)device_give(&zero, 1, answer_bytes);
        if (memcmp(before, arena, 52) != 0 || ctx.count != 0 || ctx.scheme != 0 || state.done != 0) {
            abort();
        }
        return 0;
    }
    if (how % 4 == 1) {
        for (uint32_t at = 0; at + 8 <= bytes; at += 8) {
            uint8_t symbols[TT_SYMBOLS_BYTES];
            memcpy(symbols, data + 1 + at, 8);
            ++packets;
            line.count = 0;
            end(state.token, symbols);
            const uint32_t count = line.count;
            memcpy(frame, line.bytes, count);
            (void)device_give(frame, count, answer_bytes);
        }
        return 0;
    }
    for (uint32_t at = 0; at < bytes;) { /* several frames: each is as long as its first byte says, times four */
        const uint32_t want = 4u * data[1 + at], left = bytes - at - 1u, n = want < left ? want : left;
        const uint32_t count = framed(data + 2 + at, n, how % 4 == 2 ? state.token : 0, frame);
        (void)device_give(frame, count, answer_bytes);
        ++packets;
        at += 1u + n;
    }
    return 0;
}
