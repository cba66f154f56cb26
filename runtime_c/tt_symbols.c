/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_symbols.h"

#include "tt_port.h"

#define PLACES 32
#define ONE_VOTE 8u   /* a vote is kept in one byte: three bits of value, and how many more spoke for it than against it */
#define MOST_VOTES 32u

static uint8_t votes[PLACES];

int tt_symbols_take(uint8_t byte, uint8_t *packet)
{
    const uint32_t place = byte >> 3;
    const uint8_t value = byte & 7u, held = votes[place];
    if ((held & 7u) == value) {
        votes[place] = held < MOST_VOTES ? (uint8_t)(held + ONE_VOTE) : held;
    } else {
        votes[place] = held < ONE_VOTE ? (uint8_t)(ONE_VOTE | value) : (uint8_t)(held - ONE_VOTE);
    }
    if (place != PLACES - 1) {
        return 0;
    }
    for (uint32_t bit = 0; bit < 8 * TT_SYMBOLS_BYTES; ++bit) {
        const uint32_t set = (uint32_t)(votes[bit / 3] >> bit % 3) & 1u;
        packet[bit / 8] = (uint8_t)((packet[bit / 8] & ~(1u << bit % 8)) | set << bit % 8);
    }
    return 1;
}

void tt_symbols_settle(void)
{
    for (uint32_t place = 0; place < PLACES; ++place) {
        votes[place] = (uint8_t)((votes[place] & 7u) | (votes[place] < ONE_VOTE ? 0u : ONE_VOTE));
    }
}

void tt_symbols_send(const uint8_t *packet)
{
    for (uint32_t sent = 0; sent < TT_SYMBOLS_TIMES * PLACES; ++sent) {
        const uint32_t place = sent % PLACES;
        uint32_t value = 0;
        for (uint32_t i = 0; i < 3; ++i) {
            const uint32_t bit = 3 * place + i;
            value |= ((uint32_t)(packet[bit / 8] >> bit % 8) & 1u) << i;
        }
        tt_port_put((uint8_t)(place << 3 | value));
    }
}
