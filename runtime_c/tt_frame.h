/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on a byte stream: COBS, between zero bytes; the last four bytes are the CRC-32 (IEEE 802.3) of the rest, xor a token. */
#ifndef TT_FRAME_H
#define TT_FRAME_H

#include <stdint.h>

#define TT_FRAME_HEAD_BYTES 4
#define TT_FRAME_CRC_BYTES 4
#define TT_FRAME_SHORT_BYTES 72 /* a frame up to that length, CRC included, is held until it has proven good */

/* What a message is made of: pieces of memory, one after the other; a piece without bytes is the end of the list. */
typedef struct {
    void *at;
    uint32_t bytes;
} tt_piece;

/* Where byte `index` of a message goes; null where there is no room for it. */
uint8_t *tt_frame_at(const tt_piece *pieces, uint32_t index);

typedef struct {
    uint8_t first[TT_FRAME_SHORT_BYTES];
    uint32_t bytes;   /* of the whole frame, CRC included */
    uint32_t residue; /* what tt_frame_residue says of the token that the frame was made with, if nothing is damaged */
} tt_frame;

/* Take one byte of the line. Returns the frame that it ends, which stays until the next byte, or null.
 * A frame that turns out longer than short is offered to `rest`, which answers where all that is behind its head goes: the bytes that
 * have come so far it moves itself. Null: nowhere, the frame is dropped. */
const tt_frame *tt_frame_take(uint8_t byte, const tt_piece *(*rest)(const uint8_t *first));

uint32_t tt_frame_residue(uint32_t token);

/* A frame is written piece by piece; only one block of at most 254 bytes is ever held. */
void tt_frame_begin(void);
void tt_frame_put(const void *data, uint32_t bytes);
void tt_frame_end(uint32_t token);

#endif
