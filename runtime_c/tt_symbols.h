/* SPDX-License-Identifier: Apache-2.0 */
/* A packet for lines on which hardly a byte in two is right: each byte carries three bits and says which of 96 they are, so that no lost,
 * damaged or doubled byte moves another one. Packets are sent over and over; the receiver votes on each place and looks at the CRC. */
#ifndef TT_SYMBOLS_H
#define TT_SYMBOLS_H

#include <stdint.h>

#define TT_SYMBOLS_BYTES 12 /* of a packet: a body and its CRC-32 */
#define TT_SYMBOLS_TIMES 4

/* Take one byte of the line. Returns 1 when it was the last of a packet: what the votes say now is then in `packet`. */
int tt_symbols_take(uint8_t byte, uint8_t *packet);

/* The packet was good: the next one may well differ, so that one vote for each place is all that stays of it. */
void tt_symbols_settle(void);

/* TT_SYMBOLS_TIMES in a row. */
void tt_symbols_send(const uint8_t *packet);

#endif
