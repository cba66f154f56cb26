/* SPDX-License-Identifier: Apache-2.0 */
/* Tiles for RISC-V with 32 single-precision registers, in assembly: f0 to f23 hold the sums of up to six rows of four.
 *
 * They are routines that save no register, so that a kernel saves registers once for all its tiles. A loop of several steps a turn is
 * entered in its middle where a run is no multiple of them. For that, each step takes as many bytes: there are no compressed instructions. */
#ifndef TT_SIMD_RVF_TILES_H
#define TT_SIMD_RVF_TILES_H

#include "tt_tile.h"

#define TT_BODY(...) ".option push\n\t.option norvc\n\t" __VA_ARGS__ "ret\n\t.option pop\n\t"
#define TT_ROUTINE(name, ...) \
    __attribute__((naked, noinline, unused)) static void name(void) \
    { \
        __asm volatile(TT_BODY(__VA_ARGS__)); \
    }
#define TT_CHANGED \
    "memory", "ra", "a4", "a5", "a6", "a7", "t0", "t4", "t5", "t6", "s9", "s10", "s11", "f0", "f1", "f2", "f3", "f4", "f5", "f6", \
        "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15", "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", \
        "f26", "f27", "f28", "f29", "f30", "f31"
#define TT_ROUTINE_TILE(name, P, ...) \
    TT_ROUTINE(name##_routine_##P, __VA_ARGS__) \
    static inline __attribute__((always_inline)) void name##_rvf_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        register float *a0 __asm("a0") = acc; \
        register const float *a1 __asm("a1") = a, *a2 __asm("a2") = b; \
        register const tt_walk *a3 __asm("a3") = w; \
        __asm volatile("call %[tile]" : "+r"(a1), "+r"(a2) : "r"(a0), "r"(a3), [tile] "i"(name##_routine_##P) \
                       : "t1", "t2", "t3", TT_CHANGED); \
    }

/* Fields of tt_walk; in registers, they count bytes. */
#define TT_A_NEXT "0(a3)"
#define TT_A_STEP "4(a3)"
#define TT_A_COL "8(a3)"
#define TT_A_ROW "12(a3)"
#define TT_B_STEP "16(a3)"
#define TT_B_COL "20(a3)"
#define TT_B_ROW "24(a3)"
#define TT_ROWS "28(a3)"
#define TT_COLS "32(a3)"
#define TT_STEPS "36(a3)"
#define TT_BYTES(to, field) "lw " to ", " field "\n\tslli " to ", " to ", 2\n\t"

/* Of row p: its four sums, the register for its a, and the one that points there. */
#define TT_SUMS0(X, ...) X("f0", "f1", "f2", "f3", __VA_ARGS__)
#define TT_SUMS1(X, ...) X("f4", "f5", "f6", "f7", __VA_ARGS__)
#define TT_SUMS2(X, ...) X("f8", "f9", "f10", "f11", __VA_ARGS__)
#define TT_SUMS3(X, ...) X("f12", "f13", "f14", "f15", __VA_ARGS__)
#define TT_SUMS4(X, ...) X("f16", "f17", "f18", "f19", __VA_ARGS__)
#define TT_SUMS5(X, ...) X("f20", "f21", "f22", "f23", __VA_ARGS__)
#define TT_A0 "f28"
#define TT_A1 "f29"
#define TT_A2 "f30"
#define TT_A3 "f28"
#define TT_A4 "f29"
#define TT_A5 "f30"
#define TT_AT0 "a1"
#define TT_AT1 "a4"
#define TT_AT2 "a5"
#define TT_AT3 "a6"
#define TT_AT4 "a7"
#define TT_AT5 "t0"
#define TT_NEXT0(by)
#define TT_NEXT1(by) "add a4, a1, " by "\n\t"
#define TT_NEXT2(by) "add a5, a4, " by "\n\t"
#define TT_NEXT3(by) "add a6, a5, " by "\n\t"
#define TT_NEXT4(by) "add a7, a6, " by "\n\t"
#define TT_NEXT5(by) "add t0, a7, " by "\n\t"
#define TT_NEXT(p, by) TT_NEXT##p(by)
#define TT_MOVE(p, by) "add " TT_AT##p ", " TT_AT##p ", " by "\n\t"
#define TT_BACK(p, by) "sub " TT_AT##p ", " TT_AT##p ", " by "\n\t"

#define TT_CLEAR(p, none) TT_SUMS##p(TT_CLEAR4, )
#define TT_CLEAR4(c0, c1, c2, c3, none) \
    "fmv.w.x " c0 ", zero\n\tfmv.w.x " c1 ", zero\n\tfmv.w.x " c2 ", zero\n\tfmv.w.x " c3 ", zero\n\t"
#define TT_RESUME(p, none) TT_SUMS##p(TT_RESUME4, #p)
#define TT_RESUME4(c0, c1, c2, c3, p) \
    "flw " c0 ", 16*" p "(a0)\n\tflw " c1 ", 16*" p "+4(a0)\n\tflw " c2 ", 16*" p "+8(a0)\n\tflw " c3 ", 16*" p "+12(a0)\n\t"
#define TT_KEEP(p, none) TT_SUMS##p(TT_KEEP4, #p)
#define TT_KEEP4(c0, c1, c2, c3, p) \
    "fsw " c0 ", 16*" p "(a0)\n\tfsw " c1 ", 16*" p "+4(a0)\n\tfsw " c2 ", 16*" p "+8(a0)\n\tfsw " c3 ", 16*" p "+12(a0)\n\t"
#define TT_FOUR(b0, b1, b2, b3, at) "flw " b0 ", " at "\n\tflw " b1 ", 4+" at "\n\tflw " b2 ", 8+" at "\n\tflw " b3 ", 12+" at "\n\t"
#define TT_FOUR_B(at) TT_FOUR("f24", "f25", "f26", "f27", at)

/* Row p of a step, from sums `c` or from one that is zero. An a is loaded before the products of the row before it. */
#define TT_ON(c0, c1, c2, c3, a) \
    "fmadd.s " c0 ", " a ", f24, " c0 "\n\tfmadd.s " c1 ", " a ", f25, " c1 "\n\tfmadd.s " c2 ", " a ", f26, " c2 "\n\tfmadd.s " c3 ", " a ", f27, " c3 "\n\t"
#define TT_FROM_ZERO(c0, c1, c2, c3, a) \
    "fmadd.s " c0 ", " a ", f24, f31\n\tfmadd.s " c1 ", " a ", f25, f31\n\tfmadd.s " c2 ", " a ", f26, f31\n\tfmadd.s " c3 ", " a ", f27, f31\n\t"
#define TT_BEFORE0(X)
#define TT_BEFORE1(X) TT_SUMS0(X, TT_A0)
#define TT_BEFORE2(X) TT_SUMS1(X, TT_A1)
#define TT_BEFORE3(X) TT_SUMS2(X, TT_A2)
#define TT_BEFORE4(X) TT_SUMS3(X, TT_A3)
#define TT_BEFORE5(X) TT_SUMS4(X, TT_A4)
#define TT_BEFORE6(X) TT_SUMS5(X, TT_A5)
#define TT_ALONG(p, X, at) "flw " TT_A##p ", " at "(" TT_AT##p ")\n\t" TT_BEFORE##p(X)

/* `broadcast` reads b packed; of `direct`, the next step of b is s9 away. */
#define TT_PACKED_STEP(P, X, i) TT_FOUR_B("16*" #i "(a2)") TT_P##P(TT_ALONG, X, "4*" #i) TT_BEFORE##P(X)
#define TT_DIRECT_STEP(P, X, i) TT_FOUR_B("0(a2)") TT_P##P(TT_ALONG, X, "4*" #i) TT_BEFORE##P(X) "add a2, a2, s9\n\t"

/* Tiles of runs along a, `turn` steps a turn, of which each is `size` bytes. Where `turned` moves b, `back` takes t3 steps from a place in it. */
#define TT_TURN4(step, P) step(P, TT_ON, 1) step(P, TT_ON, 2) step(P, TT_ON, 3)
#define TT_TURN8(step, P) TT_TURN4(step, P) step(P, TT_ON, 4) step(P, TT_ON, 5) step(P, TT_ON, 6) step(P, TT_ON, 7)
#define TT_RUNS_RVF(name, P, turn, step, size, b_step, turned, back) \
    TT_ROUTINE_TILE(name, P, \
        TT_BYTES("t6", TT_A_NEXT) TT_P##P(TT_NEXT, "t6") b_step \
        "lw t1, " TT_ROWS "\n\t" \
        "lw t2, " TT_COLS "\n\t" \
        "lw t5, " TT_STEPS "\n\t" \
        "andi t6, t5, " #turn "-1\n\t" \
        "bnez t6, 2f\n\t" \
        "blez t1, 2f\n\t" \
        "slli t5, t5, 2\n\t" \
        "add t3, a1, t5\n\t" \
        "add t6, t1, t2\n\t" \
        "addi t6, t6, -2\n\t" \
        "beqz t6, 1f\n\t" \
        "lla t4, 4f\n\t" TT_BYTES("s10", TT_A_ROW) TT_BYTES("s11", TT_B_ROW) \
        "1:\n\tfmv.w.x f31, zero\n\t" step(P, TT_FROM_ZERO, 0) \
        "j 5f\n" \
        "2:\n\t" TT_P##P(TT_CLEAR, ) \
        "blez t1, 8f\n\t" /* t3 steps too many, in bytes of a and b: */ \
        "neg t3, t5\n\t" \
        "andi t3, t3, " #turn "-1\n\t" \
        "add t5, t5, t3\n\t" \
        "slli t5, t5, 2\n\t" \
        "lla t4, 4f\n\t" \
        "li t6, " size "\n\t" \
        "mul t6, t6, t3\n\t" \
        "add t4, t4, t6\n\t" TT_BYTES("s11", TT_B_ROW) back("s11") back("a2") \
        "slli t3, t3, 2\n\t" TT_BYTES("s10", TT_A_ROW) \
        "sub s10, s10, t3\n\t" TT_P##P(TT_BACK, "t3") \
        "3:\n\tadd t3, a1, t5\n\t" \
        "jr t4\n" \
        "4:\n\t" step(P, TT_ON, 0) \
        "5:\n\t" TT_TURN##turn(step, P) turned TT_P##P(TT_MOVE, "4*" #turn) \
        "bne a1, t3, 4b\n\t" \
        "addi t2, t2, -1\n\t" \
        "bnez t2, 7f\n\t" \
        "addi t1, t1, -1\n\t" \
        "beqz t1, 8f\n\t" \
        "lw t2, " TT_COLS "\n\t" \
        "add a2, a2, s11\n\t" TT_P##P(TT_MOVE, "s10") \
        "add t3, a1, t5\n\t" \
        "jr t4\n" \
        "7:\n\tlw t3, " TT_STEPS "\n\t" \
        "neg t3, t3\n\t" \
        "andi t3, t3, " #turn "-1\n\t" back("a2") TT_BYTES("t6", TT_B_COL) \
        "add a2, a2, t6\n\t" \
        "slli t3, t3, 2\n\t" TT_BYTES("t6", TT_A_COL) \
        "sub t6, t6, t3\n\t" TT_P##P(TT_MOVE, "t6") \
        "j 3b\n" \
        "8:\n\t" TT_P##P(TT_KEEP, ))
#define TT_B_BACK(place) "slli t6, t3, 4\n\tsub " place ", " place ", t6\n\t"
#define TT_B_STANDS(place)
#define TT_BROADCAST_RVF(P) TT_RUNS_RVF(tt_broadcast, P, 8, TT_PACKED_STEP, "4*(4+5*" #P ")", , "addi a2, a2, 128\n\t", TT_B_BACK)
#define TT_DIRECT_RVF(P) TT_RUNS_RVF(tt_direct, P, 4, TT_DIRECT_STEP, "4*(5+5*" #P ")", TT_BYTES("s9", TT_B_STEP), , TT_B_STANDS)

/* Tiles of runs across a, four steps a turn: of `outer` P neighbours times four of b, of `wide` one of a times P times four of b. `setup`
 * finds the bytes of a run of b (t5) and what leads to the next row (a6, a7); t3 steps are not taken in a run's first turn. */
#define TT_BESIDE(p, X, from) "flw " TT_A##p ", " from "4*" #p "(a1)\n\t" TT_BEFORE##p(X)
#define TT_WIDE(p, from) TT_FOUR_B(from "16*" #p "(a2)") TT_SUMS##p(TT_ON, "f28")
#define TT_OUTER_STEP(P, of_a, of_b) TT_FOUR_B(of_b "0(a2)") TT_P##P(TT_BESIDE, TT_ON, of_a) TT_BEFORE##P(TT_ON)
#define TT_WIDE_STEP(P, of_a, of_b) "flw f28, " of_a "0(a1)\n\t" TT_P##P(TT_WIDE, of_b)
#define TT_ACROSS_RUNS(P, begin, setup, turn, size) \
    "lw t1, " TT_ROWS "\n\t" \
    "lw t5, " TT_STEPS "\n\t" TT_P##P(begin, ) \
    "blez t1, 8f\n\t" \
    "blez t5, 8f\n\t" \
    "neg t3, t5\n\t" \
    "andi t3, t3, 3\n\t" TT_BYTES("a6", TT_A_ROW) TT_BYTES("a7", TT_B_ROW) setup \
    "lla t4, 4f\n\t" \
    "li t6, 4*(" size ")\n\t" \
    "mul t6, t6, t3\n\t" \
    "add t4, t4, t6\n" \
    "3:\n\tadd t3, a2, t5\n\t" \
    "jr t4\n" \
    "4:\n\t" turn \
    "bne a2, t3, 4b\n\t" \
    "add a1, a1, a6\n\t" \
    "add a2, a2, a7\n\t" \
    "addi t1, t1, -1\n\t" \
    "bnez t1, 3b\n" \
    "8:\n\t" TT_P##P(TT_KEEP, )

#define TT_STEP_MOVES(step) step "add a1, a1, a4\n\tadd a2, a2, a5\n\t"
#define TT_ACROSS_RVF(name, P, begin, step, size) \
    TT_ROUTINE_TILE(name, P, \
        TT_ACROSS_RUNS(P, begin, TT_BYTES("a4", TT_A_STEP) TT_BYTES("a5", TT_B_STEP) "mul t5, t5, a5\n\t", \
            TT_STEP_MOVES(step(P, , )) TT_STEP_MOVES(step(P, , )) TT_STEP_MOVES(step(P, , )) TT_STEP_MOVES(step(P, , )), "2+" size))

/* The same for steps that are constants: a turn goes over them by offsets. There is one routine for each pair of them, in its first caller. */
#define TT_OUTER_AT(P, i) TT_OUTER_STEP(P, #i "*%[a_step]+", #i "*%[b_step]+")
#define TT_OUTER_BY_RVF(on, P, begin) \
    static inline __attribute__((always_inline)) void tt_outer_by##on##_rvf_##P(float *acc, const float *a, const float *b, const tt_walk *w, \
                                                                                int32_t a_step, int32_t b_step) \
    { \
        if (a_step >= 128 || b_step >= 128) { /* four are too far for an instruction */ \
            tt_outer##on##_rvf_##P(acc, a, b, w); \
            return; \
        } \
        register float *a0 __asm("a0") = acc; \
        register const float *a1 __asm("a1") = a, *a2 __asm("a2") = b; \
        register const tt_walk *a3 __asm("a3") = w; \
        __asm volatile(".ifndef tt_outer" #on "_" #P "_%[a_step]_%[b_step]\n\t" \
                       ".pushsection .text.tt_outer" #on "_" #P "_%[a_step]_%[b_step],\"ax\",@progbits\n" \
                       "tt_outer" #on "_" #P "_%[a_step]_%[b_step]:\n\t" \
                       TT_BODY(TT_ACROSS_RUNS(P, begin, "li a4, %[a_step]\n\tmul a4, a4, t3\n\tsub a1, a1, a4\n\tsub a6, a6, a4\n\t" \
                           "li a5, %[b_step]\n\tmul a4, a5, t3\n\tsub a2, a2, a4\n\tsub a7, a7, a4\n\tadd t5, t5, t3\n\tmul t5, t5, a5\n\t", \
                           TT_OUTER_AT(P, 0) TT_OUTER_AT(P, 1) TT_OUTER_AT(P, 2) TT_OUTER_AT(P, 3) \
                           "addi a1, a1, 4*%[a_step]\n\taddi a2, a2, 4*%[b_step]\n\t", "4+5*" #P)) \
                       ".popsection\n\t" \
                       ".endif\n\t" \
                       "call tt_outer" #on "_" #P "_%[a_step]_%[b_step]" \
                       : "+r"(a1), "+r"(a2) : "r"(a0), "r"(a3), [a_step] "i"(4 * a_step), [b_step] "i"(4 * b_step) \
                       : "t1", "t2", "t3", TT_CHANGED); \
    }
#define TT_OUTER_RVF(P) \
    TT_ACROSS_RVF(tt_outer, P, TT_CLEAR, TT_OUTER_STEP, "4+5*" #P) TT_OUTER_BY_RVF(, P, TT_CLEAR) \
    TT_ACROSS_RVF(tt_outer_on, P, TT_RESUME, TT_OUTER_STEP, "4+5*" #P) TT_OUTER_BY_RVF(_on, P, TT_RESUME)
#define TT_WIDE_RVF(P) TT_ACROSS_RVF(tt_wide, P, TT_CLEAR, TT_WIDE_STEP, "1+8*" #P)

/* One step of `depth`: P times four a, and four b that they share. */
#define TT_DEEP(p, none) TT_FOUR("f28", "f29", "f30", "f31", "0(" TT_AT##p ")") TT_SUMS##p(TT_DEEP4, ) TT_MOVE(p, "t5")
#define TT_DEEP4(c0, c1, c2, c3, none) \
    "fmadd.s " c0 ", f28, f24, " c0 "\n\tfmadd.s " c1 ", f29, f25, " c1 "\n\tfmadd.s " c2 ", f30, f26, " c2 "\n\tfmadd.s " c3 ", f31, f27, " c3 "\n\t"
#define TT_DEPTH_RVF(P) \
    TT_ROUTINE_TILE(tt_depth, P, \
        TT_BYTES("t6", TT_A_NEXT) TT_P##P(TT_NEXT, "t6") \
        TT_BYTES("t5", TT_A_STEP) TT_BYTES("t4", TT_B_STEP) TT_BYTES("s10", TT_A_ROW) TT_BYTES("s11", TT_B_ROW) \
        "lw t1, " TT_ROWS "\n\t" \
        "lw t2, " TT_STEPS "\n\t" TT_P##P(TT_CLEAR, ) \
        "blez t1, 8f\n" \
        "3:\n\tmv t3, t2\n" \
        "4:\n\t" TT_FOUR_B("0(a2)") TT_P##P(TT_DEEP, ) \
        "add a2, a2, t4\n\t" \
        "addi t3, t3, -1\n\t" \
        "bnez t3, 4b\n\t" \
        "add a2, a2, s11\n\t" TT_P##P(TT_MOVE, "s10") \
        "addi t1, t1, -1\n\t" \
        "bnez t1, 3b\n" \
        "8:\n\t" TT_P##P(TT_KEEP, ))

/* One step of `bytes`: a weight of each of four rows, widened as it is read, times P elements of a. */
#define TT_BYTES_STEP(P, i) \
    "lb t1, " #i "(a2)\n\tlb t3, " #i "(a3)\n\tlb t6, " #i "(t4)\n\tlb s9, " #i "(t5)\n\t" \
    "fcvt.s.w f24, t1\n\tfcvt.s.w f25, t3\n\tfcvt.s.w f26, t6\n\tfcvt.s.w f27, s9\n\t" TT_P##P(TT_ALONG, TT_ON, "4*" #i) TT_BEFORE##P(TT_ON)
#define TT_WHOLE(p, none) TT_SUMS##p(TT_WHOLE4, #p)
#define TT_WHOLE4(c0, c1, c2, c3, p) \
    "fcvt.w.s t1, " c0 ", rtz\n\tfcvt.w.s t3, " c1 ", rtz\n\tfcvt.w.s t6, " c2 ", rtz\n\tfcvt.w.s s9, " c3 ", rtz\n\t" \
    "sw t1, 16*" p "(a0)\n\tsw t3, 16*" p "+4(a0)\n\tsw t6, 16*" p "+8(a0)\n\tsw s9, 16*" p "+12(a0)\n\t"
#define TT_BYTES_RVF(P) \
    TT_ROUTINE(tt_bytes_routine_##P, \
        "slli t1, t1, 2\n\t" TT_P##P(TT_NEXT, "t1") \
        "add a3, a2, t3\n\t" \
        "add t4, a3, t3\n\t" \
        "add t5, t4, t3\n\t" TT_P##P(TT_CLEAR, ) \
        "neg t6, t2\n\t" \
        "andi t6, t6, 7\n\t" \
        "slli t2, t2, 2\n\t" \
        "add s10, a1, t2\n\t" \
        "beqz t6, 4f\n\t" \
        "sub a2, a2, t6\n\t" \
        "sub a3, a3, t6\n\t" \
        "sub t4, t4, t6\n\t" \
        "sub t5, t5, t6\n\t" \
        "slli s9, t6, 2\n\t" TT_P##P(TT_BACK, "s9") \
        "li s9, 4*(8+5*" #P ")\n\t" \
        "mul t6, t6, s9\n\t" \
        "lla s9, 4f\n\t" \
        "add s9, s9, t6\n\t" \
        "jr s9\n" \
        "4:\n\t" TT_BYTES_STEP(P, 0) TT_BYTES_STEP(P, 1) TT_BYTES_STEP(P, 2) TT_BYTES_STEP(P, 3) TT_BYTES_STEP(P, 4) TT_BYTES_STEP(P, 5) \
        TT_BYTES_STEP(P, 6) TT_BYTES_STEP(P, 7) \
        "addi a2, a2, 8\n\taddi a3, a3, 8\n\taddi t4, t4, 8\n\taddi t5, t5, 8\n\t" TT_P##P(TT_MOVE, "32") \
        "bne a1, s10, 4b\n\t" TT_P##P(TT_WHOLE, )) \
    static inline __attribute__((always_inline)) void tt_bytes_rvf_##P(int32_t *sums, const float *a, int32_t pitch, const int8_t *b, \
                                                                       int32_t length, int32_t steps) \
    { \
        register int32_t *a0 __asm("a0") = sums; \
        register const float *a1 __asm("a1") = a; \
        register const int8_t *a2 __asm("a2") = b; \
        register int32_t t1 __asm("t1") = pitch, t2 __asm("t2") = steps, t3 __asm("t3") = length; \
        __asm volatile("call %[tile]" : "+r"(a1), "+r"(a2), "+r"(t1), "+r"(t2), "+r"(t3) : "r"(a0), [tile] "i"(tt_bytes_routine_##P) \
                       : "a3", TT_CHANGED); \
    }

#endif
