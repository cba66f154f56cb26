/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_frame.h"

#include "tt_crc.h"
#include "tt_port.h"

#define BLOCK_BYTES 254

uint8_t *tt_frame_at(const tt_piece *pieces, uint32_t index)
{
    for (; pieces->bytes > 0; ++pieces) {
        if (index < pieces->bytes) {
            return (uint8_t *)pieces->at + index;
        }
        index -= pieces->bytes;
    }
    return 0;
}

/* One frame is read at a time. */
static struct {
    tt_frame frame;
    const tt_piece *rest;
    uint32_t left; /* bytes of the current block still to come */
    uint8_t started, zero, dropped;
} in;

static void decoded(uint8_t byte, const tt_piece *(*rest)(const uint8_t *first))
{
    const uint32_t count = in.frame.bytes++;
    in.frame.residue = tt_crc_byte(in.frame.residue, byte);
    if (count < TT_FRAME_SHORT_BYTES) {
        in.frame.first[count] = byte;
        return;
    }
    if (count == TT_FRAME_SHORT_BYTES) {
        in.rest = rest(in.frame.first);
    }
    uint8_t *const to = in.rest ? tt_frame_at(in.rest, count - TT_FRAME_HEAD_BYTES) : 0;
    if (to) {
        *to = byte;
    } else {
        in.dropped = 1;
    }
}

const tt_frame *tt_frame_take(uint8_t byte, const tt_piece *(*rest)(const uint8_t *first))
{
    if (byte == 0) {
        const int whole = in.started && !in.dropped && in.left == 0 && in.frame.bytes >= TT_FRAME_HEAD_BYTES + TT_FRAME_CRC_BYTES;
        in.started = in.zero = in.dropped = 0;
        in.left = 0;
        return whole ? &in.frame : 0;
    }
    if (!in.started) {
        in.started = 1;
        in.frame.bytes = 0;
        in.frame.residue = TT_CRC_START;
    }
    if (in.dropped) {
        return 0;
    }
    if (in.left > 0) {
        --in.left;
        decoded(byte, rest);
        return 0;
    }
    if (in.zero) { /* start of a block: the previous one, unless full, stood for a zero behind it */
        decoded(0, rest);
    }
    in.left = byte - 1u;
    in.zero = byte != 255;
    return 0;
}

uint32_t tt_frame_residue(uint32_t token)
{
    /* With the CRC xor token in the last four bytes, those are to the register what the token's own are to a fresh one. */
    return tt_crc(TT_CRC_START, &token, sizeof token);
}

/* One frame is written at a time. */
static struct {
    uint32_t crc;
    uint32_t used;
    uint8_t block[BLOCK_BYTES];
} out;

static void block_out(void)
{
    tt_port_put((uint8_t)(out.used + 1u));
    for (uint32_t i = 0; i < out.used; ++i) {
        tt_port_put(out.block[i]);
    }
    out.used = 0;
}

static void encode(uint8_t byte)
{
    if (byte == 0) {
        block_out();
        return;
    }
    out.block[out.used] = byte;
    if (++out.used == BLOCK_BYTES) {
        block_out();
    }
}

void tt_frame_begin(void)
{
    out.crc = TT_CRC_START;
    out.used = 0;
    tt_port_put(0); /* ends whatever the other side may have half received */
}

void tt_frame_put(const void *data, uint32_t bytes)
{
    const uint8_t *from = data;
    for (uint32_t i = 0; i < bytes; ++i) {
        out.crc = tt_crc_byte(out.crc, from[i]);
        encode(from[i]);
    }
}

void tt_frame_end(uint32_t token)
{
    const uint32_t crc = ~out.crc ^ token;
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        encode((uint8_t)(crc >> shift));
    }
    block_out();
    tt_port_put(0);
    tt_port_flush();
}
