/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_crc.h"

uint32_t tt_crc_byte(uint32_t crc, uint8_t byte)
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

uint32_t tt_crc(uint32_t crc, const void *data, uint32_t bytes)
{
    const uint8_t *from = (const uint8_t *)data;
    while (bytes-- > 0) {
        crc = tt_crc_byte(crc, *from++);
    }
    return crc;
}
