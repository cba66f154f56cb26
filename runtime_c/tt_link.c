/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_link.h"

#include "tt_commands.h"
#include "tt_crc.h"
#include "tt_frame.h"
#include "tt_port.h"
#include "tt_symbols.h"

#define READ 0x8000u /* in a number: the rest of an answer is asked for, or comes */
#define MOST_NUMBER 0x7FFFu
#define WHOLE UINT32_MAX
#define HELLO_NUMBER 0 /* of the one request that comes, and is answered, without a token */

/* What outlives a packet. */
static struct {
    const tt_model *model;
    uint32_t nonce, token, residue; /* of the session; no token: there is none yet */
    uint32_t sessions;
    tt_request request; /* the last one that was executed: its answer is made again from what it left, never by executing it again */
    uint16_t done;      /* its number */
    uint16_t filling;   /* number of the request that arrives */
    uint32_t have;      /* bytes of that */
    uint8_t status;
} state;

/* The part of an answer that is sent: bytes `at` to `end` of the `total` that it turns out to have; into a packet of symbols, or a frame. */
static struct {
    uint32_t at, end, total;
    uint8_t *symbols;
} window;

/* Called for each number of an answer: a copy at each of them would cost kilobytes. */
__attribute__((noinline)) static void say(const void *data, uint32_t bytes)
{
    const uint32_t from = window.at > window.total ? window.at - window.total : 0u;
    const uint32_t left = window.end > window.total ? window.end - window.total : 0u;
    const uint32_t to = left < bytes ? left : bytes;
    const uint8_t *const start = data;
    for (uint32_t i = from; window.symbols && i < to; ++i) {
        window.symbols[window.total + i - window.at] = start[i];
    }
    if (!window.symbols && from < to) {
        tt_frame_put(start + from, to - from);
    }
    window.total += bytes;
}

__attribute__((noinline)) static void say_u32(uint32_t value)
{
    say(&value, sizeof value);
}

static void say_hello(const tt_model *m)
{
    say_u32(TT_LINK_VERSION);
    say_u32(state.nonce);
    say_u32(state.token);
    say_u32(m->input_bytes);
    say_u32(m->target_bytes);
    say_u32(m->output_bytes);
    say_u32(m->arena_bytes);
    say_u32(m->ctx_bytes);
    say_u32(m->param_count);
    say_u32(m->train_step != 0);
    say_u32(m->payload_bytes);
    say_u32(m->schemes);
    say(m->hash, 32);
    tt_say_text(say, m->name);
    tt_say_text(say, m->board);
}

static void say_payload(const tt_model *m, const tt_request *r, tt_status status)
{
    if (r->command == TT_HELLO) {
        say_hello(m);
    } else {
        tt_tell(m, r, status, say);
    }
}

static uint32_t message_bytes(const tt_request *r)
{
    return (uint32_t)sizeof *r + ((r->bytes + 3u) & ~3u);
}

/* From now on only packets with this session's token count: no stray bytes, no late ones, none of a host that came before. */
static void open_session(uint32_t nonce)
{
    if (state.token == 0 || nonce != state.nonce) {
        state.nonce = nonce;
        state.token = nonce ^ (++state.sessions * UINT32_C(0x9E3779B1));
        state.token += state.token == 0;
        state.residue = tt_frame_residue(state.token);
        state.done = 0;
    }
}

static uint16_t next_number(void)
{
    return state.done == MOST_NUMBER ? (uint16_t)1 : (uint16_t)(state.done + 1u);
}

/* `bytes` of the request `number` from word `at` on. Returns 1 when it is there as a whole. */
static int take(const tt_model *m, uint16_t number, uint16_t at, const uint8_t *data, uint32_t bytes)
{
    if (number != state.filling || at == 0) {
        state.filling = number;
        state.have = 0;
    }
    if (at == (uint16_t)(state.have / 4u) && bytes % 4u == 0) {
        for (uint32_t i = 0; i < bytes; ++i) {
            uint8_t *const to = tt_frame_at(m->pieces, state.have);
            if (to) {
                *to = data[i];
                ++state.have;
            }
        }
    }
    const tt_request *r = m->request;
    return state.have >= sizeof *r && (r->bytes > m->payload_bytes || state.have >= message_bytes(r));
}

static void finish(const tt_model *m, uint16_t number)
{
    const uint32_t value = *(const uint32_t *)(const void *)m->input;
    state.have = 0;
    if (number == HELLO_NUMBER) {
        if (m->request->command == TT_HELLO && m->request->bytes == sizeof value) {
            open_session(value);
        }
        return;
    }
    state.request = *m->request;
    state.status = (uint8_t)tt_execute(m, &state.request);
    state.done = number;
}

static void begin(uint16_t number, uint16_t at, uint8_t *symbols)
{
    const uint16_t head[2] = {number, at};
    window.symbols = symbols;
    if (!symbols) {
        tt_frame_begin();
        tt_frame_put(head, sizeof head);
        return;
    }
    for (uint32_t i = 0; i < TT_SYMBOLS_BYTES; ++i) {
        symbols[i] = i < sizeof head ? ((const uint8_t *)head)[i] : 0;
    }
    window.symbols = symbols + sizeof head;
}

static void end(uint32_t token, uint8_t *symbols)
{
    if (!symbols) {
        tt_frame_end(token);
        return;
    }
    const uint32_t crc = ~tt_crc(TT_CRC_START, symbols, TT_SYMBOLS_BYTES - TT_FRAME_CRC_BYTES) ^ token;
    for (uint32_t i = 0; i < TT_FRAME_CRC_BYTES; ++i) {
        symbols[TT_SYMBOLS_BYTES - TT_FRAME_CRC_BYTES + i] = (uint8_t)(crc >> 8 * i);
    }
    tt_symbols_send(symbols);
    tt_port_flush();
}

/* `most` bytes of the answer to the request `number` from word `at` on. */
static void answer(const tt_model *m, uint16_t number, uint16_t at, uint32_t most, uint8_t *symbols)
{
    static const tt_request hello = {TT_HELLO, 0, 0, 0, 0};
    const tt_request *const r = number == HELLO_NUMBER ? &hello : &state.request;
    const uint8_t head[4] = {number == HELLO_NUMBER ? (uint8_t)TT_OK : state.status, 0, 0, 0};
    const uint32_t from = 4u * at;
    window.at = window.end = window.total = 0;
    say_payload(m, r, (tt_status)head[0]); /* the window is empty: its bytes are counted only */
    const uint32_t bytes = window.total;
    begin((uint16_t)(number | READ), at, symbols);
    window.at = from;
    window.end = most < WHOLE - from ? from + most : WHOLE;
    window.total = 0;
    say(head, sizeof head);
    say_u32(bytes);
    say_payload(m, r, (tt_status)head[0]);
    end(number == HELLO_NUMBER ? 0 : state.token, symbols);
}

/* How much of the request has come; `have` counts words, as `at` does. */
static void acknowledge(uint16_t number, uint8_t *symbols)
{
    begin(number, number == state.filling ? (uint16_t)(state.have / 4u) : (uint16_t)0, symbols);
    end(number == HELLO_NUMBER ? 0 : state.token, symbols);
}

static int is_ours(uint32_t residue, uint16_t number)
{
    return number == HELLO_NUMBER ? residue == TT_CRC_RESIDUE : state.token != 0 && residue == state.residue;
}

static uint16_t u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | (uint32_t)at[1] << 8);
}

static uint32_t u32(const uint8_t *at)
{
    return u16(at) | (uint32_t)u16(at + 2) << 16;
}

/* A good packet: its head, `bytes` behind it, of which a frame that was `placed` has already moved all. */
static void packet(const tt_model *m, const uint8_t *body, uint32_t bytes, int placed, uint32_t residue, uint8_t *symbols)
{
    const uint16_t head = u16(body), at = u16(body + 2);
    const uint16_t number = head & MOST_NUMBER;
    const uint8_t *const data = body + TT_FRAME_HEAD_BYTES;
    if (!is_ours(residue, number)) {
        return;
    }
    const int done = number == HELLO_NUMBER ? (head & READ) != 0 : number == state.done;
    if (head & READ) {
        const uint32_t most = bytes < 4 ? 0u : u32(data);
        done ? answer(m, number, at, symbols && most > 4 ? 4u : most, symbols) : acknowledge(number, symbols);
        return;
    }
    if (!done) {
        if (number != HELLO_NUMBER && number != next_number()) {
            return;
        }
        if (placed) {
            state.have = bytes;
        }
        if (!(placed ? bytes == message_bytes(m->request) : take(m, number, at, data, bytes))) {
            acknowledge(number, symbols);
            return;
        }
        finish(m, number);
    }
    const int whole = at == 0 && bytes == message_bytes(number == HELLO_NUMBER ? m->request : &state.request);
    answer(m, number, 0, whole ? WHOLE : bytes, symbols);
}

/* A frame that is no short one is the whole of the next request, or nothing: it goes straight to where the model reads it. */
static const tt_piece *place(const uint8_t *first)
{
    const tt_model *const m = state.model;
    if (state.token == 0 || u32(first) != next_number()) {
        return 0;
    }
    state.filling = next_number();
    state.have = 0;
    for (uint32_t i = TT_FRAME_HEAD_BYTES; i < TT_FRAME_SHORT_BYTES; ++i) {
        uint8_t *const to = tt_frame_at(m->pieces, i - TT_FRAME_HEAD_BYTES);
        if (to) {
            *to = first[i];
        }
    }
    return m->pieces;
}

void tt_link_take(const tt_model *model, uint8_t byte)
{
    state.model = model;
    const tt_frame *const frame = tt_frame_take(byte, place);
    if (frame) {
        const uint32_t bytes = frame->bytes - TT_FRAME_HEAD_BYTES - TT_FRAME_CRC_BYTES;
        packet(model, frame->first, bytes, frame->bytes > TT_FRAME_SHORT_BYTES, frame->residue, 0);
    }
    uint8_t symbols[TT_SYMBOLS_BYTES];
    if (tt_symbols_take(byte, symbols)) {
        const uint32_t residue = tt_crc(TT_CRC_START, symbols, sizeof symbols);
        if (is_ours(residue, u16(symbols) & MOST_NUMBER)) {
            tt_symbols_settle();
            uint8_t sent[TT_SYMBOLS_BYTES];
            packet(model, symbols, 4, 0, residue, sent);
        }
    }
}

void tt_link_serve(const tt_model *model)
{
    for (int byte = tt_port_get(); byte >= 0; byte = tt_port_get()) {
        tt_link_take(model, (uint8_t)byte);
    }
}

void tt_fault(uint32_t pc, uint32_t cause, uint32_t address)
{
    const uint16_t head[2] = {READ | HELLO_NUMBER, 0};
    const uint32_t said[5] = {TT_ERROR_FAULT, 3 * sizeof pc, pc, cause, address};
    tt_frame_begin();
    tt_frame_put(head, sizeof head);
    tt_frame_put(said, sizeof said);
    tt_frame_end(0);
    for (;;) {
    }
}
