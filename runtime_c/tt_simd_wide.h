/* SPDX-License-Identifier: Apache-2.0 */
/* The computer itself, with vector extensions of gcc and clang: sixteen floats in two vectors of 256 bits, so that six sums and an operand
 * fill the sixteen registers of AVX; in four of 128 bits where it has no longer ones. */
#ifndef TT_SIMD_WIDE_H
#define TT_SIMD_WIDE_H

#include "tt_integer_words.h"
#include "tt_master_words.h"
#include "tt_tile.h"
#include <stdint.h>

#if defined(__AVX__)
#include <immintrin.h>
#define TT_PART_BYTES 32
#define TT_EACH_PART(X, ...) { X(0, __VA_ARGS__), X(1, __VA_ARGS__) }
#else
#define TT_PART_BYTES 16
#define TT_EACH_PART(X, ...) { X(0, __VA_ARGS__), X(1, __VA_ARGS__), X(2, __VA_ARGS__), X(3, __VA_ARGS__) }
#endif

typedef float tt_part_wide __attribute__((vector_size(TT_PART_BYTES), aligned(4)));
typedef int32_t tt_bits_wide __attribute__((vector_size(TT_PART_BYTES), aligned(4)));

typedef struct {
    tt_part_wide at[64 / TT_PART_BYTES];
} tt_v_wide;

#define TT_PART_ALL(i, s) (s) - (tt_part_wide){ 0.0f }
#define TT_PART_LOAD(i, from) ((const tt_part_wide *)(const void *)(from))[i]
#define TT_PART_OP(i, a, op, b) (a).at[i] op (b).at[i]
#define TT_PART_MADD(i, acc, a, b) tt_part_madd_wide((acc).at[i], (a).at[i], (b).at[i])
#define TT_PART_WHERE(i, x, y, a, b) tt_part_where_wide((x).at[i], (y).at[i], (a).at[i], (b).at[i])

static inline tt_part_wide tt_part_madd_wide(tt_part_wide acc, tt_part_wide a, tt_part_wide b)
{
#if !defined(TT_FUSED) || !TT_FUSED
    return acc + a * b;
#elif defined(__AVX__) && defined(__FMA__)
    return (tt_part_wide)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)acc);
#else
    for (int i = 0; i < TT_PART_BYTES / 4; ++i) {
        acc[i] = TT_MADD(acc[i], a[i], b[i]);
    }
    return acc;
#endif
}

static inline tt_part_wide tt_part_where_wide(tt_part_wide x, tt_part_wide y, tt_part_wide a, tt_part_wide b)
{
    const tt_bits_wide above = (tt_bits_wide)(x > y);
    return (tt_part_wide)(((tt_bits_wide)a & above) | ((tt_bits_wide)b & ~above));
}

static inline tt_v_wide tt_splat_wide(float s)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_ALL, s) };
}

static inline tt_v_wide tt_zero_wide(void)
{
    return tt_splat_wide(0.0f);
}

static inline tt_v_wide tt_load_wide(const float *from)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_LOAD, from) };
}

static inline tt_v_wide tt_load_half_wide(const tt_half *from)
{
    float values[16];
    for (int i = 0; i < 16; ++i) {
        values[i] = tt_half_to_float(from[i]);
    }
    return tt_load_wide(values);
}

/* from[i] − zero_point as floats */
static inline tt_v_wide tt_load_s8_wide(const int8_t *from, int32_t zero_point)
{
    float v[16];
    for (int i = 0; i < 16; ++i) {
        v[i] = (float)(from[i] - zero_point);
    }
    return tt_load_wide(v);
}

static inline void tt_store_wide(float *to, tt_v_wide v)
{
    __builtin_memcpy(to, v.at, sizeof v.at);
}

static inline tt_v_wide tt_madd_lanes_wide(tt_v_wide acc, tt_v_wide a, tt_v_wide b)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_MADD, acc, a, b) };
}

/* acc + v·s */
static inline tt_v_wide tt_madd_wide(tt_v_wide acc, tt_v_wide v, float s)
{
    return tt_madd_lanes_wide(acc, v, tt_splat_wide(s));
}

static inline tt_v_wide tt_add_wide(tt_v_wide a, tt_v_wide b)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_OP, a, +, b) };
}

static inline tt_v_wide tt_sub_wide(tt_v_wide a, tt_v_wide b)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_OP, a, -, b) };
}

static inline tt_v_wide tt_mul_wide(tt_v_wide a, tt_v_wide b)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_OP, a, *, b) };
}

/* a where x > y, else b */
static inline tt_v_wide tt_where_wide(tt_v_wide x, tt_v_wide y, tt_v_wide a, tt_v_wide b)
{
    return (tt_v_wide){ TT_EACH_PART(TT_PART_WHERE, x, y, a, b) };
}

typedef struct {
    int32_t at[16];
} tt_i_wide;

TT_INTEGER_WORDS(wide, 16)
TT_EACH_LANE(wide, 16, all, (int32_t value), value)
TT_EACH_LANE(wide, 16, load, (const int32_t *from), from[v])
TT_EACH_LANE(wide, 16, add, (tt_i_wide a, tt_i_wide b), (uint32_t)a.at[v] + (uint32_t)b.at[v])

TT_EACH_LANE(wide, 16, requantise, (tt_i_wide acc, tt_i_wide m, tt_i_wide s, int32_t zero_point, int32_t low, int32_t high),
             tt_requantise(acc.at[v], m.at[v], s.at[v], zero_point, low, high))

static inline void tt_i_store_wide(int32_t *to, tt_i_wide i)
{
    __builtin_memcpy(to, i.at, sizeof i.at);
}

static inline void tt_i_store_s8_wide(int8_t *to, tt_i_wide i)
{
    for (int v = 0; v < 16; ++v) {
        to[v] = (int8_t)i.at[v];
    }
}

#define tt_i_store_u8_wide(to, i) tt_i_store_s8_wide((int8_t *)(to), i)
#define tt_sums_wide tt_load_wide
#define TT_WIDENED_WIDE(from) tt_load_s8_wide(from, 0)
TT_VECTOR_TILES(wide, 16, TT_WIDENED_WIDE)
TT_SIZES6(TT_HALVES_TILES, wide, 16)
TT_STORE_HALF(wide, 16)
TT_MASTER_LANES(wide, 16)
TT_MASTER_WORDS(wide)

#endif
