/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 (IEEE 802.3), for frames and for what is stored: start with TT_CRC_START, feed all bytes, and invert. */
#ifndef TT_CRC_H
#define TT_CRC_H

#include <stdint.h>

#define TT_CRC_START UINT32_C(0xFFFFFFFF)
#define TT_CRC_RESIDUE UINT32_C(0xDEBB20E3) /* register after data and its own CRC */

uint32_t tt_crc_byte(uint32_t crc, uint8_t byte);
uint32_t tt_crc(uint32_t crc, const void *data, uint32_t bytes);

#endif
