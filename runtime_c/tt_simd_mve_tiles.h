/* SPDX-License-Identifier: Apache-2.0 */
/* The tiles of floats on Helium, in the words of tt_simd_mve.h, which includes this; the two that do most of the work in assembly. */
#ifndef TT_SIMD_MVE_TILES_H
#define TT_SIMD_MVE_TILES_H

#include <stddef.h>

#define tt_sums_mve tt_load_mve

/* Int8 weights as they stand, widened as they are read. */
#define TT_WIDENED_MVE(from) tt_load_s8_mve(from, 0)

/* One by one: binutils 2.40 encodes other registers than those that stand in VCVTB of vectors. */
static inline tt_v_mve tt_load_half_mve(const tt_half *from)
{
    return (tt_v_mve){ tt_half_to_float(from[0]), tt_half_to_float(from[1]), tt_half_to_float(from[2]), tt_half_to_float(from[3]) };
}

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2) && defined(__OPTIMIZE__)

/* As TT_MADDS_AT. In assembly: compilers load early what they then keep on the stack. */
#define TT_MVE_FROM "Ux"(*(const tt_v_mve *)(const void *)from)

static inline void tt_madd_at1_mve(tt_v_mve *s, const float *from, tt_v_mve a)
{
    tt_v_mve v;
    __asm volatile("vldrw.u32 %q1, %2\n\tvfma.f32 %q0, %q1, %q3" : "+w"(*s), "=&w"(v) : TT_MVE_FROM, "w"(a));
}

static inline void tt_madd_at2_mve(tt_v_mve *s, tt_v_mve *t, const float *from, tt_v_mve a, tt_v_mve b)
{
    tt_v_mve v;
    __asm volatile("vldrw.u32 %q2, %3\n\tvfma.f32 %q0, %q2, %q4\n\tvfma.f32 %q1, %q2, %q5"
          : "+w"(*s), "+w"(*t), "=&w"(v)
          : TT_MVE_FROM, "w"(a), "w"(b));
}

static inline void tt_madd_at3_mve(tt_v_mve *s, tt_v_mve *t, tt_v_mve *u, const float *from, tt_v_mve a, tt_v_mve b, tt_v_mve c)
{
    tt_v_mve v;
    __asm volatile("vldrw.u32 %q3, %4\n\tvfma.f32 %q0, %q3, %q5\n\tvfma.f32 %q1, %q3, %q6\n\tvfma.f32 %q2, %q3, %q7"
          : "+w"(*s), "+w"(*t), "+w"(*u), "=&w"(v)
          : TT_MVE_FROM, "w"(a), "w"(b), "w"(c));
}

/* Tiles whose six sums stay in q0..q5, with operands in q6 and q7: one LDRD brings two scalars, and loops end without a branch. */
#define TT_MVE_CLEAR(p, none) "vmov.i32 q" #p ", #0\n\t"
#define TT_MVE_KEEP(p, none) "vstrw.32 q" #p ", [%[t]], #16\n\t"
#define TT_MVE_STEPS2(p, none) "ldrd %[s], %[t], [%[a" #p "]], #8\n\tvfma.f32 q" #p ", q6, %[s]\n\tvfma.f32 q" #p ", q7, %[t]\n\t"
#define TT_MVE_STEPS4(p, none) \
    "ldmia %[a" #p "]!, {r0-r3}\n\t" \
    "vfma.f32 q" #p ", q4, %[s]\n\tvfma.f32 q" #p ", q5, %[t]\n\tvfma.f32 q" #p ", q6, r2\n\tvfma.f32 q" #p ", q7, r3\n\t"
#define TT_MVE_STEP1(p, b) "ldr %[s], [%[a" #p "]], #4\n\tvfma.f32 q" #p ", " b ", %[s]\n\t"
#define TT_MVE_GO_ON(p, none) "add %[a" #p "], %[a" #p "], %[t], lsl #2\n\t"
#define TT_MVE_OPERAND(p, none) [a##p] "+&r"(a##p),

/* Packed, b has its steps right behind each other; else they are b_step apart, as floats or as int8. */
#define TT_MVE_PACKED(q) "vldrw.u32 " q ", [%[b]], #16\n\t"
#define TT_MVE_APART(q) "vldrw.u32 " q ", [%[b]]\n\tadd %[b], %[b], %[b_step], lsl #2\n\t"
#define TT_MVE_WIDENED(q) "vldrb.s32 " q ", [%[b]]\n\tadd %[b], %[b], %[b_step]\n\tvcvt.f32.s32 " q ", " q "\n\t"

/* All steps of a run: by two, with operands in q6 and q7; or by four of up to four sums, with operands in q4..q7 and one LDM for four scalars. */
#define TT_MVE_BY2(P, load) \
    "ldr %[t], [%[w], %[at_steps]]\n\t" \
    "lsrs %[s], %[t], #1\n\t" \
    "beq 4f\n\t" \
    "dls lr, %[s]\n" \
    "3:\n\t" load("q6") load("q7") TT_P##P(TT_MVE_STEPS2, ) \
    "le lr, 3b\n\t" \
    "ldr %[t], [%[w], %[at_steps]]\n" \
    "4:\n\tlsls %[t], %[t], #31\n\t" \
    "beq 5f\n\t" \
    load("q6") TT_P##P(TT_MVE_STEP1, "q6") \
    "5:\n\t"
#define TT_MVE_BY4(P, load) \
    "ldr %[t], [%[w], %[at_steps]]\n\t" \
    "lsrs %[s], %[t], #2\n\t" \
    "beq 4f\n\t" \
    "dls lr, %[s]\n" \
    "3:\n\t" load("q4") load("q5") load("q6") load("q7") TT_P##P(TT_MVE_STEPS4, ) \
    "le lr, 3b\n\t" \
    "ldr %[t], [%[w], %[at_steps]]\n" \
    "4:\n\tands %[t], %[t], #3\n\t" \
    "beq 5f\n\t" \
    "dls lr, %[t]\n" \
    "7:\n\t" load("q4") TT_P##P(TT_MVE_STEP1, "q4") \
    "le lr, 7b\n" \
    "5:\n\t"

#define TT_RUNS_MVE(name, P, type, steps, size, more) \
    TT_SHARED void name##_mve_##P(float *acc, const float *a, const type *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, float) \
        register int32_t s __asm("r0"), t __asm("r1"); \
        int32_t cols, rows = w->rows; \
        __asm volatile(TT_P##P(TT_MVE_CLEAR, ) \
                       "ldr %[s], %[rows]\n\t" \
                       "cmp %[s], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr %[cols], [%[w], %[at_cols]]\n" \
                       "2:\n\t" steps \
                       "subs %[cols], %[cols], #1\n\t" \
                       "beq 6f\n\t" \
                       "ldr %[t], [%[w], %[at_a_col]]\n\t" \
                       "ldr %[s], [%[w], %[at_b_col]]\n\t" \
                       "add %[b], %[b], %[s], lsl #" size "\n\t" TT_P##P(TT_MVE_GO_ON, ) \
                       "b 2b\n" \
                       "6:\n\tldr %[t], [%[w], %[at_a_row]]\n\t" \
                       "ldr %[s], [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], %[s], lsl #" size "\n\t" TT_P##P(TT_MVE_GO_ON, ) \
                       "ldr %[s], %[rows]\n\t" \
                       "subs %[s], %[s], #1\n\t" \
                       "str %[s], %[rows]\n\t" \
                       "bne 1b\n" \
                       "9:\n\tldr %[t], %[acc]\n\t" TT_P##P(TT_MVE_KEEP, ) \
                       : TT_P##P(TT_MVE_OPERAND, ) [b] "+&r"(b), [rows] "+m"(rows), [s] "=&r"(s), [t] "=&r"(t), [cols] "=&r"(cols) \
                       : [w] "r"(w), [b_step] "r"(w->b_step), [acc] "m"(acc), TT_MVE_WALK_AT \
                       : "cc", "memory", "lr", more TT_MVE_VECTORS); \
    }

/* One run of a sum: of a packed strip, or of int8 weights that are packed for later tiles as they are read. */
#define TT_MVE_PACKING(q) TT_MVE_WIDENED(q) "vstrw.32 " q ", [%[strip]], #16\n\t"
#define TT_ONE_RUN_MVE(P, how, ...) \
    TT_P##P(TT_POINT_A, float) \
    register int32_t s __asm("r0"), t __asm("r1"); \
    __asm volatile(TT_P##P(TT_MVE_CLEAR, ) how "ldr %[t], %[acc]\n\t" TT_P##P(TT_MVE_KEEP, ) \
                   : TT_P##P(TT_MVE_OPERAND, ) [b] "+&r"(b), [strip] "+&r"(strip), [s] "=&r"(s), [t] "=&r"(t) \
                   : [w] "r"(w), [b_step] "r"(pitch), [acc] "m"(acc), [at_steps] "J"(offsetof(tt_walk, steps)) \
                   : "cc", "memory", "lr", __VA_ARGS__ TT_MVE_VECTORS);
#define TT_RUNS_OF_MVE(P, by, more) \
    TT_SHARED void tt_run_mve_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        const int32_t pitch = 0; \
        float *strip = acc; \
        TT_ONE_RUN_MVE(P, by(P, TT_MVE_PACKED), more) \
    } \
    TT_SHARED void tt_packing_mve_##P(float *acc, const float *a, const int8_t *b, int32_t pitch, float *strip, const tt_walk *w) \
    { \
        TT_ONE_RUN_MVE(P, by(P, TT_MVE_PACKING), more) \
    }

/* P neighbours a, two by two; four by one LDM. */
#define TT_MVE_A_PAIR(at, p0, p1) "ldrd %[s], %[t], [%[a], #" at "]\n\tvfma.f32 q" p0 ", q6, %[s]\n\tvfma.f32 q" p1 ", q6, %[t]\n\t"
#define TT_MVE_A_LAST(at, p) "ldr %[s], [%[a], #" at "]\n\tvfma.f32 q" p ", q6, %[s]\n\t"
#define TT_MVE_A1 TT_MVE_A_LAST("0", "0")
#define TT_MVE_A2 TT_MVE_A_PAIR("0", "0", "1")
#define TT_MVE_A3 TT_MVE_A2 TT_MVE_A_LAST("8", "2")
#define TT_MVE_A4 "ldmia %[a], {r0-r3}\n\tvfma.f32 q0, q6, r0\n\tvfma.f32 q1, q6, r1\n\tvfma.f32 q2, q6, r2\n\tvfma.f32 q3, q6, r3\n\t"
#define TT_MVE_A5 TT_MVE_A4 TT_MVE_A_LAST("16", "4")
#define TT_MVE_A6 TT_MVE_A4 TT_MVE_A_PAIR("16", "4", "5")

#define TT_MVE_ACROSS(P) TT_MVE_APART("q6") TT_MVE_A##P "add %[a], %[a], %[a_step], lsl #2\n\t"

#define TT_OUTER_MVE(P) \
    TT_SHARED void tt_outer_mve_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        register int32_t s __asm("r0"), t __asm("r1"); \
        int32_t rows = w->steps > 0 ? w->rows : 0; \
        __asm volatile(TT_P##P(TT_MVE_CLEAR, ) \
                       "cmp %[rows], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tlsrs %[t], %[steps], #1\n\t" \
                       "bcc 2f\n\t" TT_MVE_ACROSS(P) \
                       "lsrs %[t], %[steps], #1\n" \
                       "2:\n\tbeq 4f\n\t" \
                       "dls lr, %[t]\n" \
                       "3:\n\t" TT_MVE_ACROSS(P) TT_MVE_ACROSS(P) \
                       "le lr, 3b\n" \
                       "4:\n\t" \
                       "add %[a], %[a], %[a_row], lsl #2\n\t" \
                       "add %[b], %[b], %[b_row], lsl #2\n\t" \
                       "subs %[rows], %[rows], #1\n\t" \
                       "bne 1b\n" \
                       "9:\n\tldr %[t], %[acc]\n\t" TT_P##P(TT_MVE_KEEP, ) \
                       : [a] "+&r"(a), [b] "+&r"(b), [rows] "+&r"(rows), [s] "=&r"(s), [t] "=&r"(t) \
                       : [acc] "m"(acc), [steps] "r"(w->steps), [a_step] "r"(w->a_step), [b_step] "r"(w->b_step), [a_row] "r"(w->a_row), \
                         [b_row] "r"(w->b_row) \
                       : "cc", "memory", "r2", "r3", "lr", TT_MVE_VECTORS); \
    }

#define TT_MVE_WALK_AT \
    [at_cols] "J"(offsetof(tt_walk, cols)), [at_steps] "J"(offsetof(tt_walk, steps)), [at_a_col] "J"(offsetof(tt_walk, a_col)), \
        [at_a_row] "J"(offsetof(tt_walk, a_row)), [at_b_col] "J"(offsetof(tt_walk, b_col)), [at_b_row] "J"(offsetof(tt_walk, b_row))
#define TT_MVE_VECTORS "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7"

#define TT_ALL_MVE(none, P) \
    TT_RUNS_MVE(tt_direct, P, float, TT_MVE_BY2(P, TT_MVE_APART), "2", ) \
    TT_RUNS_MVE(tt_direct_s8, P, int8_t, TT_MVE_BY2(P, TT_MVE_WIDENED), "0", ) \
    TT_OUTER_MVE(P) \
    TT_ACROSS(tt_wide, mve, 4, P, float, float, TT_MADD_WIDE, mve, 4, TT_PLAIN, tt_load_mve) \
    TT_DEPTH_TILES(mve, 4, P, , float, tt_load_mve, float, tt_load_mve)
#define TT_MVE_QUAD "r2", "r3",
#define TT_QUADS_MVE(none, P) \
    TT_RUNS_MVE(tt_broadcast, P, float, TT_MVE_BY4(P, TT_MVE_PACKED), "2", TT_MVE_QUAD) \
    TT_RUNS_OF_MVE(P, TT_MVE_BY4, TT_MVE_QUAD)
#define TT_PAIRS_MVE(P) \
    TT_RUNS_MVE(tt_broadcast, P, float, TT_MVE_BY2(P, TT_MVE_PACKED), "2", ) \
    TT_RUNS_OF_MVE(P, TT_MVE_BY2, )
TT_SIZES6(TT_ALL_MVE, )
TT_SIZES4(TT_QUADS_MVE, )
TT_PAIRS_MVE(5)
TT_PAIRS_MVE(6)
#else
TT_SIZES6(TT_FLOAT_TILES, mve, 4)
TT_SIZES6(TT_PACKED_TILE, mve)
TT_SIZES6(TT_RUN_TILES, mve, 4, broadcast)
TT_MADDS_AT(mve)
TT_SIZES6(TT_S8_TILE, mve, 4, TT_WIDENED_MVE)
#endif

TT_SIZES6(TT_HALF_TILES, mve, 4)
TT_SIZES6(TT_HALVES_TILES, mve, 4)
TT_STORE_HALF(mve, 4)
TT_SIZES6(TT_HALF_S8_TILE, mve, 4, TT_WIDENED_MVE)

#endif
