/* SPDX-License-Identifier: Apache-2.0 */
/* A model as a WebAssembly module. Nothing waits in it: whoever runs it puts bytes into one buffer, calls, and is told what comes out.
 *
 * The same module answers on a line of bytes, as every board does (tt_port_take), and without a line, whole messages at a time (tt_port_call). */
#include "port_uncounted.h"
#include "tt_commands.h"
#include "tt_frame.h"
#include "tt_link.h"

#define IN_BYTES (1 << 19) /* of a frame, at most; what is never touched takes no memory */
#define OUT_BYTES 4096

#define EXPORT(name) __attribute__((export_name(#name)))

/* Bytes that the module says; they are gone when it returns. */
__attribute__((import_module("tinytrain"), import_name("say"))) void tt_port_say(const void *data, uint32_t bytes);

static struct {
    uint8_t in[IN_BYTES], out[OUT_BYTES], body[IN_BYTES];
    uint32_t waiting;
    const tt_frame *frame; /* that ended at the last call of tt_port_unpack */
} port;

EXPORT(tt_port_in) uint8_t *tt_port_in(void);
EXPORT(tt_port_in_bytes) uint32_t tt_port_in_bytes(void);
EXPORT(tt_port_take) void tt_port_take(uint32_t bytes);
EXPORT(tt_port_write) uint32_t tt_port_write(uint32_t at, uint32_t bytes);
EXPORT(tt_port_call) uint32_t tt_port_call(void);
EXPORT(tt_port_pack) void tt_port_pack(uint32_t bytes, uint32_t token);
EXPORT(tt_port_unpack) uint32_t tt_port_unpack(uint32_t from, uint32_t to);
EXPORT(tt_port_body) uint32_t tt_port_body(uint32_t token);

/* Where bytes for the other calls go, and how many there is room for. */
uint8_t *tt_port_in(void)
{
    return port.in;
}

uint32_t tt_port_in_bytes(void)
{
    return sizeof port.in;
}

/* So many bytes have come on the line. */
void tt_port_take(uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; ++i) {
        tt_link_take(&tt_served, port.in[i]);
    }
}

/* So many bytes are the message of a request from byte `at` on. Returns how many of them there was room for. */
uint32_t tt_port_write(uint32_t at, uint32_t bytes)
{
    uint32_t written = 0;
    for (const tt_piece *piece = tt_served.pieces; piece->bytes > 0; ++piece) {
        for (; at < piece->bytes && written < bytes; ++at, ++written) {
            ((uint8_t *)piece->at)[at] = port.in[written];
        }
        at -= piece->bytes < at ? piece->bytes : at;
    }
    return written;
}

/* Executes the request that was written. Returns its status, and says the payload of the answer. */
uint32_t tt_port_call(void)
{
    const tt_request request = *tt_served.request; /* a sample may lie where the step computes, but not the head of its request */
    const tt_status status = tt_execute(&tt_served, &request);
    tt_tell(&tt_served, &request, status, tt_port_say);
    return (uint32_t)status;
}

/* Says so many bytes as a frame with that token: what a host sends to a board. */
void tt_port_pack(uint32_t bytes, uint32_t token)
{
    tt_frame_begin();
    tt_frame_put(port.in, bytes);
    tt_frame_end(token);
}

/* All of a frame that is no short one, but its head. */
static const tt_piece *anywhere(const uint8_t *first)
{
    static const tt_piece pieces[] = {{port.body, sizeof port.body}, {0, 0}};
    for (uint32_t i = TT_FRAME_HEAD_BYTES; i < TT_FRAME_SHORT_BYTES; ++i) {
        port.body[i - TT_FRAME_HEAD_BYTES] = first[i];
    }
    return pieces;
}

/* Takes what a board sends, from one byte up to another, until a frame ends. Returns where it goes on. */
uint32_t tt_port_unpack(uint32_t from, uint32_t to)
{
    port.frame = 0;
    while (from < to && !port.frame) {
        port.frame = tt_frame_take(port.in[from++], anywhere);
    }
    return from;
}

/* Says the body of the frame that has ended, if it was made with that token. Returns how many bytes it has, 0 where there is none. */
uint32_t tt_port_body(uint32_t token)
{
    if (!port.frame || port.frame->residue != tt_frame_residue(token)) {
        return 0;
    }
    const uint32_t bytes = port.frame->bytes - TT_FRAME_CRC_BYTES;
    if (port.frame->bytes <= TT_FRAME_SHORT_BYTES) {
        tt_port_say(port.frame->first, bytes);
    } else {
        tt_port_say(port.frame->first, TT_FRAME_HEAD_BYTES);
        tt_port_say(port.body, bytes - TT_FRAME_HEAD_BYTES);
    }
    return bytes;
}

void tt_port_start(void)
{
}

int tt_port_get(void)
{
    return -1; /* main returns once the model is there */
}

void tt_port_put(uint8_t byte)
{
    port.out[port.waiting++] = byte;
    if (port.waiting == sizeof port.out) {
        tt_port_flush();
    }
}

void tt_port_flush(void)
{
    tt_port_say(port.out, port.waiting);
    port.waiting = 0;
}
