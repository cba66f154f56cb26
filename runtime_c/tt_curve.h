/* SPDX-License-Identifier: Apache-2.0 */
/* erf, e^x - 1, softplus, gelu, mish and their slopes, as tt_math.h: the same bits on every target, no libm, nothing fused.
 *
 * tt_erff and tt_expm1f: errors below 3 units in the last place; what is made of them is near that where it does not cancel. */
#ifndef TT_CURVE_H
#define TT_CURVE_H

#include "tt_math.h"

/* |x| < 1: x + x P(x^2); else 1 - e^-(a + a P(a)), a = |x|; from 4 on it is 1. */
static inline float tt_erff(float x)
{
    const float a = x < 0.0f ? -x : x;
    if (a < 1.0f) {
        const float z = x * x;
        float p = 0x1.4a5690p-14f;
        p = p * z + -0x1.a45088p-11f;
        p = p * z + 0x1.541270p-8f;
        p = p * z + -0x1.b7fabap-6f;
        p = p * z + 0x1.ce2d10p-4f;
        p = p * z + -0x1.81273ep-2f;
        p = p * z + 0x1.06eba8p-3f;
        return x + x * p;
    }
    if (a >= 4.0f) {
        return x < 0.0f ? -1.0f : 1.0f;
    }
    if (!(a < 4.0f)) {
        return x; /* NaN */
    }
    float p = 0x1.119fdep-16f;
    p = p * a + -0x1.831846p-12f;
    p = p * a + 0x1.f2bfbep-9f;
    p = p * a + -0x1.89c008p-6f;
    p = p * a + 0x1.b3fbaep-4f;
    p = p * a + 0x1.452d0ep-1f;
    p = p * a + 0x1.0771d8p-3f;
    const float y = 1.0f - tt_expf(-(a + a * p));
    return x < 0.0f ? -y : y;
}

/* |x| < 1/2: x + x^2 P(x); else e^x - 1. */
static inline float tt_expm1f(float x)
{
    if (!(x > -0.5f && x < 0.5f)) {
        return tt_expf(x) - 1.0f;
    }
    float p = 0x1.a2463ap-13f;
    p = p * x + 0x1.6e88dcp-10f;
    p = p * x + 0x1.111040p-7f;
    p = p * x + 0x1.555380p-5f;
    p = p * x + 0x1.555556p-3f;
    p = p * x + 0.5f;
    return x + x * x * p;
}

/* max(x, 0) + ln(1 + e^-|x|). The rounding of 1 + e divides out of ln(u) e / (u - 1) (Kahan). */
static inline float tt_softplusf(float x)
{
    const float e = tt_expf(x < 0.0f ? x : -x);
    const float u = 1.0f + e;
    const float more = u == 1.0f ? e : tt_logf(u) * (e / (u - 1.0f));
    return x > 0.0f ? x + more : more;
}

/* g + x sigmoid(x) (1 - g^2) with g = tanh(softplus x). */
static inline float tt_mish_slopef(float x)
{
    const float g = tt_tanhf(tt_softplusf(x));
    return g + x * tt_sigmoidf(x) * (1.0f - g * g);
}

/* The part of x that gelu lets through: the normal distribution function. */
static inline float tt_gelu_erff(float x)
{
    return 0.5f * (1.0f + tt_erff(x * 0x1.6a09e6p-1f));
}

/* It, and x times the normal density. */
static inline float tt_gelu_erf_slopef(float x)
{
    return tt_gelu_erff(x) + x * (tt_expf(-0.5f * x * x) * 0x1.988454p-2f);
}

static inline float tt_gelu_tanhf(float x)
{
    return 0.5f * (1.0f + tt_tanhf(0x1.988454p-1f * (x + 0x1.6e4e26p-5f * x * x * x)));
}

static inline float tt_gelu_tanh_slopef(float x)
{
    const float g = tt_gelu_tanhf(x);
    return g + 2.0f * x * g * (1.0f - g) * (0x1.988454p-1f * (1.0f + 0x1.12ba9ep-3f * x * x));
}

#endif
