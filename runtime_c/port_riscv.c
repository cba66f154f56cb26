/* SPDX-License-Identifier: Apache-2.0 */
/* RISC-V in machine mode: entry, FPU and vector unit on, retired instructions as the counter, traps, sleep until a byte comes. */
#include "hart.h"
#include "tt_port.h"
#include "tt_start.h"

void tt_entry(void);
void tt_fatal_trap(void);

/* mstatus.FS and .VS are set to dirty: with them off, the first float or vector instruction would trap. Each core takes its part of the
 * stack; all but the first sleep until that has started, and use no stack before. */
__attribute__((naked, used, section(".vectors"))) void tt_entry(void)
{
    __asm volatile(".option push\n\t"
                   ".option norelax\n\t"
                   "la gp, __global_pointer$\n\t"
                   ".option pop\n\t"
                   "la sp, tt_stack_top\n\t"
                   "la t0, tt_trap\n\t"
                   "csrw mtvec, t0\n\t"
#ifdef __riscv_flen
                   "li t0, 0x6600\n\t"
                   "csrs mstatus, t0\n\t"
                   "csrw fcsr, zero\n\t"
#endif
#if TT_EMULATES || TT_CORES > 1
                   "csrr a0, mhartid\n\t"
#endif
#if TT_CORES > 1
                   "la t0, tt_stack_bottom\n\t"
                   "sub t0, sp, t0\n\t"
                   "li t1, %[cores]\n\t"
                   "divu t0, t0, t1\n\t"
                   "mul t0, t0, a0\n\t"
                   "sub sp, sp, t0\n\t"
                   "beqz a0, 2f\n\t"
                   "csrsi mie, 8\n" /* software interrupts */
                   "1:\n\t"
                   "wfi\n\t"
                   "csrr t0, mip\n\t"
                   "andi t0, t0, 8\n\t"
                   "beqz t0, 1b\n\t"
                   "2:\n\t"
#endif
#if TT_EMULATES
                   "call tt_emulator_start\n\t"
#endif
#if TT_CORES > 1
                   "csrr a0, mhartid\n\t"
                   "beqz a0, 3f\n\t"
                   "j tt_core_serve\n"
                   "3:\n\t"
#endif
                   "j tt_start" ::[cores] "i"(TT_CORES));
}

__attribute__((naked, used, aligned(TT_TRAP_ALIGN))) void tt_fatal_trap(void)
{
    __asm volatile("la sp, tt_stack_top\n\t"
                   "csrr a0, mepc\n\t"
                   "csrr a1, mcause\n\t"
                   "csrr a2, mtval\n\t"
                   "j tt_fault");
}

/* An emulated board may first do what its processor has instructions for, and take that off the count (traps_xpulp.c). */
__attribute__((weak, alias("tt_fatal_trap"))) void tt_trap(void);
__attribute__((weak)) uint64_t tt_emulating(void)
{
    return 0;
}

static tt_clocks clocks;

void tt_port_start(void)
{
    clocks = tt_chip_start();
    tt_uart_start(clocks.uart_hz);
    tt_hart_start();
#if TT_CORES > 1
    tt_core_serve(0);
#endif
}

uint32_t tt_port_clock_hz(void)
{
    return clocks.core_hz;
}

/* Sleeps until a byte has arrived. Machine interrupts stay off in mstatus: a pending one only ends the sleep.
 * Withdrawn before the look at the port, it cannot be missed. */
int tt_port_get(void)
{
    for (;;) {
        tt_hart_rearm();
        if (tt_uart_ready()) {
            return tt_uart_byte();
        }
        tt_hart_sleep();
    }
}

static tt_count start;
static uint64_t start_emulating;

void tt_port_count_start(void)
{
#if TT_CORES > 1
    tt_cores_count_start();
#endif
    start_emulating = tt_emulating();
    start = tt_hart_retired();
}

uint64_t tt_port_count_stop(void)
{
    const tt_count end = tt_hart_retired();
#if TT_CORES > 1
    start += tt_beside();
#endif
    return (tt_count)(end - start) - (tt_emulating() - start_emulating);
}
