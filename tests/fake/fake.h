/* SPDX-License-Identifier: Apache-2.0 */
/* A hand-written model with the interface of generated ones: y = W x (3 x 4), loss = sum (y - target)^2, one SGD step;
 * scheme 1 leaves the first row of W alone. */
#ifndef FAKE_H
#define FAKE_H

#include "tt_delta.h"
#include "tt_stats.h"
#include "tt_types.h"

#ifndef FAKE_ARENA_BYTES
#define FAKE_ARENA_BYTES 80
#endif
#define FAKE_ARENA_ALIGN 16
#define FAKE_INPUT_BYTES 16
#define FAKE_INPUT_OFFSET 64
#define FAKE_OUTPUT_BYTES 12
#define FAKE_TARGET_BYTES 12
#define FAKE_TRAINS 1
#define FAKE_SCHEMES 2
#define FAKE_PARAM_COUNT 2

extern const uint8_t fake_model_hash[32];

typedef struct {
    unsigned char *arena;
    uint32_t count;
    uint32_t scheme;
    float skip_below;
    float skip_above;
    uint32_t skipped;
} fake_ctx;

tt_status fake_init(fake_ctx *ctx, void *arena, size_t bytes);
tt_status fake_infer(fake_ctx *ctx, const float *x, float *y);
tt_status fake_evaluate(fake_ctx *ctx, const float *x, const float *target, float *loss, float *y);
tt_status fake_train_step(fake_ctx *ctx, const float *x, const float *target, float *loss);
void fake_set_lr(fake_ctx *ctx, float lr);
void fake_set_skip_below(fake_ctx *ctx, float loss);
void fake_set_skip_above(fake_ctx *ctx, float loss);
tt_status fake_set_scheme(fake_ctx *ctx, uint32_t scheme);
tt_status fake_stats(const fake_ctx *ctx, tt_device_stats *stats);
tt_status fake_export_delta(const fake_ctx *ctx, tt_sink take, void *with);
tt_status fake_import_delta(fake_ctx *ctx, const void *delta, uint32_t bytes);
const tt_param *fake_params(void);

#endif
