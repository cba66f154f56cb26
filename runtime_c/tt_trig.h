/* SPDX-License-Identifier: Apache-2.0 */
/* Circular and hyperbolic functions and their inverses, and rounding to whole numbers, as tt_math.h: the same bits on every target, no
 * libm, nothing fused. Infinities and NaN are handled; errors are below 4 units in the last place, and below 2^-38 of the circular
 * functions near their zeros beyond 8192. */
#ifndef TT_TRIG_H
#define TT_TRIG_H

#include "tt_curve.h"

#define TT_NAN tt_from_bits(UINT32_C(0x7FC00000))

/* x = n pi/2 + r, |r| <= pi/4: returns r, and n modulo 4. */
static inline float tt_quadrant(float x, int32_t *n)
{
    const float a = x < 0.0f ? -x : x;
    if (a < 8192.0f) {
        const int32_t whole = (int32_t)(x * 0x1.45f306p-1f + (x < 0.0f ? -0.5f : 0.5f));
        const float fn = (float)whole;
        /* pi/2 in three parts: the first two have 8 and 11 bits, so their products with n are exact. */
        *n = whole & 3;
        return ((x - fn * 0x1.92p+0f) - fn * 0x1.fb4p-12f) - fn * 0x1.4442d2p-24f;
    }
    if (!(a < tt_from_bits(UINT32_C(0x7F800000)))) {
        *n = 0;
        return TT_NAN;
    }
    /* Payne and Hanek: of the binary digits of 2/pi only those count that make quarters and less. */
    static const uint32_t digits[8] = { 0u, 0u, UINT32_C(0xA2F9836E), UINT32_C(0x4E441529), UINT32_C(0xFC2757D1), UINT32_C(0xF534DDC0),
                                        UINT32_C(0xDB629599), UINT32_C(0x3C439041) };
    const uint32_t u = tt_to_bits(a);
    const uint32_t mantissa = (u & UINT32_C(0x007FFFFF)) | UINT32_C(0x00800000);
    const uint32_t shift = (u >> 23) - 150u + 32u; /* a = mantissa 2^(shift - 32); shift is 22 at least */
    const uint32_t word = shift / 32u, bit = shift % 32u;
    uint32_t part[3];
    for (uint32_t i = 0; i < 3u; ++i) {
        part[i] = bit == 0u ? digits[word + i] : (digits[word + i] << bit) | (digits[word + i + 1u] >> (32u - bit));
    }
    const uint64_t low = (uint64_t)mantissa * part[2];
    const uint64_t middle = (uint64_t)mantissa * part[1] + (low >> 32);
    const uint64_t turns = ((uint64_t)(mantissa * part[0]) << 32) + middle; /* of pi/2, in units of 2^-32; whole ones wrap */
    const uint32_t fraction = (uint32_t)turns;
    uint32_t quarter = (uint32_t)(turns >> 32) + (fraction >> 31);
    const int negative = (fraction >> 31) != 0u;
    const uint32_t fine = negative ? 0u - (uint32_t)low : (uint32_t)low;
    const uint32_t coarse = negative ? ~fraction + (fine == 0u) : fraction;
    /* by words: nothing converts 64 bits where there is no library */
    const float r = ((float)coarse + (float)fine * 0x1p-32f) * 0x1.921fb6p-32f;
    if (x < 0.0f) {
        quarter = 0u - quarter;
    }
    *n = (int32_t)(quarter & 3u);
    return negative != (x < 0.0f) ? -r : r;
}

/* r + r^3 P(r^2) and 1 - r^2 / 2 + r^4 P(r^2) for |r| <= pi/4. */
static inline float tt_sine(float r)
{
    const float z = r * r;
    float p = -0x1.9aaec4p-13f;
    p = p * z + 0x1.110bf6p-7f;
    p = p * z + -0x1.555552p-3f;
    return r + r * (z * p);
}

static inline float tt_cosine(float r)
{
    const float z = r * r;
    float p = 0x1.9bb18cp-16f;
    p = p * z + -0x1.6c1274p-10f;
    p = p * z + 0x1.555554p-5f;
    return 1.0f - (0.5f * z - z * z * p);
}

static inline float tt_sinf(float x)
{
    int32_t n;
    const float r = tt_quadrant(x, &n);
    const float y = (n & 1) != 0 ? tt_cosine(r) : tt_sine(r);
    return (n & 2) != 0 ? -y : y;
}

static inline float tt_cosf(float x)
{
    int32_t n;
    const float r = tt_quadrant(x, &n);
    const float y = (n & 1) != 0 ? tt_sine(r) : tt_cosine(r);
    return ((n + 1) & 2) != 0 ? -y : y;
}

static inline float tt_tanf(float x)
{
    int32_t n;
    const float r = tt_quadrant(x, &n);
    return (n & 1) != 0 ? -(tt_cosine(r) / tt_sine(r)) : tt_sine(r) / tt_cosine(r);
}

/* |x| <= tan(pi/8): x + x^3 P(x^2); else pi/4 + atan((x - 1) / (x + 1)), or pi/2 - atan(1 / x). */
static inline float tt_atanf(float x)
{
    const float a = x < 0.0f ? -x : x;
    const float base = a > 0x1.3504f4p+1f ? 0x1.921fb6p+0f : a > 0x1.a8279ap-2f ? 0x1.921fb6p-1f : 0.0f;
    const float t = a > 0x1.3504f4p+1f ? -1.0f / a : a > 0x1.a8279ap-2f ? (a - 1.0f) / (a + 1.0f) : a;
    const float z = t * t;
    float p = -0x1.087c8ap-4f;
    p = p * z + 0x1.b82308p-4f;
    p = p * z + -0x1.242130p-3f;
    p = p * z + 0x1.999738p-3f;
    p = p * z + -0x1.555554p-2f;
    const float y = base + (t + t * (z * p));
    return x < 0.0f ? -y : y;
}

/* |x| <= 1/2: x + x^3 P(x^2). */
static inline float tt_asin_half(float x)
{
    const float z = x * x;
    float p = 0x1.390d52p-5f;
    p = p * z + 0x1.b20264p-6f;
    p = p * z + 0x1.70bc08p-5f;
    p = p * z + 0x1.3326a8p-4f;
    p = p * z + 0x1.55555ep-3f;
    return x + x * (z * p);
}

/* Beyond 1/2 by the angle of half as much: pi/2 - 2 asin(sqrt((1 - |x|) / 2)). */
static inline float tt_asinf(float x)
{
    const float a = x < 0.0f ? -x : x;
    if (!(a > 0.5f)) {
        return tt_asin_half(x);
    }
    const float y = 0x1.921fb6p+0f - 2.0f * tt_asin_half(tt_sqrtf(0.5f * (1.0f - a)));
    return x < 0.0f ? -y : y;
}

static inline float tt_acosf(float x)
{
    const float a = x < 0.0f ? -x : x;
    if (!(a > 0.5f)) {
        return 0x1.921fb6p+0f - (tt_asin_half(x) - -0x1.777a5cp-25f);
    }
    const float y = 2.0f * tt_asin_half(tt_sqrtf(0.5f * (1.0f - a)));
    return x < 0.0f ? 0x1.921fb6p+1f - y : y;
}

static inline float tt_sinhf(float x)
{
    const float a = x < 0.0f ? -x : x;
    const float e = tt_expm1f(a < 88.0f ? a : 0.5f * a);
    const float y = a < 88.0f ? 0.5f * (e + e / (e + 1.0f)) : 0.5f * e * e;
    return x < 0.0f ? -y : y;
}

static inline float tt_coshf(float x)
{
    const float a = x < 0.0f ? -x : x;
    const float e = tt_expf(a < 88.0f ? a : 0.5f * a);
    return a < 88.0f ? 0.5f * e + 0.5f / e : 0.5f * e * e;
}

/* ln(1 + x). The rounding of 1 + x divides out (Kahan). */
static inline float tt_log1pf(float x)
{
    const float u = 1.0f + x;
    return u == 1.0f ? x : u == x ? tt_logf(x) : tt_logf(u) * (x / (u - 1.0f));
}

/* Large arguments: ln(2 x). */
static inline float tt_asinhf(float x)
{
    const float a = x < 0.0f ? -x : x;
    const float y = a < 4096.0f ? tt_log1pf(a + a * a / (1.0f + tt_sqrtf(a * a + 1.0f))) : tt_logf(a) + 0x1.62e430p-1f;
    return x < 0.0f ? -y : y;
}

static inline float tt_acoshf(float x)
{
    const float t = x - 1.0f;
    return x < 1.0f ? TT_NAN : x < 4096.0f ? tt_log1pf(t + tt_sqrtf(2.0f * t + t * t)) : tt_logf(x) + 0x1.62e430p-1f;
}

static inline float tt_atanhf(float x)
{
    const float a = x < 0.0f ? -x : x;
    const float y = 0.5f * tt_log1pf(2.0f * a / (1.0f - a));
    return x < 0.0f ? -y : y;
}

/* From 2^23 on every float is whole. */
static inline float tt_floorf(float x)
{
    if (!(x > -0x1p+23f && x < 0x1p+23f)) {
        return x;
    }
    const float whole = (float)(int32_t)x;
    return whole > x ? whole - 1.0f : whole;
}

static inline float tt_ceilf(float x)
{
    return -tt_floorf(-x);
}

/* To the nearest, to the even one of two. */
static inline float tt_roundf(float x)
{
    const float below = tt_floorf(x);
    const float more = x - below;
    const int up = more > 0.5f || (more == 0.5f && tt_floorf(0.5f * below) * 2.0f < below);
    return up ? below + 1.0f : below;
}

/* The slope of x sigmoid(x). */
static inline float tt_swish_slopef(float x)
{
    const float g = tt_sigmoidf(x);
    return g * (1.0f + x * (1.0f - g));
}

#endif
