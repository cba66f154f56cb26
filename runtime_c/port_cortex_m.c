/* SPDX-License-Identifier: Apache-2.0 */
/* Cortex-M (Armv6-M, Armv7-M, Armv8-M): vectors, FPU, SysTick as a 64-bit counter, sleep until a byte comes, faults. */
#include "tt_port.h"
#include "tt_start.h"
#include "uart.h"

#define SYST_CSR CHIP_REGISTER(0xE000E010)
#define SYST_RVR CHIP_REGISTER(0xE000E014)
#define SYST_CVR CHIP_REGISTER(0xE000E018)
#define ICSR CHIP_REGISTER(0xE000ED04)
#define PENDSTCLR (UINT32_C(1) << 25)
#define CPACR CHIP_REGISTER(0xE000ED88)
#define CFSR CHIP_REGISTER(0xE000ED28)
#define BFAR CHIP_REGISTER(0xE000ED38)
#define NVIC_ISER CHIP_REGISTER(0xE000E100 + TT_UART_IRQ / 32 * 4) /* enable */
#define NVIC_ICER CHIP_REGISTER(0xE000E180 + TT_UART_IRQ / 32 * 4) /* disable */
#define NVIC_ICPR CHIP_REGISTER(0xE000E280 + TT_UART_IRQ / 32 * 4) /* no longer pending */
#define UART_IRQ (UINT32_C(1) << TT_UART_IRQ % 32)
#define SYSTICK_MAX UINT32_C(0x00FFFFFF)

static volatile uint32_t wraps; /* of the 24-bit SysTick */
static tt_clocks clocks;

void tt_reset_handler(void);
void tt_fault_handler(void);
void tt_systick_handler(void);
void tt_fault_report(const uint32_t *frame);

typedef union {
    const uint32_t *stack;
    void (*handler)(void);
} vector;

extern const vector tt_vectors[16];
__attribute__((section(".vectors"), used)) const vector tt_vectors[16] = {
    {.stack = tt_stack_top},         {.handler = tt_reset_handler}, {.handler = tt_fault_handler},
    {.handler = tt_fault_handler},   {.handler = tt_fault_handler}, {.handler = tt_fault_handler},
    {.handler = tt_fault_handler},   {.handler = tt_fault_handler}, {.handler = tt_fault_handler},
    {.handler = tt_fault_handler},   {.handler = tt_fault_handler}, {.handler = tt_fault_handler},
    {.handler = tt_fault_handler},   {.handler = tt_fault_handler}, {.handler = tt_fault_handler},
    {.handler = tt_systick_handler},
};

void tt_reset_handler(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= UINT32_C(0xF) << 20; /* full access to coprocessors 10 and 11: floats and vectors */
    __asm volatile("dsb\n\tisb" ::: "memory");
#endif
#if __ARM_ARCH >= 8
    __asm volatile("msr msplim, %0" ::"r"(tt_stack_bottom + TT_STACK_GUARD_BYTES / sizeof tt_stack_bottom[0]));
#endif
    __asm volatile("cpsid i" ::: "memory");
    tt_start();
}

void tt_systick_handler(void)
{
    ++wraps;
}

/* The old stack pointer may be what failed: read the saved registers through it, then work on a fresh stack. */
__attribute__((naked)) void tt_fault_handler(void)
{
    __asm volatile("mrs r0, msp\n\t"
                   "ldr r1, =tt_stack_top\n\t"
                   "mov sp, r1\n\t"
                   "ldr r1, =tt_fault_report\n\t" /* a branch of Armv6-M reaches 2 KB */
                   "bx r1");
}

__attribute__((used)) void tt_fault_report(const uint32_t *frame)
{
    const int readable = frame >= tt_stack_bottom && frame + 8 <= tt_stack_top;
#if __ARM_ARCH == 6
    tt_fault(readable ? frame[6] : 0u, 0, 0); /* Armv6-M does not say why */
#else
    tt_fault(readable ? frame[6] : 0u, CFSR, BFAR);
#endif
}

void tt_port_start(void)
{
    clocks = tt_chip_start();
    tt_uart_start(clocks.uart_hz);
}

uint32_t tt_port_clock_hz(void)
{
    return clocks.core_hz;
}

/* Sleeps until a byte has arrived. With PRIMASK set its interrupt is never taken; pending, it only ends the sleep.
 * Cleared before the look at the port, it cannot be missed. */
int tt_port_get(void)
{
    NVIC_ISER = UART_IRQ;
    for (;;) {
        NVIC_ICPR = UART_IRQ;
        if (tt_uart_ready()) {
            return tt_uart_byte();
        }
        __asm volatile("wfi" ::: "memory");
    }
}

/* SysTick is the only interrupt that is ever taken, and only while it counts. */
void tt_port_count_start(void)
{
    NVIC_ICER = UART_IRQ;
    SYST_CSR = 0;
    SYST_RVR = SYSTICK_MAX;
    SYST_CVR = 0; /* whatever is written clears it */
    ICSR = PENDSTCLR;
    wraps = 0;
    __asm volatile("cpsie i" ::: "memory");
    SYST_CSR = 7; /* processor clock, interrupt, on */
}

/* The counter starts at 0, takes its reload value with the first tick and counts down: 0 - value, in 24 bits. */
uint64_t tt_port_count_stop(void)
{
    uint32_t high, low;
    do {
        high = wraps;
        low = (0u - SYST_CVR) & SYSTICK_MAX;
    } while (high != wraps);
    SYST_CSR = 0;
    __asm volatile("cpsid i" ::: "memory");
    return ((uint64_t)high << 24) + low;
}
