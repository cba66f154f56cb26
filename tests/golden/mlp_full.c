/* SPDX-License-Identifier: Apache-2.0 */
/* mlp: made by tinytrain. One straight line of kernel calls per entry point; m is the arena. */
#include "mlp.h"
#include "mlp_kernels.h"
#include "mlp_weights.h"

#define TT_AT(type, offset) ((type *)(void *)(m + (offset)))


static const tt_param params[] = {
    { "fc1_weight", 0, 8192, TT_F32 },
    { "fc1_bias", 8192, 128, TT_F32 },
    { "fc2_weight", 8320, 2048, TT_F32 },
    { "fc2_bias", 10368, 64, TT_F32 },
    { "fc3_weight", 10432, 640, TT_F32 },
    { "fc3_bias", 11072, 40, TT_F32 },
    { "learning_rate", 11112, 4, TT_F32 },
    { "", 0, 0, TT_F32 },
};

const tt_param *mlp_params(void)
{
    return params;
}

static void tt_copy(void *to, const void *from, uint32_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    while (bytes-- > 0) {
        *t++ = *f++;
    }
}

tt_status mlp_init(mlp_ctx *ctx, void *arena, size_t bytes)
{
    if (ctx == NULL || arena == NULL) {
        return TT_ERROR_ARGUMENT;
    }
    if (bytes < MLP_ARENA_BYTES || ((uintptr_t)arena & (MLP_ARENA_ALIGN - 1)) != 0) {
        return TT_ERROR_ARENA;
    }
    unsigned char *m = arena;
    ctx->arena = m;
    ctx->count = 0;
    tt_copy(m + 0, mlp_fc1_weight, 8192);
    for (uint32_t i = 0; i < 128; ++i) {
        m[8192 + i] = 0;
    }
    tt_copy(m + 8320, mlp_fc2_weight, 2048);
    for (uint32_t i = 0; i < 64; ++i) {
        m[10368 + i] = 0;
    }
    tt_copy(m + 10432, mlp_fc3_weight, 640);
    for (uint32_t i = 0; i < 40; ++i) {
        m[11072 + i] = 0;
    }
    tt_copy(m + 11112, mlp_learning_rate, 4);
    return TT_OK;
}

void mlp_set_lr(mlp_ctx *ctx, float lr)
{
    unsigned char *m = ctx->arena;
    *TT_AT(float, 11112) = lr;
}

tt_status mlp_infer(mlp_ctx *ctx, const float *x, float *y)
{
    if (ctx == NULL || ctx->arena == NULL || x == NULL || y == NULL) {
        return TT_ERROR_ARGUMENT;
    }
    unsigned char *m = ctx->arena;
    tt_dense_add_relu_f32_0(x, TT_AT(float, 0), TT_AT(float, 8192), TT_AT(float, 11120));    /* fc1 */
    tt_dense_add_relu_f32_1(TT_AT(float, 11120), TT_AT(float, 8320), TT_AT(float, 10368), TT_AT(float, 11248));    /* fc2 */
    tt_dense_add_f32_2(TT_AT(float, 11248), TT_AT(float, 10432), TT_AT(float, 11072), TT_AT(float, 11120));    /* fc3 */
    tt_copy(y, TT_AT(float, 11120), MLP_OUTPUT_BYTES);
    (void)m;
    return TT_OK;
}

static tt_status check(mlp_ctx *ctx, const float *x, const int32_t *target, float *loss)
{
    if (ctx == NULL || ctx->arena == NULL || x == NULL || target == NULL || loss == NULL) {
        return TT_ERROR_ARGUMENT;
    }
    if (target[0] < 0 || target[0] >= 10) {
        return TT_ERROR_LABEL;
    }
    return TT_OK;
}

tt_status mlp_evaluate(mlp_ctx *ctx, const float *x, const int32_t *target, float *loss, float *y)
{
    const tt_status status = y == NULL ? TT_ERROR_ARGUMENT : check(ctx, x, target, loss);
    if (status != TT_OK) {
        return status;
    }
    unsigned char *m = ctx->arena;
    tt_dense_add_relu_f32_0(x, TT_AT(float, 0), TT_AT(float, 8192), TT_AT(float, 11120));    /* fc1 */
    tt_dense_add_relu_f32_1(TT_AT(float, 11120), TT_AT(float, 8320), TT_AT(float, 10368), TT_AT(float, 11248));    /* fc2 */
    tt_dense_add_f32_2(TT_AT(float, 11248), TT_AT(float, 10432), TT_AT(float, 11072), TT_AT(float, 11120));    /* fc3 */
    tt_softmax_cross_entropy_f32_3(TT_AT(float, 11120), target, TT_AT(float, 11160));    /* loss */
    tt_copy(loss, TT_AT(float, 11160), sizeof(float));
    tt_copy(y, TT_AT(float, 11120), MLP_OUTPUT_BYTES);
    return TT_OK;
}

tt_status mlp_train_step(mlp_ctx *ctx, const float *x, const int32_t *target, float *loss)
{
    const tt_status status = check(ctx, x, target, loss);
    if (status != TT_OK) {
        return status;
    }
    unsigned char *m = ctx->arena;
    tt_dense_add_relu_f32_0(x, TT_AT(float, 0), TT_AT(float, 8192), TT_AT(float, 11120));    /* fc1 */
    tt_dense_add_relu_f32_1(TT_AT(float, 11120), TT_AT(float, 8320), TT_AT(float, 10368), TT_AT(float, 11248));    /* fc2 */
    tt_dense_add_f32_2(TT_AT(float, 11248), TT_AT(float, 10432), TT_AT(float, 11072), TT_AT(float, 11312));    /* fc3 */
    tt_softmax_cross_entropy_f32_4(TT_AT(float, 11312), target, TT_AT(float, 11440), TT_AT(float, 11312));    /* loss */
    tt_softmax_cross_entropy_grad_f32_5(TT_AT(float, 11312), target, TT_AT(float, 11312));    /* loss */
    tt_sgd_f32_6(TT_AT(float, 11312), TT_AT(float, 11072), TT_AT(float, 11112), TT_AT(float, 11072));    /* fc3_bias */
    tt_dense_grad_x_relu_grad_f32_7(TT_AT(float, 11312), TT_AT(float, 10432), TT_AT(float, 11248), TT_AT(float, 11376));    /* fc3 */
    tt_dense_grad_w_sgd_f32_8(TT_AT(float, 11312), TT_AT(float, 11248), TT_AT(float, 10432), TT_AT(float, 11112), TT_AT(float, 10432));    /* fc3 */
    tt_sgd_f32_9(TT_AT(float, 11376), TT_AT(float, 10368), TT_AT(float, 11112), TT_AT(float, 10368));    /* fc2_bias */
    tt_dense_grad_x_relu_grad_f32_10(TT_AT(float, 11376), TT_AT(float, 8320), TT_AT(float, 11120), TT_AT(float, 11248));    /* fc2 */
    tt_dense_grad_w_sgd_f32_11(TT_AT(float, 11376), TT_AT(float, 11120), TT_AT(float, 8320), TT_AT(float, 11112), TT_AT(float, 8320));    /* fc2 */
    tt_dense_grad_w_sgd_f32_12(TT_AT(float, 11248), x, TT_AT(float, 0), TT_AT(float, 11112), TT_AT(float, 0));    /* fc1 */
    tt_sgd_f32_13(TT_AT(float, 11248), TT_AT(float, 8192), TT_AT(float, 11112), TT_AT(float, 8192));    /* fc1_bias */
    tt_copy(loss, TT_AT(float, 11440), sizeof(float));
    return TT_OK;
}
