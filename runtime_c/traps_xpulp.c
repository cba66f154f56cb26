/* SPDX-License-Identifier: Apache-2.0 */
/* Test equipment for emulators that have Zfh but no vectors of PULP's SmallFloat extension: these trap as illegal instructions and are done
 * here, to the bit. Each of them counts as one instruction: what it takes here is in tt_emulating().
 *
 * Rounding is to nearest even, as the firmware leaves it; flags of exceptions are not kept, and what is not a number is the one of RISC-V. */
#include "tt_half.h"
#include "tt_port.h"
#include "tt_start.h"
#include <stddef.h>

/* What was in registers at the trap, what minstret was, how much the last trap took and all before it. Only one is under way on a core:
 * nothing here traps. */
typedef struct {
    uint32_t f[32], x[32], begun, took;
    uint64_t total;
    uint32_t stack[124];
} trap;

/* One for each core, which mscratch points to. They lie with the code, which the emulator lets be written: RAM is the firmware's own. */
static trap trapped[TT_CORES] __attribute__((aligned(16), section(".rodata.emulation")));

void tt_trap(void);
void tt_fatal_trap(void);
__attribute__((flatten)) int tt_emulate(uint32_t instruction, trap *at);

void tt_emulator_start(uint32_t core)
{
    __asm volatile("csrw mscratch, %0" ::"r"(&trapped[core]));
}

#define TO_BITS(number) ((number) != (number) ? UINT32_C(0x7FC00000) : tt_to_bits(number))

static float element(uint32_t pair, int i)
{
    return tt_half_to_float((tt_half)(pair >> 16 * i));
}

static uint32_t rounded(float number)
{
    return tt_float_to_half(tt_from_bits(TO_BITS(number)));
}

static uint32_t packed(float low, float high)
{
    return rounded(low) | rounded(high) << 16;
}

/* maximumNumber of IEEE 754-2019 */
static float larger(float a, float b)
{
    if (a != a || b != b) {
        return a != a ? b : a;
    }
    return a > b || (a == b && !(tt_to_bits(a) >> 31)) ? a : b;
}

/* Of two halves each, what `by` makes of single precision: rounded once more, the sum, difference or product is the one of halves, for 24 bits
 * are at least twice 11 and two. */
#define EACH(by) packed(by(element(a, 0), element(b, 0)), by(element(a, 1), element(b, 1)))
#define PLUS(x, y) ((x) + (y))
#define MINUS(x, y) ((x) - (y))
#define TIMES(x, y) ((x) * (y))

/* Does the instruction; returns whether it is one of those. */
int tt_emulate(uint32_t instruction, trap *at)
{
    const uint32_t a = at->f[instruction >> 15 & 31u], b = at->f[instruction >> 20 & 31u];
    uint32_t *const to = &at->f[instruction >> 7 & 31u];
    at->total += at->took;
    at->took = 0;
    switch (instruction & 0xFE00707Fu) {
    case 0x96000033u: { /* vfdotpex.s.h: a sum in single precision, the lower product first */
        const float sum = __builtin_fmaf(element(a, 0), element(b, 0), tt_from_bits(*to));
        *to = TO_BITS(__builtin_fmaf(element(a, 1), element(b, 1), sum));
        return 1;
    }
    case 0xB0002033u: /* vfcpka.h.s: two of single precision become a pair */
        *to = packed(tt_from_bits(a), tt_from_bits(b));
        return 1;
    case 0x82002033u: /* vfadd.h */
        *to = EACH(PLUS);
        return 1;
    case 0x84002033u: /* vfsub.h */
        *to = EACH(MINUS);
        return 1;
    case 0x86002033u: /* vfmul.h */
        *to = EACH(TIMES);
        return 1;
    case 0x8C002033u: /* vfmax.h */
        *to = EACH(larger);
        return 1;
    default:
        return 0;
    }
}

uint64_t tt_emulating(void)
{
    const trap *at;
    __asm volatile("csrr %0, mscratch" : "=r"(at));
    return at->total + at->took;
}

/* Retired before minstret is read, and from where it is read again on. */
#define UNSEEN 11

#define FLOATS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) \
    X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define CALLERS(X) X(1) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(28) X(29) X(30) X(31) /* but t0 to t2 */
#define SAVE_F(n) "fsw f" #n ", 4*" #n "(t0)\n\t"
#define LOAD_F(n) "flw f" #n ", 4*" #n "(t0)\n\t"
#define SAVE_X(n) "sw x" #n ", %[x]+4*" #n "(t0)\n\t"
#define LOAD_X(n) "lw x" #n ", %[x]+4*" #n "(t0)\n\t"

__attribute__((naked, used, aligned(4))) void tt_trap(void)
{
    __asm volatile(".option push\n\t"
                   ".option norelax\n\t"
                   "csrrw t0, mscratch, t0\n\t" SAVE_X(6)
                   "csrr t1, minstret\n\t"
                   "sw t1, %[begun](t0)\n\t" SAVE_X(2) SAVE_X(7) CALLERS(SAVE_X) FLOATS(SAVE_F)
                   "csrr t1, mscratch\n\t"
                   "csrw mscratch, t0\n\t"
                   "sw t1, %[x]+4*5(t0)\n\t"
                   "addi sp, t0, %[top]\n\t"
                   "csrr t1, mcause\n\t"
                   "li t2, 2\n\t" /* an illegal instruction */
                   "bne t1, t2, tt_fatal_trap\n\t"
                   "csrr a0, mtval\n\t"
                   "mv a1, t0\n\t"
                   "call tt_emulate\n\t"
                   "beqz a0, tt_fatal_trap\n\t"
                   "csrr t1, mepc\n\t"
                   "addi t1, t1, 4\n\t"
                   "csrw mepc, t1\n\t"
                   "csrr t0, mscratch\n\t" FLOATS(LOAD_F) CALLERS(LOAD_X) LOAD_X(2)
                   "csrr t1, minstret\n\t"
                   "lw t2, %[begun](t0)\n\t"
                   "sub t1, t1, t2\n\t"
                   "addi t1, t1, %[unseen]\n\t"
                   "sw t1, %[took](t0)\n\t" LOAD_X(7) LOAD_X(6) LOAD_X(5)
                   "mret\n\t"
                   ".option pop"
                   :: [x] "i"(offsetof(trap, x)), [begun] "i"(offsetof(trap, begun)), [took] "i"(offsetof(trap, took)),
                      [top] "i"(sizeof(trap)), [unseen] "i"(UNSEEN));
}
