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

int32_t tt_frame_read(const tt_piece *pieces)
{
    uint32_t crc = TT_CRC_START;
    uint32_t count = 0; /* decoded bytes, also those that found no room */
    uint32_t left = 0;  /* bytes of the current block still to come */
    int started = 0, zero = 0, overlong = 0;
    for (;;) {
        const int got = tt_port_get();
        if (got < 0) {
            return TT_FRAME_CLOSED;
        }
        uint8_t byte = (uint8_t)got;
        if (byte == 0) {
            if (!started) {
                continue; /* between frames */
            }
            break;
        }
        if (left == 0) { /* start of a block: the previous one, unless full, stood for a zero behind it */
            left = byte - 1u;
            if (!(started && zero)) {
                started = 1;
                zero = byte != 255;
                continue;
            }
            zero = byte != 255;
            byte = 0;
        } else {
            --left;
        }
        uint8_t *const to = tt_frame_at(pieces, count);
        if (to) {
            *to = byte;
        }
        overlong |= !to;
        ++count;
        crc = tt_crc_byte(crc, byte);
    }
    if (left != 0 || overlong || count < TT_FRAME_CRC_BYTES || crc != TT_CRC_RESIDUE) {
        return TT_FRAME_BAD;
    }
    return (int32_t)(count - TT_FRAME_CRC_BYTES);
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

void tt_frame_end(void)
{
    const uint32_t crc = ~out.crc;
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        encode((uint8_t)(crc >> shift));
    }
    block_out();
    tt_port_put(0);
    tt_port_flush();
}
