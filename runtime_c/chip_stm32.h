/* SPDX-License-Identifier: Apache-2.0 */
/* What STM32F4, F7 and H7 have alike: the crystal and the PLL are started by the same bits of RCC_CR, and pins are connected by the same
 * registers of their ports. The file that includes this says where RCC_CR, the first port (GPIOA) and the register that gives ports a
 * clock (RCC_PORTS) are, and has speed_up(). */
#ifndef CHIP_STM32_H
#define CHIP_STM32_H

#include "chip.h"
#ifdef TT_CACHES
#include "cache_m7.h"
#endif

/* Whether the clock runs that TT_PLL_M divides: with a crystal, bit 16 of RCC_CR starts it, 17 says that it runs, and 18 that a clock is fed
 * in place of one. */
static inline int tt_stm32_source_runs(void)
{
#ifdef TT_CLOCK_FROM_HSI
    return 1;
#else
#ifdef TT_CLOCK_FROM_HSE_BYPASS
    tt_chip_set(RCC_CR, 0, BIT(18));
#endif
    tt_chip_set(RCC_CR, 0, BIT(16));
    return tt_chip_becomes(RCC_CR, BIT(17), BIT(17));
#endif
}

/* Bit 24 of RCC_CR starts the PLL, 25 says that it runs. */
static inline int tt_stm32_pll_runs(void)
{
    tt_chip_set(RCC_CR, 0, BIT(24));
    return tt_chip_becomes(RCC_CR, BIT(25), BIT(25));
}

/* A bus divided by 1, 2, 4, 8 or 16 is 0, 4, 5, 6 or 7. */
static inline uint32_t tt_stm32_divider(uint32_t by)
{
    uint32_t code = by > 1u ? 3u : 0u;
    for (; by > 1u; by /= 2u) {
        ++code;
    }
    return code;
}

/* Two bits a pin, of which 2 means an alternate function; and four bits, which one. */
static void connect_pin(uint32_t port, uint32_t pin, uint32_t function)
{
    tt_chip_set(RCC_PORTS, 0, BIT((port - GPIOA) / 0x400u));
    (void)CHIP_REGISTER(RCC_PORTS); /* the clock runs two cycles after it was written: a read takes them */
    tt_chip_set(port + 0x20u + pin / 8u * 4u, UINT32_C(0xF) << pin % 8u * 4u, function << pin % 8u * 4u);
    tt_chip_set(port, UINT32_C(3) << pin * 2u, UINT32_C(2) << pin * 2u);
}

static int speed_up(void);

tt_clocks tt_chip_start(void)
{
    const int fast = speed_up();
#ifdef TT_CACHES
    tt_cache_start();
#endif
    tt_chip_set(TT_UART_ENABLE, 0, BIT(TT_UART_ENABLE_BIT));
    connect_pin(TT_UART_TX_PORT, TT_UART_TX_PIN, TT_UART_TX_FUNCTION);
    connect_pin(TT_UART_RX_PORT, TT_UART_RX_PIN, TT_UART_RX_FUNCTION);
    return fast ? (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ} : (tt_clocks){TT_RESET_HZ, TT_RESET_HZ};
}

#endif
