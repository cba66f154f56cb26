/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on a byte stream: COBS, ended by a zero byte; the last four bytes are the CRC-32 (IEEE 802.3) of the rest. */
#ifndef TT_FRAME_H
#define TT_FRAME_H

#include <stdint.h>

#define TT_FRAME_CLOSED (-1) /* the other side has gone */
#define TT_FRAME_BAD (-2)    /* damaged or too long */
#define TT_FRAME_CRC_BYTES 4

/* Wait for the next frame and decode it straight into `to`; `capacity` includes the CRC. Returns its bytes without CRC. */
int32_t tt_frame_read(uint8_t *to, uint32_t capacity);

/* A frame is written piece by piece; only one block of at most 254 bytes is ever held. */
void tt_frame_begin(void);
void tt_frame_put(const void *data, uint32_t bytes);
void tt_frame_end(void);

#endif
