/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_frame.h"

#include "tt_port.h"

#define CRC_START UINT32_C(0xFFFFFFFF)
#define CRC_RESIDUE UINT32_C(0xDEBB20E3) /* register after data and its own CRC */
#define BLOCK_BYTES 254

static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    /* Four bits at a time: 64 bytes of table instead of 1,024. */
    static const uint32_t table[16] = {
        UINT32_C(0x00000000), UINT32_C(0x1DB71064), UINT32_C(0x3B6E20C8), UINT32_C(0x26D930AC),
        UINT32_C(0x76DC4190), UINT32_C(0x6B6B51F4), UINT32_C(0x4DB26158), UINT32_C(0x5005713C),
        UINT32_C(0xEDB88320), UINT32_C(0xF00F9344), UINT32_C(0xD6D6A3E8), UINT32_C(0xCB61B38C),
        UINT32_C(0x9B64C2B0), UINT32_C(0x86D3D2D4), UINT32_C(0xA00AE278), UINT32_C(0xBDBDF21C),
    };
    crc ^= byte;
    crc = (crc >> 4) ^ table[crc & 15u];
    return (crc >> 4) ^ table[crc & 15u];
}

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
    uint32_t crc = CRC_START;
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
        crc = crc_byte(crc, byte);
    }
    if (left != 0 || overlong || count < TT_FRAME_CRC_BYTES || crc != CRC_RESIDUE) {
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
    out.crc = CRC_START;
    out.used = 0;
    tt_port_put(0); /* ends whatever the other side may have half received */
}

void tt_frame_put(const void *data, uint32_t bytes)
{
    const uint8_t *from = data;
    for (uint32_t i = 0; i < bytes; ++i) {
        out.crc = crc_byte(out.crc, from[i]);
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
