/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#define INPUTS 4
#define OUTPUTS 3
#define LR_OFFSET (4 * INPUTS * OUTPUTS)

/* Inputs that make the firmware misbehave, for the tests of the link. */
#define HANG (-1000.0f)
#define FAULT (-2000.0f)
#define DEEP (-3000.0f)
#define FAKE_DEEP_BYTES 1500

const uint8_t fake_model_hash[32] = {1, 2, 3, 0, 255, 0, 0, 7};

static const tt_param params[] = {
    {"layer.weight", 0, 4 * INPUTS * OUTPUTS, TT_F32},
    {"learning_rate", LR_OFFSET, 4, TT_F32},
};

const tt_param *fake_params(void)
{
    return params;
}

static const float factory[INPUTS * OUTPUTS] = {0.0f, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f, 0.75f, 0.875f, 1.0f, 1.125f, 1.25f, 1.375f};
static const void *const compiled[] = {factory};
static const tt_stored stored = {fake_model_hash, params, 1, FAKE_PARAM_COUNT, {UINT32_C(0x12345678), 0}};

static float *weights(const fake_ctx *ctx)
{
    return (float *)(void *)ctx->arena;
}

tt_status fake_init(fake_ctx *ctx, void *arena, size_t bytes)
{
    if (bytes < FAKE_ARENA_BYTES) {
        return TT_ERROR_ARENA;
    }
    ctx->arena = arena;
    ctx->count = 0;
    ctx->scheme = 0;
    ctx->skip_below = 0.0f;
    ctx->skip_above = 0.0f;
    ctx->skipped = 0;
    for (int32_t i = 0; i < INPUTS * OUTPUTS; ++i) {
        weights(ctx)[i] = factory[i];
    }
    fake_set_lr(ctx, 0.25f);
    return TT_OK;
}

void fake_set_lr(fake_ctx *ctx, float lr)
{
    *(float *)(void *)(ctx->arena + LR_OFFSET) = lr;
}

void fake_set_skip_below(fake_ctx *ctx, float loss)
{
    ctx->skip_below = loss;
}

void fake_set_skip_above(fake_ctx *ctx, float loss)
{
    ctx->skip_above = loss;
}

tt_status fake_set_scheme(fake_ctx *ctx, uint32_t scheme)
{
    if (scheme >= FAKE_SCHEMES) {
        return TT_ERROR_ARGUMENT;
    }
    ctx->scheme = scheme;
    return TT_OK;
}

/* Uses more stack than the tests reserve. */
__attribute__((noinline)) static int deep(void)
{
    volatile unsigned char frame[FAKE_DEEP_BYTES];
    for (int32_t i = 0; i < FAKE_DEEP_BYTES; ++i) {
        frame[i] = (unsigned char)i;
    }
    return frame[1];
}

static void misbehave(float x)
{
    if (x == HANG) {
        for (volatile int forever = 1; forever != 0;) {
        }
    }
    if (x == FAULT || (x == DEEP && deep() != 1)) {
        __builtin_trap();
    }
}

tt_status fake_infer(fake_ctx *ctx, const float *x, float *y)
{
    misbehave(x[0]);
    for (int32_t n = 0; n < OUTPUTS; ++n) {
        float sum = 0.0f;
        for (int32_t k = 0; k < INPUTS; ++k) {
            sum += weights(ctx)[n * INPUTS + k] * x[k];
        }
        y[n] = sum;
    }
    return TT_OK;
}

tt_status fake_evaluate(fake_ctx *ctx, const float *x, const float *target, float *loss, float *y)
{
    const tt_status status = fake_infer(ctx, x, y);
    float sum = 0.0f;
    for (int32_t n = 0; n < OUTPUTS; ++n) {
        sum += (y[n] - target[n]) * (y[n] - target[n]);
    }
    *loss = sum;
    return status;
}

tt_status fake_train_step(fake_ctx *ctx, const float *x, const float *target, float *loss)
{
    float y[OUTPUTS];
    const float lr = *(const float *)(const void *)(ctx->arena + LR_OFFSET);
    const tt_status status = fake_evaluate(ctx, x, target, loss, y);
    if (*loss < ctx->skip_below || (ctx->skip_above > 0.0f && *loss > ctx->skip_above)) {
        ++ctx->skipped;
        return status;
    }
    for (int32_t n = (int32_t)ctx->scheme; n < OUTPUTS; ++n) {
        for (int32_t k = 0; k < INPUTS; ++k) {
            weights(ctx)[n * INPUTS + k] -= lr * (2.0f * (y[n] - target[n]) * x[k]);
        }
    }
    ++ctx->count;
    return status;
}

tt_status fake_stats(const fake_ctx *ctx, tt_device_stats *stats)
{
    const tt_device_stats found = {ctx->count, ctx->skipped, 0, 0, 0, {0, 0, 0, 0}};
    *stats = found;
    return TT_OK;
}

tt_status fake_export_delta(const fake_ctx *ctx, tt_sink take, void *with)
{
    return tt_delta_export(&stored, compiled, ctx->arena, ctx->count, take, with);
}

tt_status fake_import_delta(fake_ctx *ctx, const void *delta, uint32_t bytes)
{
    const tt_status status = tt_delta_check(&stored, delta, bytes);
    if (status == TT_OK) {
        (void)fake_init(ctx, ctx->arena, FAKE_ARENA_BYTES);
        ctx->count = tt_delta_apply(&stored, delta, ctx->arena);
    }
    return status;
}
