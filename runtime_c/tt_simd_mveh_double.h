/* SPDX-License-Identifier: Apache-2.0 */
/* `double`: as `direct`, of two vectors b side by side, which share each scalar of up to three operands: what does most of the work where
 * there are sixteen results for a strip. */
#ifndef TT_SIMD_MVEH_DOUBLE_H
#define TT_SIMD_MVEH_DOUBLE_H

#if TT_MVE_LOOPS

#include <stddef.h>

/* Chains in q0..q5, two for each operand, of which two long ones are added before they are folded; their sums are in memory, even lanes before odd ones until the end. q6 and q7 hold b. */
#define TT_D_LOW0 "q0"
#define TT_D_LOW1 "q2"
#define TT_D_LOW2 "q4"
#define TT_D_HIGH0 "q1"
#define TT_D_HIGH1 "q3"
#define TT_D_HIGH2 "q5"
#define TT_D_FIRST0 "r0"
#define TT_D_FIRST1 "r2"
#define TT_D_FIRST2 "r4"
#define TT_D_SECOND0 "r1"
#define TT_D_SECOND1 "r3"
#define TT_D_SECOND2 "r5"
#define TT_D_SCALARS(p, none) "ldrd " TT_D_FIRST##p ", " TT_D_SECOND##p ", [%[a" #p "]], #8\n\t"
#define TT_D_UPPER(p, none) "lsrl " TT_D_FIRST##p ", " TT_D_SECOND##p ", #16\n\t"
#define TT_D_DO(word, p, s) word ".f16 " TT_D_LOW##p ", q6, " s "\n\t" word ".f16 " TT_D_HIGH##p ", q7, " s "\n\t"
#define TT_D_MUL(p, none) TT_D_DO("vmul", p, TT_D_FIRST##p)
#define TT_D_FMA(p, none) TT_D_DO("vfma", p, TT_D_FIRST##p)
#define TT_D_FMA2(p, none) TT_D_DO("vfma", p, TT_D_SECOND##p)
#define TT_D_CLEAR(p, none) "vmov.i32 " TT_D_LOW##p ", #0\n\tvmov.i32 " TT_D_HIGH##p ", #0\n\t"
#define TT_D_ONE(p, by) "ldrh " TT_D_FIRST##p ", [%[a" #p "]], #" by "\n\t"
#define TT_D_GO_ON(p, none) "add %[a" #p "], %[a" #p "], r0, lsl #1\n\t"

#define TT_D_ADD(q, at, sum) "vldrw.u32 q7, [r6, #" #at "]\n\tvadd.f32 " sum ", " sum ", q7\n\tvstrw.32 " sum ", [r6, #" #at "]\n\t"
#define TT_D_FOLD_OF(q, even, odd) TT_WIDEN_EVEN(6, q) TT_D_ADD(q, even, "q6") TT_WIDEN_ODD(q, q) TT_D_ADD(q, odd, "q" #q)
#define TT_D_FOLDS1 TT_D_FOLD_OF(0, 0, 16) TT_D_FOLD_OF(1, 32, 48)
#define TT_D_FOLDS2 TT_D_FOLDS1 TT_D_FOLD_OF(2, 64, 80) TT_D_FOLD_OF(3, 96, 112)
#define TT_D_FOLDS3 TT_D_FOLDS2 TT_D_FOLD_OF(4, 128, 144) TT_D_FOLD_OF(5, 160, 176)
#define TT_D_FOLD(P) "ldr r6, %[acc]\n\t" TT_D_FOLDS##P

/* b points four steps before what is read next where it is packed. */
#define TT_D_PACKED0 "vldrh.u16 q6, [%[b], #128]!\n\tvldrh.u16 q7, [%[b], #16]\n\t"
#define TT_D_PACKED2 "vldrh.u16 q6, [%[b], #64]\n\tvldrh.u16 q7, [%[b], #80]\n\t"
#define TT_D_PACKED1 "vldrh.u16 q6, [%[b], #32]\n\tvldrh.u16 q7, [%[b], #48]\n\t"
#define TT_D_PACKED3 "vldrh.u16 q6, [%[b], #96]\n\tvldrh.u16 q7, [%[b], #112]\n\t"
#define TT_D_PACKED4 "vldrh.u16 q6, [%[b], #128]\n\tvldrh.u16 q7, [%[b], #144]\n\tadd %[b], %[b], #32\n\t"
#define TT_D_AT_B "vldrh.u16 q6, [%[b]]\n\tvldrh.u16 q7, [%[b], #16]\n\t"
#define TT_D_APART0 TT_D_AT_B "add %[b], %[b], lr, lsl #2\n\t"
#define TT_D_APART2 TT_D_AT_B "sub %[b], %[b], lr, lsl #1\n\t"
#define TT_D_APART1 TT_D_APART0
#define TT_D_APART3 TT_D_AT_B "add %[b], %[b], lr, lsl #1\n\t"
#define TT_D_APART4 TT_D_APART3

#define TT_D_FOUR(P, load, first) \
    TT_P##P(TT_D_SCALARS, ) load##0 TT_P##P(first, ) load##2 TT_P##P(TT_D_FMA2, ) TT_P##P(TT_D_UPPER, ) \
    load##1 TT_P##P(TT_D_FMA, ) load##3 TT_P##P(TT_D_FMA2, )
#define TT_D_ODD_FOUR(P, load) \
    load##0 TT_P##P(TT_D_ONE, "4") TT_P##P(TT_D_FMA, ) load##2 TT_P##P(TT_D_ONE, "-2") TT_P##P(TT_D_FMA, ) \
    load##1 TT_P##P(TT_D_ONE, "4") TT_P##P(TT_D_FMA, ) load##3 TT_P##P(TT_D_ONE, "2") TT_P##P(TT_D_FMA, )

#define TT_D_SIXTEEN(P, load) TT_D_FOUR(P, load, TT_D_MUL) TT_D_FOUR(P, load, TT_D_FMA) TT_D_FOUR(P, load, TT_D_FMA) TT_D_FOUR(P, load, TT_D_FMA)
#define TT_D_KEEP(p, none) "vstrh.16 " TT_D_LOW##p ", [r6, #32 * " #p "]\n\tvstrh.16 " TT_D_HIGH##p ", [r6, #32 * " #p " + 16]\n\t"
#define TT_D_JOIN(p, none) \
    "vldrh.u16 q6, [r6, #32 * " #p "]\n\tvldrh.u16 q7, [r6, #32 * " #p " + 16]\n\t" \
    "vadd.f16 " TT_D_LOW##p ", " TT_D_LOW##p ", q6\n\tvadd.f16 " TT_D_HIGH##p ", " TT_D_HIGH##p ", q7\n\t"

#define TT_D_PLACES1 "mov r0, %[a0]\n\t"
#define TT_D_PLACES2 "orr r0, %[a0], %[a1]\n\t"
#define TT_D_PLACES3 "orr r0, %[a0], %[a1]\n\torr r0, r0, %[a2]\n\t"
#define TT_D_RUN(P, load) \
    "ldr %[left], [%[w], %[at_steps]]\n\t" TT_D_PLACES##P \
    "lsls r0, r0, #30\n\t" \
    "bmi 13f\n\t" \
    "ldr r0, %[chain]\n\t" \
    "cmp r0, #16\n\t" \
    "bne 11f\n\t" \
    "subs %[left], %[left], #32\n\t" \
    "blt 3f\n" \
    "2:\n\t" TT_D_SIXTEEN(P, load) "ldr r6, %[kept]\n\t" TT_P##P(TT_D_KEEP, ) TT_D_SIXTEEN(P, load) "ldr r6, %[kept]\n\t" TT_P##P(TT_D_JOIN, ) \
    TT_D_FOLD(P) \
    "subs %[left], %[left], #32\n\t" \
    "bge 2b\n" \
    "3:\n\tadds %[left], %[left], #16\n\t" \
    "blt 4f\n\t" TT_D_SIXTEEN(P, load) TT_D_FOLD(P) \
    "sub %[left], %[left], #16\n" \
    "4:\n\tadds %[left], %[left], #16\n" \
    "11:\n\tsubs %[left], %[left], #4\n\t" \
    "blt 6f\n" \
    "5:\n\t" TT_D_FOUR(P, load, TT_D_MUL) TT_D_FOLD(P) \
    "subs %[left], %[left], #4\n\t" \
    "bge 5b\n" \
    "6:\n\tadds %[left], %[left], #4\n" \
    "13:\n\tldr r1, %[chain]\n\t" \
    "mov r5, #1\n\t" /* chains to be joined */ \
    "cmp r1, #16\n\t" \
    "bne 17f\n\t" \
    "cmp %[left], #32\n\t" \
    "it ge\n\t" \
    "movge r5, #2\n" \
    "17:\n\tcmp %[left], r1\n\t" \
    "it lt\n\t" \
    "movlt r1, #4\n\t" \
    "cmp %[left], r1\n\t" \
    "blt 15f\n\t" \
    "mov r3, r5\n" \
    "18:\n\tsub %[left], %[left], r1\n\t" TT_P##P(TT_D_CLEAR, ) \
    "14:\n\t" TT_D_ODD_FOUR(P, load) \
    "subs r1, r1, #4\n\t" \
    "bne 14b\n\t" \
    "subs r3, r3, #1\n\t" \
    "beq 19f\n\t" \
    "ldr r6, %[kept]\n\t" TT_P##P(TT_D_KEEP, ) \
    "mov r1, #16\n\t" \
    "b 18b\n" \
    "19:\n\tcmp r5, #2\n\t" \
    "bne 20f\n\t" \
    "ldr r6, %[kept]\n\t" TT_P##P(TT_D_JOIN, ) \
    "20:\n\t" TT_D_FOLD(P) \
    "b 13b\n" \
    "15:\n\tcmp %[left], #0\n\t" \
    "beq 7f\n\t" TT_P##P(TT_D_CLEAR, ) \
    "16:\n\t" load##4 TT_P##P(TT_D_ONE, "2") TT_P##P(TT_D_FMA, ) \
    "subs %[left], %[left], #1\n\t" \
    "bne 16b\n\t" TT_D_FOLD(P)

#define TT_D_NO_SUM(p, none) "vstrw.32 q0, [r6], #16\n\tvstrw.32 q0, [r6], #16\n\tvstrw.32 q0, [r6], #16\n\tvstrw.32 q0, [r6], #16\n\t"
#define TT_D_IN_ORDER(p, none) TT_D_ORDERED TT_D_ORDERED
#define TT_D_ORDERED "vldrw.u32 q0, [r6]\n\tvldrw.u32 q1, [r6, #16]\n\tvst20.32 {q0, q1}, [r6]\n\tvst21.32 {q0, q1}, [r6]!\n\t"

#define TT_D_RUNS(name, P, load, before) \
    static inline void name##_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, tt_half) \
        const int32_t chain = tt_chain_mveh(w->rows * w->cols * w->steps); \
        int32_t cols, rows = w->rows, left; \
        tt_half room[16 * P], *const kept = room; \
        __asm volatile("ldr r6, %[acc]\n\tvmov.i32 q0, #0\n\t" TT_P##P(TT_D_NO_SUM, ) \
                       "ldr lr, [%[w], %[at_b_step]]\n\t" before \
                       "ldr r0, %[rows]\n\t" \
                       "cmp r0, #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr r0, [%[w], %[at_cols]]\n\t" \
                       "str r0, %[cols]\n" \
                       "10:\n\t" TT_D_RUN(P, load) \
                       "7:\n\tldr r3, %[cols]\n\t" \
                       "subs r3, r3, #1\n\t" \
                       "beq 8f\n\t" \
                       "str r3, %[cols]\n\t" \
                       "ldr r0, [%[w], %[at_a_col]]\n\t" \
                       "ldr r1, [%[w], %[at_b_col]]\n\t" \
                       "add %[b], %[b], r1, lsl #1\n\t" TT_P##P(TT_D_GO_ON, ) \
                       "b 10b\n" \
                       "8:\n\tldr r0, [%[w], %[at_a_row]]\n\t" \
                       "ldr r1, [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], r1, lsl #1\n\t" TT_P##P(TT_D_GO_ON, ) \
                       "ldr r3, %[rows]\n\t" \
                       "subs r3, r3, #1\n\t" \
                       "str r3, %[rows]\n\t" \
                       "bne 1b\n" \
                       "9:\n\tldr r6, %[acc]\n\t" TT_P##P(TT_D_IN_ORDER, ) \
                       : TT_P##P(TT_H_OPERAND, ) [b] "+r"(b), [rows] "+m"(rows), [cols] "=m"(cols), [left] "=&r"(left) \
                       : [w] "r"(w), [acc] "m"(acc), [chain] "m"(chain), [kept] "m"(kept), [at_b_step] "J"(offsetof(tt_walk, b_step)), TT_MVE_WALK_AT \
                       : "cc", "memory", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "lr", TT_MVE_VECTORS); \
    }

/* One chain of `outer`: `count` steps of each of some rows. Neighbours a are at any place. */
#define TT_D_SCALAR(p, none) "ldrh " TT_D_FIRST##p ", [%[a], #2 * " #p "]\n\t"
#define TT_D_CHAIN(P) \
    __attribute__((always_inline)) static inline void tt_chain_double_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t count, int32_t rows) \
    { \
        const int32_t a_row = w->a_row, b_row = w->b_row; \
        __asm volatile(TT_P##P(TT_D_CLEAR, ) \
                       "1:\n\tldr r0, %[count]\n\tdls lr, r0\n" \
                       "2:\n\t" TT_D_AT_B TT_P##P(TT_D_SCALAR, ) "add %[b], %[b], %[b_step], lsl #1\n\t" \
                       "add %[a], %[a], %[a_step], lsl #1\n\t" TT_P##P(TT_D_FMA, ) \
                       "le lr, 2b\n\t" \
                       "ldr r0, %[a_row]\n\t" \
                       "ldr r2, %[b_row]\n\t" \
                       "add %[a], %[a], r0, lsl #1\n\t" \
                       "add %[b], %[b], r2, lsl #1\n\t" \
                       "ldr r0, %[rows]\n\t" \
                       "subs r0, r0, #1\n\t" \
                       "str r0, %[rows]\n\t" \
                       "bne 1b\n\t" TT_D_FOLD(P) \
                       : [a] "+r"(a), [b] "+r"(b), [rows] "+m"(rows) \
                       : [count] "m"(count), [acc] "m"(acc), [a_step] "r"(w->a_step), [b_step] "r"(w->b_step), \
                         [a_row] "m"(a_row), [b_row] "m"(b_row) \
                       : "cc", "memory", "r0", "r2", "r4", "r6", "lr", TT_MVE_VECTORS); \
    }
#define TT_D_CALL(of_chain) of_chain(acc, from_a, from_b, w, count, rows);
#define TT_D_OUTER(P) \
    TT_D_CHAIN(P) \
    TT_SHARED void tt_outer_double_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        __asm volatile("ldr r6, %[acc]\n\tvmov.i32 q0, #0\n\t" TT_P##P(TT_D_NO_SUM, ) : : [acc] "m"(acc) : "memory", "r6", "q0"); \
        TT_EACH_CHAIN_H(TT_D_CALL, tt_chain_double_mveh_##P) \
        __asm volatile("ldr r6, %[acc]\n\t" TT_P##P(TT_D_IN_ORDER, ) : : [acc] "m"(acc) : "memory", "r6", "q0", "q1"); \
    }

#define TT_DOUBLE_H(P) \
    TT_D_OUTER(P) \
    TT_D_RUNS(tt_packed_double_mveh, P, TT_D_PACKED, "sub %[b], %[b], #128\n\t") \
    TT_D_RUNS(tt_apart_double_mveh, P, TT_D_APART, ) \
    TT_SHARED void tt_direct_double_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        if (w->b_step == 16) { \
            tt_packed_double_mveh_##P(acc, a, b, w); \
        } else { \
            tt_apart_double_mveh_##P(acc, a, b, w); \
        } \
    }
#else
#define TT_ONE_H 0x3C00 /* as a half */
#define TT_SUMS_D(p, none) tt_v_mveh cl##p = tt_zero_mveh(), ch##p = tt_zero_mveh();
#define TT_ZERO_D(p, none) tt_h_mveh l##p = tt_h_zero_mveh(), h##p = tt_h_zero_mveh();
#define TT_FOLD_D(p, none) \
    cl##p = tt_folded_mveh(cl##p, l##p); \
    ch##p = tt_folded_mveh(ch##p, h##p);
#define TT_MADD_D(p, none) \
    l##p = tt_h_madd_mveh(l##p, low, a##p[at]); \
    h##p = tt_h_madd_mveh(h##p, high, a##p[at]);
#define TT_CHAINS_D(p, none) \
    TT_ZERO_D(p, ) \
    tt_h_mveh jl##p = tt_h_zero_mveh(), jh##p = tt_h_zero_mveh();
#define TT_JOIN_D(p, none) \
    jl##p = tt_h_madd_mveh(jl##p, l##p, TT_ONE_H); \
    jh##p = tt_h_madd_mveh(jh##p, h##p, TT_ONE_H); \
    l##p = h##p = tt_h_zero_mveh();
#define TT_FOLD_JOINED_D(p, none) \
    cl##p = tt_folded_mveh(cl##p, jl##p); \
    ch##p = tt_folded_mveh(ch##p, jh##p);
#define TT_STORE_D(p, N) \
    tt_store_mveh(acc + (p) * 16, cl##p); \
    tt_store_mveh(acc + (p) * 16 + 8, ch##p);
#define TT_LOADED_D(from) const tt_h_mveh low = tt_h_load_mveh(from), high = tt_h_load_mveh((from) + 8);

#define TT_DOUBLE_H(P) \
    TT_SHARED void tt_direct_double_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_EACH_RUN_H(P, 2, TT_SUMS_D, TT_CHAINS_D, TT_MADD_D, TT_JOIN_D, TT_FOLD_JOINED_D, TT_LOADED_D) \
        TT_P##P(TT_STORE_D, ) \
    } \
    TT_ACROSS_H(tt_outer_double_halves, P, TT_SUMS_D, TT_ZERO_D, TT_MADD_ACROSS_D, TT_FOLD_D, TT_STORE_D)
#define TT_MADD_ACROSS_D(p, none) \
    l##p = tt_h_madd_mveh(l##p, tt_h_load_mveh(from_b), from_a[p]); \
    h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(from_b + 8), from_a[p]);
#endif

TT_DOUBLE_H(1)
TT_DOUBLE_H(2)
TT_DOUBLE_H(3)

#endif
