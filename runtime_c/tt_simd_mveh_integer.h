/* SPDX-License-Identifier: Apache-2.0 */
/* Integers beside the floats of tt_simd_mveh.h, which includes this: int32 of even and of odd lanes; and weights that are a half and a rest
 * (tt_master_words.h). */
#ifndef TT_SIMD_MVEH_INTEGER_H
#define TT_SIMD_MVEH_INTEGER_H

typedef struct {
    tt_i_mve even, odd;
} tt_i_mveh;

#define TT_INTEGERS_MVEH(word, of_even, of_odd, ...) \
    static inline tt_i_mveh tt_i_##word##_mveh(__VA_ARGS__) \
    { \
        return (tt_i_mveh){ tt_i_##word##_mve of_even, tt_i_##word##_mve of_odd }; \
    }
#define TT_FLOATS_MVEH(word, of_even, of_odd, ...) \
    static inline tt_v_mveh tt_##word##_mveh(__VA_ARGS__) \
    { \
        return (tt_v_mveh){ tt_##word##_mve of_even, tt_##word##_mve of_odd }; \
    }

TT_INTEGERS_MVEH(all, (value), (value), int32_t value)
TT_INTEGERS_MVEH(add, (a.even, b.even), (a.odd, b.odd), tt_i_mveh a, tt_i_mveh b)
TT_INTEGERS_MVEH(mul, (a.even, b.even), (a.odd, b.odd), tt_i_mveh a, tt_i_mveh b)
TT_INTEGERS_MVEH(within, (i.even, low, high), (i.odd, low, high), tt_i_mveh i, int32_t low, int32_t high)
TT_INTEGERS_MVEH(more, (x.even, y.even, a.even, b.even), (x.odd, y.odd, a.odd, b.odd), tt_i_mveh x, tt_i_mveh y, tt_i_mveh a, tt_i_mveh b)
TT_INTEGERS_MVEH(where, (x.even, y.even, a.even, b.even), (x.odd, y.odd, a.odd, b.odd), tt_v_mveh x, tt_v_mveh y, tt_i_mveh a, tt_i_mveh b)
TT_INTEGERS_MVEH(moved, (i.even, step.even, bound), (i.odd, step.odd, bound), tt_i_mveh i, tt_i_mveh step, int32_t bound)
TT_INTEGERS_MVEH(moved_wide, (i.even, step.even, bound), (i.odd, step.odd, bound), tt_i_mveh i, tt_i_mveh step, int32_t bound)
TT_INTEGERS_MVEH(nearest, (d.even, limit), (d.odd, limit), tt_v_mveh d, float limit)
TT_INTEGERS_MVEH(stochastic, (d.even, limit, word.even), (d.odd, limit, word.odd), tt_v_mveh d, float limit, tt_i_mveh word)
TT_INTEGERS_MVEH(quantise, (d.even, scale, zero_point, low, high), (d.odd, scale, zero_point, low, high), tt_v_mveh d, float scale,
                 int32_t zero_point, int32_t low, int32_t high)
TT_FLOATS_MVEH(real, (i.even), (i.odd), tt_i_mveh i)
TT_FLOATS_MVEH(pick, (bits.even, a.even, b.even), (bits.odd, a.odd, b.odd), tt_i_mveh bits, tt_v_mveh a, tt_v_mveh b)
TT_FLOATS_MVEH(equal, (i.even, number, a.even, b.even), (i.odd, number, a.odd, b.odd), tt_i_mveh i, int32_t number, tt_v_mveh a, tt_v_mveh b)

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3

static inline tt_i_mveh tt_i_load_mveh(const int32_t *from)
{
    const int32x4x2_t i = vld2q_s32(from);
    return (tt_i_mveh){ i.val[0], i.val[1] };
}

static inline void tt_i_store_mveh(int32_t *to, tt_i_mveh i)
{
    const int32x4x2_t both = { { i.even, i.odd } };
    vst2q_s32(to, both);
}

/* int16 of even and odd lanes */
static inline tt_i_mveh tt_i_widened_mveh(int16x8_t i)
{
    return (tt_i_mveh){ vmovlbq_s16(i), vmovltq_s16(i) };
}

static inline int16x8_t tt_i_narrowed_mveh(tt_i_mveh i)
{
    return vmovntq_s32((int16x8_t)i.even, i.odd);
}

static inline tt_i_mveh tt_i_load_s16_mveh(const int16_t *from)
{
    return tt_i_widened_mveh(vldrhq_s16(from));
}

static inline void tt_i_store_s16_mveh(int16_t *to, tt_i_mveh i)
{
    vstrhq_s16(to, tt_i_narrowed_mveh(i));
}

static inline tt_i_mveh tt_i_load_s8_mveh(const int8_t *from)
{
    return tt_i_widened_mveh(vldrbq_s16(from));
}

static inline void tt_i_store_s8_mveh(int8_t *to, tt_i_mveh i)
{
    vstrbq_s16(to, tt_i_narrowed_mveh(i));
}

static inline tt_i_mveh tt_i_load_u8_mveh(const uint8_t *from)
{
    return tt_i_widened_mveh((int16x8_t)vldrbq_u16(from));
}

static inline void tt_i_store_u8_mveh(uint8_t *to, tt_i_mveh i)
{
    vstrbq_u16(to, (uint16x8_t)tt_i_narrowed_mveh(i));
}

static inline tt_i_mveh tt_i_bits_mveh(const uint8_t *bits, int32_t i, int32_t row)
{
    const tt_i_mve even = { 1, 4, 16, 64 }, odd = { 2, 8, 32, 128 };
    uint32_t byte = bits[i >> 3];
    if (row % 8) {
        byte |= (uint32_t)bits[(i + 7) >> 3] << 8;
    }
    const tt_i_mve all = vdupq_n_s32((int32_t)(byte >> (i & 7)));
    return (tt_i_mveh){ vandq_s32(all, even), vandq_s32(all, odd) };
}

static inline tt_i_mve tt_i_random_from_mveh(uint32_t seed, uint32_t counter)
{
    const uint32x4_t h = tt_mix_mve(vaddq_n_u32(vmulq_n_u32(vidupq_n_u32(counter, 2), UINT32_C(0x9E3779B1)), seed));
    return (tt_i_mve)tt_mix_mve(veorq_u32(h, vdupq_n_u32(seed * UINT32_C(0x85EBCA77) + UINT32_C(0x165667B1))));
}

static inline tt_i_mveh tt_i_random_mveh(uint32_t seed, uint32_t counter)
{
    return (tt_i_mveh){ tt_i_random_from_mveh(seed, counter), tt_i_random_from_mveh(seed, counter + 1u) };
}

/* Bits of the lanes of a comparison, of which each has four, at every other place. */
static inline uint32_t tt_every_other_mveh(mve_pred16_t lanes)
{
    const uint32_t two = (lanes & 0x1111u) | (lanes & 0x1111u) >> 2;
    return (two & 0x0505u) | (two & 0x0505u) >> 4;
}

static inline void tt_passes_half_mveh(uint8_t *bits, const tt_half *from, float low, float high)
{
    const tt_v_mveh v = tt_load_half_mveh(from);
    const uint32_t even = tt_every_other_mveh((mve_pred16_t)(vcmpgtq_n_f32(v.even, low) & vcmpltq_n_f32(v.even, high)));
    const uint32_t odd = tt_every_other_mveh((mve_pred16_t)(vcmpgtq_n_f32(v.odd, low) & vcmpltq_n_f32(v.odd, high)));
    *bits = (uint8_t)((even & 0x55u) | (odd & 0x55u) << 1);
}

/* Without their signs. */
static inline uint32_t tt_largest_half_mveh(const tt_half *from, uint32_t count)
{
    uint16x8_t most = vdupq_n_u16(0);
    for (; count >= 8u; count -= 8u, from += 8) {
        most = vmaxq_u16(most, vshlq_n_u16(vldrhq_u16(from), 1));
    }
    uint32_t largest = vmaxvq_u16(0, most) >> 1;
    for (; count > 0u; --count, ++from) {
        largest = (*from & 0x7FFFu) > largest ? *from & 0x7FFFu : largest;
    }
    return largest;
}

/* The half that is nearest to each. */
static inline tt_v_mveh tt_nearest_mveh(tt_v_mveh v)
{
    register tt_v_mve even __asm("q6") = v.even;
    register tt_v_mve odd __asm("q7") = v.odd;
    __asm(TT_NARROW_EVEN(6, 6) TT_NARROW_ODD(6, 7) TT_WIDEN_ODD(7, 6) TT_WIDEN_EVEN(6, 6) : "+w"(even), "+w"(odd));
    return (tt_v_mveh){ even, odd };
}
#else
/* A function of lanes, of which lane v is `value`. */
#define TT_LANES_MVEH(name, arguments, value) \
    static inline tt_i_mveh tt_i_##name##_mveh arguments \
    { \
        tt_i_mveh i; \
        for (int32_t v = 0; v < 8; ++v) { \
            (v & 1 ? &i.odd : &i.even)->at[v / 2] = (int32_t)(value); \
        } \
        return i; \
    }
TT_LANES_MVEH(load, (const int32_t *from), from[v])
TT_LANES_MVEH(load_s16, (const int16_t *from), from[v])
TT_LANES_MVEH(load_s8, (const int8_t *from), from[v])
TT_LANES_MVEH(load_u8, (const uint8_t *from), from[v])
TT_LANES_MVEH(bits, (const uint8_t *bits, int32_t i0, int32_t row), row >= 0 ? (bits[(i0 + v) >> 3] >> ((i0 + v) & 7)) & 1 : 0)
TT_LANES_MVEH(random, (uint32_t seed, uint32_t counter), tt_random(seed, counter + (uint32_t)v))

#define TT_STORE_LANES_MVEH(name, type) \
    static inline void tt_i_##name##_mveh(type *to, tt_i_mveh i) \
    { \
        for (int32_t v = 0; v < 8; ++v) { \
            to[v] = (type)(v & 1 ? i.odd : i.even).at[v / 2]; \
        } \
    }
TT_STORE_LANES_MVEH(store, int32_t)
TT_STORE_LANES_MVEH(store_s16, int16_t)
TT_STORE_LANES_MVEH(store_s8, int8_t)
TT_STORE_LANES_MVEH(store_u8, uint8_t)

static inline void tt_passes_half_mveh(uint8_t *bits, const tt_half *from, float low, float high)
{
    uint32_t b = 0;
    for (uint32_t v = 0; v < 8u; ++v) {
        const float x = tt_half_to_float(from[v]);
        b |= (uint32_t)(x > low && x < high) << v;
    }
    *bits = (uint8_t)b;
}

static inline uint32_t tt_largest_half_mveh(const tt_half *from, uint32_t count)
{
    uint32_t largest = 0;
    for (; count > 0u; --count, ++from) {
        largest = (*from & 0x7FFFu) > largest ? *from & 0x7FFFu : largest;
    }
    return largest;
}

static inline tt_v_mveh tt_nearest_mveh(tt_v_mveh v)
{
    tt_half halves[8];
    tt_h_store_mveh(halves, v);
    return tt_h_load_mveh(halves);
}
#endif

TT_FLOATS_MVEH(away, (number.even), (number.odd), tt_v_mveh number)
TT_FLOATS_MVEH(further, (number.even, by.even), (number.odd, by.odd), tt_v_mveh number, tt_i_mveh by)
TT_INTEGERS_MVEH(between, (from.even, to.even), (from.odd, to.odd), tt_v_mveh from, tt_v_mveh to)
TT_FLOATS_MVEH(lift, (number.even), (number.odd), tt_v_mveh number)
TT_FLOATS_MVEH(drawn, (lifted.even, word.even), (lifted.odd, word.odd), tt_v_mveh lifted, tt_i_mveh word)
TT_MASTER_WORDS(mveh)

#endif
