/* SPDX-License-Identifier: Apache-2.0 */
/* The tile of pairs in assembly, as a routine like those of tt_simd_rvf_tiles.h: f0 to f23 hold the sums of up to six rows of four. */
#ifndef TT_SIMD_XPULP_TILES_H
#define TT_SIMD_XPULP_TILES_H

#include "tt_simd_rvf_tiles.h"

#define TT_PAIR_ON1(c, a, b) ".insn r 0x33, 0, 0x4b, " c ", " a ", " b "\n\t" /* vfdotpex.s.h */
#define TT_PAIR_ON(c0, c1, c2, c3, a) TT_PAIR_ON1(c0, a, "f24") TT_PAIR_ON1(c1, a, "f25") TT_PAIR_ON1(c2, a, "f26") TT_PAIR_ON1(c3, a, "f27")
#define TT_HALVES(to, field) "lw " to ", " field "\n\tslli " to ", " to ", 1\n\t"

/* Step i of a turn; and the last of a run that has an odd half. */
#define TT_PAIR_STEP(P, i) TT_FOUR_B("16*" #i "(a2)") TT_P##P(TT_ALONG, TT_PAIR_ON, "4*" #i) TT_BEFORE##P(TT_PAIR_ON)
#define TT_ALONE(p, none) "lhu t6, 0(" TT_AT##p ")\n\tfmv.w.x " TT_A##p ", t6\n\t" TT_BEFORE##p(TT_PAIR_ON)
#define TT_PAIR_TURN(P) \
    TT_PAIR_STEP(P, 0) TT_PAIR_STEP(P, 1) TT_PAIR_STEP(P, 2) TT_PAIR_STEP(P, 3) TT_PAIR_STEP(P, 4) TT_PAIR_STEP(P, 5) TT_PAIR_STEP(P, 6) \
    TT_PAIR_STEP(P, 7) TT_PAIR_STEP(P, 8) TT_PAIR_STEP(P, 9) TT_PAIR_STEP(P, 10) TT_PAIR_STEP(P, 11) TT_PAIR_STEP(P, 12) \
    TT_PAIR_STEP(P, 13) TT_PAIR_STEP(P, 14) TT_PAIR_STEP(P, 15) TT_PAIR_STEP(P, 16) TT_PAIR_STEP(P, 17) TT_PAIR_STEP(P, 18) \
    TT_PAIR_STEP(P, 19) TT_PAIR_STEP(P, 20) TT_PAIR_STEP(P, 21) TT_PAIR_STEP(P, 22) TT_PAIR_STEP(P, 23)

/* Sums of the rows of a tile leave their registers as the compiler likes. */
#define TT_REGISTERS1(X) X(0, "f0", "f1", "f2", "f3")
#define TT_REGISTERS2(X) TT_REGISTERS1(X) X(1, "f4", "f5", "f6", "f7")
#define TT_REGISTERS3(X) TT_REGISTERS2(X) X(2, "f8", "f9", "f10", "f11")
#define TT_REGISTERS4(X) TT_REGISTERS3(X) X(3, "f12", "f13", "f14", "f15")
#define TT_REGISTERS5(X) TT_REGISTERS4(X) X(4, "f16", "f17", "f18", "f19")
#define TT_REGISTERS6(X) TT_REGISTERS5(X) X(5, "f20", "f21", "f22", "f23")
#define TT_NAMED(p, r0, r1, r2, r3) register float c##p##0 __asm(r0), c##p##1 __asm(r1), c##p##2 __asm(r2), c##p##3 __asm(r3);
#define TT_MADE(p, r0, r1, r2, r3) "=f"(c##p##0), "=f"(c##p##1), "=f"(c##p##2), "=f"(c##p##3),
#define TT_GIVEN(p, r0, r1, r2, r3) tile.at[p] = (tt_v_xpulp){ c##p##0, c##p##1, c##p##2, c##p##3 };
#define TT_CALL_XPULP(name, P, rows) \
    static inline __attribute__((always_inline)) tt_tile_xpulp name##_xpulp_##P(const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        register const tt_half *a1 __asm("a1") = a, *a2 __asm("a2") = b; \
        register const tt_walk *a3 __asm("a3") = w; \
        tt_tile_xpulp tile; \
        TT_REGISTERS##rows(TT_NAMED) \
        __asm volatile("call %[tile]" : TT_REGISTERS##rows(TT_MADE) "+r"(a1), "+r"(a2) : "r"(a3), [tile] "i"(name##_routine_##P) \
                       : "memory", "ra", "a4", "a5", "a6", "a7", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "s9", "s10", "s11", \
                         "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31"); \
        TT_REGISTERS##rows(TT_GIVEN) \
        return tile; \
    }

/* A turn is of 24 pairs, and a run enters its first one t3 pairs late (t4). t5: bytes of a in all its turns. s9 is below 0 where a half is left,
 * above it where a row has several runs. s10 and s11 lead from the end of a row to the next one's start. */
#define TT_PAIRS_XPULP(none, P) \
    TT_ROUTINE(tt_pairs_routine_##P, \
        TT_HALVES("t6", TT_A_NEXT) TT_P##P(TT_NEXT, "t6") \
        "lw t1, " TT_ROWS "\n\t" \
        "lw t2, " TT_COLS "\n\t" \
        "lw t5, " TT_STEPS "\n\t" TT_P##P(TT_CLEAR, ) \
        "blez t1, 8f\n\t" \
        "andi s9, t5, 1\n\t" \
        "srli t5, t5, 1\n\t" \
        "lla t4, 5f\n\t" \
        "li t3, 0\n\t" \
        "beqz t5, 1f\n\t" \
        "li t6, 24\n\t" \
        "addi t3, t5, 23\n\t" \
        "remu t3, t3, t6\n\t" \
        "sub t3, t6, t3\n\t" \
        "addi t3, t3, -1\n\t" \
        "add t5, t5, t3\n\t" \
        "slli t5, t5, 2\n\t" \
        "lla t4, 4f\n\t" \
        "li t6, 4*(4+5*" #P ")\n\t" \
        "mul t6, t6, t3\n\t" \
        "add t4, t4, t6\n" \
        "1:\n\tslli t6, t3, 4\n\t" TT_HALVES("s11", TT_B_ROW) \
        "sub s11, s11, t6\n\t" \
        "sub a2, a2, t6\n\t" \
        "slli t3, t3, 2\n\t" TT_HALVES("s10", TT_A_ROW) \
        "add s10, s10, s9\n\t" \
        "add s10, s10, s9\n\t" \
        "sub s10, s10, t3\n\t" TT_P##P(TT_BACK, "t3") \
        "neg s9, s9\n\t" \
        "addi t6, t2, -1\n\t" \
        "or s9, s9, t6\n\t" \
        "add t3, a1, t5\n\t" \
        "jr t4\n" \
        "4:\n\t" TT_PAIR_TURN(P) \
        "addi a2, a2, 16*24\n\t" TT_P##P(TT_MOVE, "4*24") \
        "bne a1, t3, 4b\n" \
        "5:\n\t" \
        "bnez s9, 9f\n" \
        "6:\n\t" \
        "addi t1, t1, -1\n\t" \
        "beqz t1, 8f\n\t" \
        "add a2, a2, s11\n\t" TT_P##P(TT_MOVE, "s10") \
        "add t3, a1, t5\n\t" \
        "jr t4\n" \
        "7:\n\tlw t3, " TT_A_COL "\n\t" \
        "lw t6, " TT_A_ROW "\n\t" \
        "sub t3, t3, t6\n\t" \
        "slli t3, t3, 1\n\t" \
        "add t3, t3, s10\n\t" TT_P##P(TT_MOVE, "t3") \
        "lw t3, " TT_B_COL "\n\t" \
        "lw t6, " TT_B_ROW "\n\t" \
        "sub t3, t3, t6\n\t" \
        "slli t3, t3, 1\n\t" \
        "add t3, t3, s11\n\t" \
        "add a2, a2, t3\n\t" \
        "add t3, a1, t5\n\t" \
        "jr t4\n" \
        "9:\n\tbgez s9, 1f\n\t" TT_FOUR_B("0(a2)") TT_P##P(TT_ALONE, ) TT_BEFORE##P(TT_PAIR_ON) \
        "addi a2, a2, 16\n" \
        "1:\n\t" \
        "addi t2, t2, -1\n\t" \
        "bnez t2, 7b\n\t" \
        "lw t2, " TT_COLS "\n\t" \
        "j 6b\n" \
        "8:\n\t") \
    TT_CALL_XPULP(tt_pairs, P, P)
TT_SIZES6(TT_PAIRS_XPULP, )

/* Step i of `window`, of the plane at `at`: what the third tap has read is what the first one reads of the next step. */
#define TT_WINDOW_PLANE(i, at, first, second, c0, c1, c2) \
    "flw " second ", 2+4*" #i "(" at ")\n\t" c0(TT_PAIR_ON, first) \
    "flw " first ", 4+4*" #i "(" at ")\n\t" c1(TT_PAIR_ON, second) c2(TT_PAIR_ON, first)
#define TT_WINDOW_STEP1(i) TT_FOUR_B("16*" #i "(a2)") TT_WINDOW_PLANE(i, "a1", "f28", "f30", TT_SUMS0, TT_SUMS1, TT_SUMS2)
#define TT_WINDOW_STEP2(i) TT_WINDOW_STEP1(i) TT_WINDOW_PLANE(i, "a4", "f29", "f31", TT_SUMS3, TT_SUMS4, TT_SUMS5)
#define TT_WINDOW_TURN(step) \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11) step(12) step(13) step(14) step(15)
#define TT_ONLY1(two)
#define TT_ONLY2(two) two

/* a5 and a6: where rows begin in the planes, a7 bytes apart. A row has up to 16 pairs, and enters the steps t3 pairs late. */
#define TT_WINDOW_XPULP(P, rows) \
    TT_ROUTINE(tt_window_routine_##P, \
        "mv a5, a1\n\t" TT_HALVES("a6", TT_A_NEXT) \
        "add a6, a6, a1\n\t" \
        "lw t1, " TT_ROWS "\n\t" \
        "lw t5, " TT_STEPS "\n\t" TT_P##rows(TT_CLEAR, ) \
        "blez t1, 8f\n\t" \
        "lw a7, " TT_A_ROW "\n\t" \
        "add a7, a7, t5\n\t" \
        "slli a7, a7, 1\n\t" \
        "srli t5, t5, 1\n\t" \
        "li t3, 16\n\t" \
        "sub t3, t3, t5\n\t" \
        "lla t4, 4f\n\t" \
        "li t6, 4*(4+14*" #P ")\n\t" \
        "mul t6, t6, t3\n\t" \
        "add t4, t4, t6\n\t" \
        "slli s10, t3, 2\n\t" \
        "slli s11, t3, 4\n\t" \
        "sub a2, a2, s11\n\t" \
        "slli s11, t5, 4\n\t" \
        "j 3f\n" \
        "4:\n\t" TT_WINDOW_TURN(TT_WINDOW_STEP##P) \
        "addi t1, t1, -1\n\t" \
        "beqz t1, 8f\n\t" \
        "add a2, a2, s11\n" \
        "3:\n\tflw f28, 0(a5)\n\t" \
        "sub a1, a5, s10\n\t" \
        "add a5, a5, a7\n\t" TT_ONLY##P("flw f29, 0(a6)\n\tsub a4, a6, s10\n\tadd a6, a6, a7\n\t") \
        "jr t4\n" \
        "8:\n\t") \
    TT_CALL_XPULP(tt_window, P, rows)
TT_WINDOW_XPULP(1, 3)
TT_WINDOW_XPULP(2, 6)

#endif
