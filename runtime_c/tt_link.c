/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_link.h"

#include "tt_frame.h"
#include "tt_port.h"

/* What outlives a request. */
static struct {
    uint64_t ticks; /* of the last call of the model */
    uint32_t calls;
    float loss;
    uint8_t trained; /* seq of the last train request: one that is sent again is answered again, not executed again */
    uint8_t status;  /* its outcome */
} state;

static void put_u32(uint32_t value)
{
    tt_frame_put(&value, sizeof value);
}

static void put_text(const char *text)
{
    uint32_t bytes = 1;
    while (text[bytes - 1] != '\0') {
        ++bytes;
    }
    tt_frame_put(text, bytes);
}

static void answer(uint8_t seq, tt_status status)
{
    const uint8_t head[4] = {seq, (uint8_t)status, 0, 0};
    tt_frame_begin();
    tt_frame_put(head, sizeof head);
}

static void hello(const tt_model *m)
{
    put_u32(TT_LINK_VERSION);
    put_u32(m->input_bytes);
    put_u32(m->target_bytes);
    put_u32(m->output_bytes);
    put_u32(m->arena_bytes);
    put_u32(m->ctx_bytes);
    put_u32(m->param_count);
    put_u32(m->train_step != 0);
    put_u32(m->payload_bytes);
    put_u32(m->schemes);
    tt_frame_put(m->hash, 32);
    put_text(m->name);
    put_text(m->board);
}

static tt_status run(const tt_model *m, uint8_t command, uint32_t bytes)
{
    const uint32_t want = command == TT_INFER ? m->input_bytes : ((m->input_bytes + 3u) & ~3u) + m->target_bytes;
    if ((command == TT_TRAIN && !m->train_step) || (command == TT_EVALUATE && !m->evaluate)) {
        return TT_ERROR_COMMAND;
    }
    if (bytes != want) {
        return TT_ERROR_LENGTH;
    }
    tt_port_count_start();
    const tt_status status = command == TT_INFER   ? m->infer(m->input, m->output)
                             : command == TT_TRAIN ? m->train_step(m->input, m->target, &state.loss)
                                                   : m->evaluate(m->input, m->target, &state.loss, m->output);
    state.ticks = tt_port_count_stop();
    ++state.calls;
    return tt_stack_intact() ? status : TT_ERROR_STACK;
}

static tt_status write_param(const tt_model *m, const tt_request *r, uint32_t bytes)
{
    const tt_param *p = &m->params()[r->index];
    if (r->offset > p->bytes || bytes > p->bytes - r->offset) {
        return TT_ERROR_ARGUMENT;
    }
    unsigned char *to = m->arena + p->offset + r->offset;
    for (uint32_t i = 0; i < bytes; ++i) {
        to[i] = *tt_frame_at(m->pieces, (uint32_t)sizeof *r + i);
    }
    return TT_OK;
}

static tt_status set(const tt_model *m, uint8_t command, uint32_t bytes)
{
    if (!m->train_step) {
        return TT_ERROR_COMMAND;
    }
    if (bytes != 4) {
        return TT_ERROR_LENGTH;
    }
    if (command == TT_SET_SCHEME) {
        return m->set_scheme(*(const uint32_t *)(const void *)m->input);
    }
    (command == TT_SET_LR ? m->set_lr : m->set_skip_below)(*(const float *)(const void *)m->input);
    return TT_OK;
}

static void reply(const tt_model *m, const tt_request *r, uint32_t bytes)
{
    const uint32_t length = bytes == sizeof(uint32_t) ? *(const uint32_t *)(const void *)m->input : 0u;
    tt_status status = TT_OK;
    if (r->command != TT_TRAIN) {
        state.trained = 0; /* numbers come round again: only the request before this one can be a repetition */
    }
    if (r->command >= TT_PARAM_INFO && r->command <= TT_WRITE_PARAM && r->index >= m->param_count) {
        answer(r->seq, TT_ERROR_ARGUMENT);
        return;
    }
    switch (r->command) {
    case TT_HELLO:
        answer(r->seq, TT_OK);
        hello(m);
        return;
    case TT_INFER:
    case TT_EVALUATE:
        status = run(m, r->command, bytes);
        answer(r->seq, status);
        if (status == TT_OK) {
            if (r->command == TT_EVALUATE) {
                tt_frame_put(&state.loss, sizeof state.loss);
            }
            tt_frame_put(m->output, m->output_bytes);
        }
        return;
    case TT_TRAIN:
        if (r->seq != state.trained) {
            state.status = (uint8_t)run(m, r->command, bytes);
            state.trained = r->seq;
        }
        answer(r->seq, (tt_status)state.status);
        tt_frame_put(&state.loss, sizeof state.loss);
        tt_frame_put(&state.ticks, sizeof state.ticks);
        return;
    case TT_PARAM_INFO:
        answer(r->seq, TT_OK);
        put_u32(m->params()[r->index].bytes);
        put_u32((uint32_t)m->params()[r->index].tag);
        put_text(m->params()[r->index].name);
        return;
    case TT_READ_PARAM: {
        const tt_param *p = &m->params()[r->index];
        if (bytes != sizeof length) {
            status = TT_ERROR_LENGTH;
        } else if (r->offset > p->bytes || length > p->bytes - r->offset) {
            status = TT_ERROR_ARGUMENT;
        }
        answer(r->seq, status);
        if (status == TT_OK) {
            tt_frame_put(m->arena + p->offset + r->offset, length);
        }
        return;
    }
    case TT_WRITE_PARAM:
        answer(r->seq, write_param(m, r, bytes));
        return;
    case TT_SET_LR:
    case TT_SET_SCHEME:
    case TT_SET_SKIP_BELOW:
        answer(r->seq, set(m, r->command, bytes));
        return;
    case TT_SAVE:
    case TT_LOAD:
    case TT_FACTORY_RESET:
        if (!m->keep || bytes != sizeof length) {
            answer(r->seq, m->keep ? TT_ERROR_LENGTH : TT_ERROR_COMMAND);
            return;
        }
        answer(r->seq, m->keep(r->command, length));
        put_u32(*m->steps);
        tt_frame_put(m->kept, sizeof *m->kept);
        return;
    case TT_COUNTERS:
        answer(r->seq, TT_OK);
        tt_frame_put(&state.ticks, sizeof state.ticks);
        put_u32(state.calls);
        put_u32(tt_stack_used());
        put_u32(tt_stack_bytes());
        put_u32(*m->skipped);
        put_u32(tt_port_clock_hz());
#if TT_CORES > 1
        for (int32_t core = 0; core < (int32_t)TT_CORES; ++core) {
            const uint64_t count = tt_port_core_count(core);
            tt_frame_put(&count, sizeof count);
        }
#endif
        return;
    case TT_RESET:
        answer(r->seq, m->init());
        return;
    default:
        answer(r->seq, TT_ERROR_COMMAND);
    }
}

void tt_link_serve(const tt_model *model)
{
    for (;;) {
        const int32_t bytes = tt_frame_read(model->pieces);
        if (bytes == TT_FRAME_CLOSED) {
            return;
        }
        if (bytes < (int32_t)sizeof(tt_request)) {
            answer(0, TT_ERROR_FRAME);
        } else {
            reply(model, model->request, (uint32_t)bytes - (uint32_t)sizeof(tt_request));
        }
        tt_frame_end();
    }
}

void tt_fault(uint32_t pc, uint32_t cause, uint32_t address)
{
    answer(0, TT_ERROR_FAULT);
    put_u32(pc);
    put_u32(cause);
    put_u32(address);
    tt_frame_end();
    for (;;) {
    }
}
