/* SPDX-License-Identifier: Apache-2.0 */
/* Tiles of halves for tt_simd_vfp.h, which includes this: a general register brings two, at any place, and VCVTB and VCVTT make them floats. */
#ifndef TT_SIMD_VFP_HALVES_H
#define TT_SIMD_VFP_HALVES_H

/* `first` and the register behind it, or `first` alone. */
#define TT_TWO_HALVES(first, second, from) \
    "ldr %[t], " from "\n\tvmov " first ", %[t]\n\tvcvtt.f32.f16 " second ", " first "\n\tvcvtb.f32.f16 " first ", " first "\n\t"
#define TT_ONE_HALF(first, from) "ldrh %[t], " from "\n\tvmov " first ", %[t]\n\tvcvtb.f32.f16 " first ", " first "\n\t"

/* Two steps of a row, or one, of a packed or apart b. */
#define TT_HALF_STEPS2(p, none) \
    TT_TWO_HALVES("s28", "s29", "[%[a" #p "]], #4") TT_ROW(p, "s28", "s20", "s21", "s22", "s23") TT_ROW(p, "s29", "s24", "s25", "s26", "s27")
#define TT_HALF_STEP1(p, none) TT_ONE_HALF("s28", "[%[a" #p "]], #2") TT_ROW(p, "s28", "s20", "s21", "s22", "s23")
#define TT_HALF_ONE(P, load) load##_1 TT_P##P(TT_HALF_STEP1, )
#define TT_HALF_TWO(P, load) load##_2 TT_P##P(TT_HALF_STEPS2, )
#define TT_HALVES_NEXT "add %[b], %[b], %[b_step], lsl #1\n\t"
#define TT_HALVES_1 TT_TWO_HALVES("s20", "s21", "[%[b]]") TT_TWO_HALVES("s22", "s23", "[%[b], #4]") TT_HALVES_NEXT
#define TT_HALVES_2 TT_HALVES_1 TT_TWO_HALVES("s24", "s25", "[%[b]]") TT_TWO_HALVES("s26", "s27", "[%[b], #4]") TT_HALVES_NEXT

/* One step of `outer`. */
#define TT_HALVES_A1 TT_ONE_HALF("s20", "[%[a]]")
#define TT_HALVES_A2 TT_TWO_HALVES("s20", "s21", "[%[a]]")
#define TT_HALVES_A3 TT_HALVES_A2 TT_ONE_HALF("s22", "[%[a], #4]")
#define TT_HALVES_A4 TT_HALVES_A2 TT_TWO_HALVES("s22", "s23", "[%[a], #4]")
#define TT_HALVES_A5 TT_HALVES_A4 TT_ONE_HALF("s24", "[%[a], #8]")
#define TT_HALVES_STEP(P) \
    TT_HALVES_A##P TT_TWO_HALVES("s25", "s26", "[%[b]]") TT_TWO_HALVES("s27", "s28", "[%[b], #4]") \
    "add %[a], %[a], %[a_step], lsl #1\n\tadd %[b], %[b], %[b_step], lsl #1\n\t" TT_P##P(TT_NEXT_A, )

#define TT_ALL_HALVES_VFP(none, P) \
    TT_RUNS_OF(tt_direct_half, P, TT_LAST##P, tt_half, "1", float, "2", TT_HALF_ONE(P, TT_APART), TT_HALF_TWO(P, TT_APART), "2", \
               TT_HALF_TWO(P, TT_APART)) \
    TT_RUNS_OF(tt_direct_halves, P, TT_LAST##P, tt_half, "1", tt_half, "1", TT_HALF_ONE(P, TT_HALVES), TT_HALF_TWO(P, TT_HALVES), "2", \
               TT_HALF_TWO(P, TT_HALVES)) \
    TT_RUNS_OF(tt_direct_weights, P, TT_LAST##P, float, "2", tt_half, "1", TT_ONE(P, TT_HALVES), TT_TWO(P, TT_HALVES), "2", \
               TT_TWO(P, TT_HALVES)) \
    TT_ACROSS_OF(tt_outer_halves, P, TT_LAST##P, tt_zeros, tt_half, "1", 0, TT_IN_TWOS(TT_HALVES_STEP(P))) \
    TT_ACROSS(tt_outer_half, vfp, 4, P, tt_half, float, TT_MADD_ACROSS, vfp, tt_half_to_float, tt_load_vfp) \
    TT_ACROSS(tt_wide_half, vfp, 4, P, tt_half, float, TT_MADD_WIDE, vfp, 4, tt_half_to_float, tt_load_vfp) \
    TT_ACROSS(tt_wide_halves, vfp, 4, P, tt_half, tt_half, TT_MADD_WIDE, vfp, 4, tt_half_to_float, tt_load_half_vfp) \
    TT_DEPTH_TILES(vfp, 4, P, _half, tt_half, tt_load_half_vfp, float, tt_load_vfp) \
    TT_DEPTH_TILES(vfp, 4, P, _halves, tt_half, tt_load_half_vfp, tt_half, tt_load_half_vfp) \
    TT_DOT(vfp, P, _halves, tt_half, tt_half_to_float)
TT_SIZES5(TT_ALL_HALVES_VFP, )

#endif
