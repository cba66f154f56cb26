/* SPDX-License-Identifier: Apache-2.0 */
/* What a chip needs before its serial port works: clocks as board.toml asks for them, and pins. Each chip_*.c implements it.
 *
 * From board.toml come TT_CLOCK_HZ, TT_RESET_HZ (before any of this), TT_UART_CLOCK_HZ, the factors TT_PLL_M, TT_PLL_N and TT_PLL_P where
 * clock_hz = source / M * N / P, TT_FLASH_WAIT, a TT_<BUS>_DIV for each bus, and TT_UART_{TX,RX}_{PORT,PIN,FUNCTION}. */
#ifndef TT_CHIP_H
#define TT_CHIP_H

#include <stdint.h>

typedef struct {
    uint32_t core_hz, uart_hz;
} tt_clocks;

/* The clocks that run now: those of reset where an oscillator did not start, as a board without its crystal, or an emulator without one. */
tt_clocks tt_chip_start(void);

#define CHIP_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define BIT(n) (UINT32_C(1) << (n))

/* Whether these bits become equal to `value` within some 20 ms at the slowest clock of reset: oscillators take less than ten. */
static inline int tt_chip_becomes(uintptr_t address, uint32_t bits, uint32_t value)
{
    for (int32_t i = 0; i < 50000; ++i) {
        if ((CHIP_REGISTER(address) & bits) == value) {
            return 1;
        }
    }
    return 0;
}

/* Some bits of a register replaced. */
static inline void tt_chip_set(uintptr_t address, uint32_t bits, uint32_t value)
{
    CHIP_REGISTER(address) = (CHIP_REGISTER(address) & ~bits) | value;
}

#endif
