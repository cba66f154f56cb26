/* SPDX-License-Identifier: Apache-2.0 */
/* SiFive FE310-G002. Manual v1p5, chapter 6 (clock generation), 17 (GPIO). */
#include "chip.h"

#define HFROSCCFG 0x10008000u /* bit 30: ring oscillator on, 31: it runs */
#define HFXOSCCFG 0x10008004u /* bit 30: crystal on, 31: it runs */
#define PLLCFG 0x10008008u    /* bits 2:0: R, 9:4: F, 11:10: Q, 16: use it, 17: from the crystal, 18: go round it, 31: locked */
#define PLLOUTDIV 0x1000800Cu /* bit 8: by one */
#define ROUND BIT(18)
#define LOCKED BIT(31)
#define IOF_ENABLE 0x38u
#define IOF_SELECT 0x3Cu

/* Q is the power of two that P is. R and F are one less, and two halves of N one more, than the factor. */
static uint32_t power(uint32_t of)
{
    return of > 1u ? 1u + power(of / 2u) : 0u;
}

static int speed_up(void)
{
    tt_chip_set(HFROSCCFG, 0, BIT(30)); /* runs the core while the PLL is set up; boot loaders turn it off */
    tt_chip_set(HFXOSCCFG, 0, BIT(30));
    if (!tt_chip_becomes(HFROSCCFG, BIT(31), BIT(31)) || !tt_chip_becomes(HFXOSCCFG, BIT(31), BIT(31))) {
        return 0;
    }
    const uint32_t factors = (TT_PLL_M - 1u) | (TT_PLL_N / 2u - 1u) << 4 | power(TT_PLL_P) << 10 | BIT(17);
    CHIP_REGISTER(PLLOUTDIV) = BIT(8);
    CHIP_REGISTER(PLLCFG) = factors | ROUND;
    CHIP_REGISTER(PLLCFG) = factors;
    for (volatile int32_t i = 0; i < 2000; ++i) { /* 100 us, in which the lock is not to be believed */
    }
    if (!tt_chip_becomes(PLLCFG, LOCKED, LOCKED)) {
        return 0;
    }
    CHIP_REGISTER(PLLCFG) = factors | BIT(16);
    return 1;
}

tt_clocks tt_chip_start(void)
{
    const uint32_t hz = speed_up() ? TT_CLOCK_HZ : TT_RESET_HZ;
    const uint32_t pins = BIT(TT_UART_TX_PIN) | BIT(TT_UART_RX_PIN);
    tt_chip_set(TT_UART_TX_PORT + IOF_SELECT, pins, 0);
    tt_chip_set(TT_UART_TX_PORT + IOF_ENABLE, 0, pins);
    return (tt_clocks){hz, hz};
}
