/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on a byte stream: COBS, ended by a zero byte; the last four bytes are the CRC-32 (IEEE 802.3) of the rest. */
#ifndef TT_FRAME_H
#define TT_FRAME_H

#include <stdint.h>

#define TT_FRAME_CLOSED (-1) /* the other side has gone */
#define TT_FRAME_BAD (-2)    /* damaged or too long */
#define TT_FRAME_CRC_BYTES 4

/* A frame is decoded into pieces of memory, one after the other; a piece without bytes is the end of the list. */
typedef struct {
    void *at;
    uint32_t bytes;
} tt_piece;

/* Where byte `index` of a frame goes; null where there is no room for it. */
uint8_t *tt_frame_at(const tt_piece *pieces, uint32_t index);

/* Wait for the next frame and decode it, with its CRC, straight into `pieces`. Returns its bytes without CRC. */
int32_t tt_frame_read(const tt_piece *pieces);

/* A frame is written piece by piece; only one block of at most 254 bytes is ever held. */
void tt_frame_begin(void);
void tt_frame_put(const void *data, uint32_t bytes);
void tt_frame_end(void);

#endif
