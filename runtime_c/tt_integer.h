/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic of training without floating point: the same bits as tinytrain/ops/fixed.py on every target.
 *
 * No function here computes with a float; floats of the interface are taken apart and put together by their bits. */
#ifndef TT_INTEGER_H
#define TT_INTEGER_H

#include <stdint.h>

/* Position of the highest one, counted from 1; 0 of 0. */
static inline int32_t tt_bit_length(uint64_t v)
{
    int32_t bits = 0;
    for (int32_t step = 32; step > 0; step >>= 1) {
        if ((v >> step) != 0) {
            v >>= step;
            bits += step;
        }
    }
    return v != 0 ? bits + 1 : bits;
}

static inline uint32_t tt_magnitude(int32_t v)
{
    const uint32_t sign = (uint32_t)(v >> 31); /* all ones or none: no branch */
    return ((uint32_t)v ^ sign) - sign;
}

/* How numbers below 2^(shift + 7) are cut to seven bits: first `by` bits go that count at most as dice, then `half`. */
typedef struct {
    int32_t by, up, half;
    uint32_t dice;
    uint32_t times; /* what factors are multiplied by first */
} tt_cut;

/* The upper half of the bits that go (24 at most) is the chance of rounding away from zero, their lower half the random number
 * (pseudo-stochastic rounding, arXiv 2009.13108). A single bit has none, and always rounds: it becomes two, the lower one 0. */
static inline tt_cut tt_cut_to7(uint64_t largest)
{
    const int32_t bits = tt_bit_length(largest) - 7, shift = bits > 1 ? bits : bits == 1 ? 2 : 0;
    const int32_t half = shift > 48 ? 24 : shift >> 1, by = shift - half;
    const tt_cut cut = { by, (32 - by) & 31, half, ((uint32_t)1 << half) - 1u, bits == 1 ? 2u : 1u };
    return cut;
}

/* v·factor / 2^shift to seven bits and a sign. It is rounded where chance > dice: where chance + (2^half - 1 - dice) carries. */
static inline int8_t tt_round7(int32_t v, uint32_t factor, tt_cut cut)
{
    const uint32_t sign = (uint32_t)(v >> 31);
    const uint64_t whole = (uint64_t)tt_magnitude(v) * factor;
    const uint32_t low = (uint32_t)whole, kept = low >> cut.by | (uint32_t)(whole >> 32) << cut.up; /* nothing is above where by is 0 */
    const uint32_t rounded = (kept + (cut.dice & ~low)) >> cut.half;
    const uint32_t limited = rounded - (rounded >> 7); /* 128 becomes 127 */
    uint32_t result = (limited ^ sign) - sign;
#if defined(__arm__)
    __asm("" : "+r"(result)); /* a whole register: a byte of the sign would be cut out of it first */
#endif
    return (int8_t)result;
}

/* round(g·m / 2^s), s in 1..62, by a random word: up with the chance of what is cut off. */
static inline int64_t tt_step(int32_t g, int32_t m, int32_t s, uint32_t word)
{
    const uint64_t dither = s <= 32 ? (uint64_t)(word >> (32 - s)) : (uint64_t)word << (s - 32);
    return ((int64_t)g * m + (int64_t)dither) >> s;
}

/* w - step within [low, high], the step within [-most, most]; it may be as large as 2^61 before. */
static inline int32_t tt_saturated(int32_t w, int64_t step, int32_t most, int32_t low, int32_t high)
{
    const int32_t bounded = step < -most ? -most : step > most ? most : (int32_t)step;
    const int64_t moved = (int64_t)w - bounded;
    return moved < low ? low : moved > high ? high : (int32_t)moved;
}

/* v within int8. */
static inline int32_t tt_saturate8(int32_t v)
{
#if defined(__ARM_FEATURE_SAT)
    int32_t q;
    __asm("ssat %0, #8, %1" : "=r"(q) : "r"(v));
    return q;
#else
    return v < -128 ? -128 : v > 127 ? 127 : v;
#endif
}

/* w - tt_step(g, m, s, word), as tt_saturated says; apart, so that its registers are not missed where steps are small. */
__attribute__((noinline, unused)) static int32_t tt_leap(
    int32_t w, int32_t g, int32_t m, int32_t s, uint32_t word, int32_t most, int32_t low, int32_t high)
{
    return tt_saturated(w, tt_step(g, m, s, word), most, low, high);
}

/* The same for an int8 weight, without shifts of 64 bits. */
static inline int32_t tt_stepped(int32_t w, int32_t g, int32_t m, int32_t s, uint32_t word, int32_t most, int32_t low, int32_t high)
{
    if (s <= 32) {
        return tt_leap(w, g, m, s, word, most, low, high);
    }
    const int32_t by = s - 32;
    const uint64_t dither = (uint64_t)(word >> (32 - by)) << 32 | (word << by);
    const int32_t step = (int32_t)(((int64_t)g * m + (int64_t)dither) >> 32) >> by;
    const int32_t to = tt_saturate8(w - (step < -most ? -most : step > most ? most : step));
    return low > -128 && to < low ? low : high < 127 && to > high ? high : to;
}

#define TT_MOST_VELOCITY (1 << 30)

/* v within 2^30. */
static inline int32_t tt_velocity_within(int64_t v)
{
    return v < -TT_MOST_VELOCITY ? -TT_MOST_VELOCITY : v > TT_MOST_VELOCITY ? TT_MOST_VELOCITY : (int32_t)v;
}

/* g·2^up to the nearest integer, within 2^30. */
static inline int32_t tt_scaled(int32_t g, int32_t up)
{
    const int32_t left = up < 0 ? 0 : up < 31 ? up : 31, right = up >= 0 ? 0 : up > -40 ? -up : 40;
    const int64_t half = INT64_C(1) << right >> 1;
    return tt_velocity_within(((int64_t)g * (INT64_C(1) << left) + half) >> right);
}

/* mu·q·2^ahead + g, `mu` with 16 fraction bits and `ahead` from -1 to 1; within 2^30. */
static inline int32_t tt_velocity(int32_t g, int32_t q, int32_t mu, int32_t ahead)
{
    const int32_t by = ahead > 1 ? 0 : ahead < -1 ? 2 : 1 - ahead;
    return tt_velocity_within((int64_t)(mu * q * 2 >> by) + g);
}

/* g + mu·v, `mu` with 16 fraction bits; within 2^30. */
static inline int32_t tt_ahead(int32_t g, int32_t v, int32_t mu)
{
    return tt_velocity_within(((int64_t)mu * v >> 16) + g);
}

/* v / 2^16 as seven bits and a sign: up with the chance of what is cut off, which the upper half of a random word decides. */
static inline int8_t tt_velocity_kept(int32_t v, uint32_t word)
{
    const int32_t q = (v + (int32_t)(word >> 16)) >> 16;
    return (int8_t)(q < -127 ? -127 : q > 127 ? 127 : q);
}

/* Byte by byte: a compiler for a processor with floats would otherwise move them through float registers. */
static inline uint32_t tt_get_bits(const float *from)
{
    const unsigned char *bytes = (const unsigned char *)from;
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static inline void tt_put_bits(float *to, uint32_t bits)
{
    unsigned char *bytes = (unsigned char *)to;
    bytes[0] = (unsigned char)bits;
    bytes[1] = (unsigned char)(bits >> 8);
    bytes[2] = (unsigned char)(bits >> 16);
    bytes[3] = (unsigned char)(bits >> 24);
}

/* The fp32 number v·2^exponent, rounded toward zero; it must be a normal number. */
static inline uint32_t tt_float_bits(uint64_t v, int32_t exponent)
{
    const int32_t length = tt_bit_length(v);
    if (length == 0) {
        return 0;
    }
    const uint32_t mantissa = length > 24 ? (uint32_t)(v >> (length - 24)) : (uint32_t)v << (24 - length);
    return ((uint32_t)(length + exponent + 126) << 23) + (mantissa & UINT32_C(0x7FFFFF));
}

/* log2(v) of v in [1, 2^32) in units of 2^-20, by squaring: each square doubles the logarithm, its carry is the next bit. */
static inline uint32_t tt_log2_q20(uint32_t v)
{
    const int32_t length = tt_bit_length(v);
    uint64_t x = (uint64_t)v << (32 - length);
    uint32_t result = (uint32_t)(length - 1);
    for (int32_t bit = 0; bit < 20; ++bit) {
        x = (x * x) >> 31;
        result <<= 1;
        if ((x >> 32) != 0) {
            x >>= 1;
            ++result;
        }
    }
    return result;
}

#endif
