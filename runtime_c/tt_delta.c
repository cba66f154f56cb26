/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_delta.h"

#include "tt_crc.h"

#define HASH_BYTES 16u
#define LAYOUT_AT (8u + HASH_BYTES)
#define HEAD_BYTES (LAYOUT_AT + 8u)
#define RUN_BYTES 12u /* of the numbers before a run: fewer bytes between two runs that did not change cost less when they join them */
#define END UINT32_C(0xFFFFFFFF)

typedef struct {
    tt_sink take;
    void *with;
    uint32_t crc;
    tt_status status;
} writer;

static void put(writer *w, const void *bytes, uint32_t count)
{
    if (w->status == TT_OK) {
        w->crc = tt_crc(w->crc, bytes, count);
        w->status = w->take(w->with, bytes, count);
    }
}

static void put_number(writer *w, uint32_t number)
{
    const uint8_t bytes[4] = {(uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16), (uint8_t)(number >> 24)};
    put(w, bytes, sizeof bytes);
}

static uint32_t number_at(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

tt_status tt_delta_take(void *with, const void *bytes, uint32_t count)
{
    tt_delta_buffer *buffer = (tt_delta_buffer *)with;
    const unsigned char *from = (const unsigned char *)bytes;
    if (count > buffer->room - buffer->used) {
        return TT_ERROR_LENGTH;
    }
    for (uint32_t i = 0; i < count; ++i) {
        buffer->bytes[buffer->used++] = from[i];
    }
    return TT_OK;
}

static int changed(const unsigned char *now, const unsigned char *before, uint32_t at)
{
    return now[at] != (before != NULL ? before[at] : 0);
}

static void put_tensor(writer *w, uint32_t index, const unsigned char *now, const unsigned char *before, uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes && w->status == TT_OK; ++at) {
        if (!changed(now, before, at)) {
            continue;
        }
        uint32_t end = at + 1u;
        for (uint32_t i = end; i < bytes && i - end < RUN_BYTES; ++i) {
            end = changed(now, before, i) ? i + 1u : end;
        }
        put_number(w, index);
        put_number(w, at);
        put_number(w, end - at);
        put(w, now + at, end - at);
        at = end;
    }
}

tt_status tt_delta_export(
    const tt_stored *what, const void *const *factory, const unsigned char *arena, uint32_t steps, tt_sink take, void *with)
{
    writer w = {take, with, TT_CRC_START, TT_OK};
    put_number(&w, TT_DELTA_MAGIC);
    put_number(&w, TT_DELTA_FORMAT);
    put(&w, what->hash, HASH_BYTES);
    put_number(&w, what->layout[0]);
    put_number(&w, steps);
    for (uint32_t i = 0; i < what->weights; ++i) {
        put_tensor(&w, i, arena + what->params[i].offset, (const unsigned char *)factory[i], what->params[i].bytes);
    }
    put_number(&w, END);
    put_number(&w, ~w.crc);
    return w.status;
}

tt_status tt_delta_check(const tt_stored *what, const void *delta, uint32_t bytes)
{
    const uint8_t *d = (const uint8_t *)delta;
    if (bytes < TT_DELTA_LEAST_BYTES) {
        return TT_ERROR_LENGTH;
    }
    if (number_at(d) != TT_DELTA_MAGIC) {
        return TT_ERROR_FRAME;
    }
    if (number_at(d + 4) != TT_DELTA_FORMAT) {
        return TT_ERROR_STORE_NEWER;
    }
    for (uint32_t i = 0; i < HASH_BYTES; ++i) {
        if (d[8u + i] != what->hash[i]) {
            return TT_ERROR_STORE_FOREIGN;
        }
    }
    if (number_at(d + LAYOUT_AT) != what->layout[0]) {
        return TT_ERROR_STORE_FOREIGN;
    }
    if (tt_crc(TT_CRC_START, d, bytes) != TT_CRC_RESIDUE) {
        return TT_ERROR_FRAME;
    }
    uint32_t at = HEAD_BYTES, left = bytes - TT_DELTA_LEAST_BYTES; /* of runs */
    while (left >= RUN_BYTES) {
        const uint32_t index = number_at(d + at), first = number_at(d + at + 4u), count = number_at(d + at + 8u);
        left -= RUN_BYTES;
        if (index >= what->weights || count == 0 || count > left || first > what->params[index].bytes ||
            count > what->params[index].bytes - first) {
            return TT_ERROR_FRAME;
        }
        at += RUN_BYTES + count;
        left -= count;
    }
    return left == 0 && number_at(d + at) == END ? TT_OK : TT_ERROR_FRAME;
}

uint32_t tt_delta_apply(const tt_stored *what, const void *delta, unsigned char *arena)
{
    const uint8_t *d = (const uint8_t *)delta;
    uint32_t at = HEAD_BYTES;
    for (uint32_t index = number_at(d + at); index != END; index = number_at(d + at)) {
        unsigned char *to = arena + what->params[index].offset + number_at(d + at + 4u);
        const uint32_t count = number_at(d + at + 8u);
        at += RUN_BYTES;
        for (uint32_t i = 0; i < count; ++i) {
            to[i] = d[at + i];
        }
        at += count;
    }
    return number_at(d + LAYOUT_AT + 4u);
}
