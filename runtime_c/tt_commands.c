/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_commands.h"

#include "tt_port.h"

/* What requests have left, for their answers. */
static struct {
    uint64_t ticks; /* of the last call of the model */
    uint32_t calls;
    float loss;
    uint32_t value; /* the first four bytes of the last payload */
} left;

static tt_status run(const tt_model *m, uint8_t command, uint32_t bytes)
{
    const uint32_t want = command == TT_INFER ? m->input_bytes : ((m->input_bytes + 3u) & ~3u) + m->target_bytes;
    if ((command == TT_TRAIN && !m->train_step) || (command == TT_EVALUATE && !m->evaluate) ||
        (command == TT_REMEMBER && !m->remember)) {
        return TT_ERROR_COMMAND;
    }
    if (bytes != want) {
        return TT_ERROR_LENGTH;
    }
    tt_port_count_start();
    const tt_status status = command == TT_INFER      ? m->infer(m->input, m->output)
                             : command == TT_TRAIN    ? m->train_step(m->input, m->target, &left.loss)
                             : command == TT_REMEMBER ? m->remember(m->input, m->target)
                                                      : m->evaluate(m->input, m->target, &left.loss, m->output);
    left.ticks = tt_port_count_stop();
    ++left.calls;
    return tt_stack_intact() ? status : TT_ERROR_STACK;
}

static tt_status write_param(const tt_model *m, const tt_request *r)
{
    const tt_param *p = &m->params()[r->index];
    if (r->offset > p->bytes || r->bytes > p->bytes - r->offset) {
        return TT_ERROR_ARGUMENT;
    }
    unsigned char *to = m->arena + p->offset + r->offset;
    for (uint32_t i = 0; i < r->bytes; ++i) {
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
    (command == TT_SET_LR           ? m->set_lr
     : command == TT_SET_SKIP_BELOW ? m->set_skip_below
                                    : m->set_skip_above)(*(const float *)(const void *)m->input);
    return TT_OK;
}

/* A part of the delta on its way: what lies before it is left out, and what lies behind it is never made. */
typedef struct {
    tt_say *say;
    uint32_t before, bytes;
} part;

static tt_status take_part(void *with, const void *bytes, uint32_t count)
{
    part *p = (part *)with;
    const uint32_t before = p->before < count ? p->before : count;
    const uint32_t some = p->bytes < count - before ? p->bytes : count - before;
    if (some > 0) {
        p->say((const uint8_t *)bytes + before, some);
    }
    p->before -= before;
    p->bytes -= some;
    return p->bytes == 0 ? TT_MORE : TT_OK;
}

static tt_status check_export(const tt_model *m, uint32_t bytes)
{
    part nothing = {0, 0, 0};
    if (!m->export_delta) {
        return TT_ERROR_COMMAND;
    }
    if (bytes != sizeof left.value) {
        return TT_ERROR_LENGTH;
    }
    const tt_status status = m->export_delta(take_part, &nothing);
    return status == TT_MORE ? TT_OK : status;
}

/* A delta without runs: weights of the factory, and how many steps it is to those that are written behind it. */
static tt_status import_head(const tt_model *m, uint32_t bytes)
{
    uint8_t delta[TT_DELTA_LEAST_BYTES];
    if (!m->import_delta) {
        return TT_ERROR_COMMAND;
    }
    if (bytes != sizeof delta) {
        return TT_ERROR_LENGTH;
    }
    for (uint32_t i = 0; i < bytes; ++i) {
        delta[i] = *tt_frame_at(m->pieces, (uint32_t)sizeof(tt_request) + i);
    }
    return m->import_delta(delta, bytes);
}

static tt_device_stats stats_of(const tt_model *m)
{
    tt_device_stats stats = {0, 0, 0, 0, 0, {0, 0, 0, 0}};
    if (m->stats) {
        (void)m->stats(&stats);
    }
    return stats;
}

static tt_status read_param(const tt_model *m, const tt_request *r)
{
    const tt_param *p = &m->params()[r->index];
    if (r->bytes != sizeof left.value) {
        return TT_ERROR_LENGTH;
    }
    return r->offset > p->bytes || left.value > p->bytes - r->offset ? TT_ERROR_ARGUMENT : TT_OK;
}

tt_status tt_execute(const tt_model *m, const tt_request *r)
{
    left.value = *(const uint32_t *)(const void *)m->input;
    if (r->bytes > m->payload_bytes) {
        return TT_ERROR_LENGTH;
    }
    if (r->command >= TT_PARAM_INFO && r->command <= TT_WRITE_PARAM && r->index >= m->param_count) {
        return TT_ERROR_ARGUMENT;
    }
    switch (r->command) {
    case TT_INFER:
    case TT_EVALUATE:
    case TT_TRAIN:
    case TT_REMEMBER:
        return run(m, r->command, r->bytes);
    case TT_READ_PARAM:
        return read_param(m, r);
    case TT_WRITE_PARAM:
        return write_param(m, r);
    case TT_SET_LR:
    case TT_SET_SCHEME:
    case TT_SET_SKIP_BELOW:
    case TT_SET_SKIP_ABOVE:
        return set(m, r->command, r->bytes);
    case TT_SAVE:
    case TT_LOAD:
    case TT_FACTORY_RESET:
        if (!m->keep) {
            return TT_ERROR_COMMAND;
        }
        return r->bytes == sizeof left.value ? m->keep(r->command, left.value) : TT_ERROR_LENGTH;
    case TT_EXPORT_DELTA:
        return check_export(m, r->bytes);
    case TT_IMPORT_DELTA:
        return import_head(m, r->bytes);
    case TT_RESET:
        return m->init();
    case TT_HELLO:
    case TT_PARAM_INFO:
    case TT_COUNTERS:
        return TT_OK;
    case TT_STATS:
        return m->stats ? TT_OK : TT_ERROR_COMMAND;
    default:
        return TT_ERROR_COMMAND;
    }
}

static void tell_u32(tt_say *say, uint32_t value)
{
    say(&value, sizeof value);
}

void tt_say_text(tt_say *say, const char *text)
{
    uint32_t bytes = 1;
    while (text[bytes - 1] != '\0') {
        ++bytes;
    }
    say(text, bytes);
}

void tt_tell(const tt_model *m, const tt_request *r, tt_status status, tt_say *say)
{
    if (r->command == TT_TRAIN) { /* overflow is an answer, too */
        say(&left.loss, sizeof left.loss);
        say(&left.ticks, sizeof left.ticks);
        return;
    }
    if (r->command >= TT_SAVE && r->command <= TT_FACTORY_RESET && m->keep) { /* so is what the flash holds */
        const tt_device_stats stats = stats_of(m);
        tell_u32(say, stats.steps);
        say(&stats.store, sizeof stats.store);
        return;
    }
    if (status != TT_OK) {
        return;
    }
    switch (r->command) {
    case TT_EVALUATE:
        say(&left.loss, sizeof left.loss);
        say(m->output, m->output_bytes);
        return;
    case TT_INFER:
        say(m->output, m->output_bytes);
        return;
    case TT_PARAM_INFO:
        tell_u32(say, m->params()[r->index].bytes);
        tell_u32(say, (uint32_t)m->params()[r->index].tag);
        tt_say_text(say, m->params()[r->index].name);
        return;
    case TT_READ_PARAM:
        say(m->arena + m->params()[r->index].offset + r->offset, left.value);
        return;
    case TT_COUNTERS:
        say(&left.ticks, sizeof left.ticks);
        tell_u32(say, left.calls);
        tell_u32(say, tt_stack_used());
        tell_u32(say, tt_stack_bytes());
        tell_u32(say, stats_of(m).skipped);
        tell_u32(say, tt_port_clock_hz());
#if TT_CORES > 1
        for (int32_t core = 0; core < (int32_t)TT_CORES; ++core) {
            const uint64_t count = tt_port_core_count(core);
            say(&count, sizeof count);
        }
#endif
        return;
    case TT_STATS: {
        const tt_device_stats stats = stats_of(m);
        say(&stats, sizeof stats);
        return;
    }
    case TT_EXPORT_DELTA: {
        part some = {say, r->offset, left.value};
        (void)m->export_delta(take_part, &some);
        return;
    }
    default:
        return;
    }
}
