/* SPDX-License-Identifier: Apache-2.0 */
/* exp, log, tanh, sigmoid and square root in plain fp32: the same bits on every target, no libm, no fused multiply-add.
 *
 * Errors are below 2.5 units in the last place over the whole range (tt_sqrtf: correctly rounded); infinities, NaN and
 * subnormal numbers are handled. Coefficients are Chebyshev fits of the named function on the named interval. */
#ifndef TT_MATH_H
#define TT_MATH_H

#include <stdint.h>

typedef union {
    float f;
    uint32_t u;
} tt_bits;

static inline float tt_from_bits(uint32_t u)
{
    tt_bits b;
    b.u = u;
    return b.f;
}

static inline uint32_t tt_to_bits(float f)
{
    tt_bits b;
    b.f = f;
    return b.u;
}

/* 2^n for n in [-126, 127]. */
static inline float tt_exp2i(int32_t n)
{
    return tt_from_bits((uint32_t)(n + 127) << 23);
}

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r). */
static inline float tt_expf(float x)
{
    if (!(x < 88.722840f)) {
        return x > 0.0f ? tt_from_bits(UINT32_C(0x7F800000)) : x; /* overflow, or NaN */
    }
    if (x < -103.972084f) {
        return 0.0f;
    }
    const int32_t n = (int32_t)(x * 0x1.715476p+0f + (x < 0.0f ? -0.5f : 0.5f));
    const float fn = (float)n;
    /* ln 2 in two parts: the first has 9 bits, so its product with n is exact. */
    const float r = (x - fn * 0x1.63p-1f) - fn * -0x1.bd0106p-13f;
    float p = 0x1.6d119ap-10f;
    p = p * r + 0x1.120c00p-7f;
    p = p * r + 0x1.555518p-5f;
    p = p * r + 0x1.5554dcp-3f;
    p = p * r + 0.5f;
    p = 1.0f + (r + r * r * p);
    const int32_t half = n / 2; /* two factors, so that neither leaves the normal range */
    return p * tt_exp2i(half) * tt_exp2i(n - half);
}

/* x = 2^n m, m in [1/sqrt 2, sqrt 2); s = (m - 1) / (m + 1); log m = 2 atanh s = 2 s + s^3 P(s^2). */
static inline float tt_logf(float x)
{
    uint32_t u = tt_to_bits(x);
    int32_t n = 0;
    if (u - UINT32_C(0x00800000) >= UINT32_C(0x7F000000)) { /* not a positive normal number */
        if ((u << 1) == 0u) {
            return -tt_from_bits(UINT32_C(0x7F800000));
        }
        if (!(x > 0.0f)) {
            return tt_from_bits(UINT32_C(0x7FC00000));
        }
        if (u >= UINT32_C(0x7F800000)) {
            return x;
        }
        u = tt_to_bits(x * 0x1p+25f);
        n = -25;
    }
    const uint32_t top = u + (UINT32_C(0x3F800000) - UINT32_C(0x3F3504F3));
    n += (int32_t)(top >> 23) - 127;
    const float f = tt_from_bits((top & UINT32_C(0x007FFFFF)) + UINT32_C(0x3F3504F3)) - 1.0f;
    const float s = f / (2.0f + f);
    const float z = s * s;
    float p = 0x1.2ee73ep-2f;
    p = p * z + 0x1.997c2ap-2f;
    p = p * z + 0x1.55555cp-1f;
    /* 2 s = f - s f: f is exact, so the rounding of s counts only to second order. */
    const float fn = (float)n;
    return fn * 0x1.63p-1f + (f - (s * (f - z * p) - fn * -0x1.bd0106p-13f));
}

/* Near 0: x + x^3 P(x^2); else sign(x) (1 - 2 / (e^2|x| + 1)). */
static inline float tt_tanhf(float x)
{
    const float a = x < 0.0f ? -x : x;
    if (a < 0.55f) {
        const float z = x * x;
        float p = -0x1.b13538p-8f;
        p = p * z + 0x1.5d220ep-6f;
        p = p * z + -0x1.b9a044p-5f;
        p = p * z + 0x1.110feap-3f;
        p = p * z + -0x1.555554p-2f;
        return x + x * (z * p);
    }
    if (a > 9.1f) {
        return x < 0.0f ? -1.0f : 1.0f;
    }
    const float t = 1.0f - 2.0f / (tt_expf(2.0f * a) + 1.0f);
    return x < 0.0f ? -t : t;
}

/* 1 / (1 + e^-x), written so that the exponential never overflows. */
static inline float tt_sigmoidf(float x)
{
    if (x >= 0.0f) {
        return 1.0f / (1.0f + tt_expf(-x));
    }
    const float e = tt_expf(x);
    return e / (1.0f + e);
}

/* Square root, correctly rounded: by the instruction, where there is one, or by binary digits of the mantissa. */
static inline float tt_sqrtf(float x)
{
    uint32_t u = tt_to_bits(x);
    if ((u << 1) == 0u || u >= UINT32_C(0x7F800000)) {
        return u > UINT32_C(0x7F800000) && (u << 1) != 0u ? tt_from_bits(UINT32_C(0x7FC00000)) : x; /* negative or NaN */
    }
#if defined(__ARM_FP) && (__ARM_FP & 4) && defined(__thumb__)
    float y;
    __asm("vsqrt.f32 %0, %1" : "=t"(y) : "t"(x));
    return y;
#elif defined(__riscv_flen)
    float y;
    __asm("fsqrt.s %0, %1" : "=f"(y) : "f"(x));
    return y;
#elif defined(__wasm__)
    return __builtin_sqrtf(x);
#else
    int32_t e = 0;
    if (u < UINT32_C(0x00800000)) {
        u = tt_to_bits(x * 0x1p+24f);
        e = -24;
    }
    e += (int32_t)(u >> 23) - 127;
    uint32_t rest = (u & UINT32_C(0x007FFFFF)) | UINT32_C(0x00800000);
    if (((uint32_t)e & 1u) != 0u) {
        rest <<= 1;
        e -= 1;
    }
    rest <<= 1;
    uint32_t root = 0u, twice = 0u;
    for (uint32_t bit = UINT32_C(0x01000000); bit != 0u; bit >>= 1) { /* 24 digits and one to round by */
        const uint32_t trial = twice + bit;
        if (trial <= rest) {
            twice = trial + bit;
            rest -= trial;
            root += bit;
        }
        rest <<= 1;
    }
    /* The root of a 24-bit number is never half way between two others: the last digit alone decides. */
    const uint32_t rounded = (root >> 1) + (root & 1u);
    return tt_from_bits(rounded + ((uint32_t)(e / 2 + 126) << 23));
#endif
}

#endif
