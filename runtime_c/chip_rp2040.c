/* SPDX-License-Identifier: Apache-2.0 */
/* RP2040. Data sheet sections 2.14 (resets), 2.15 (clocks), 2.16 (crystal), 2.18 (PLL), 2.19 (pins). */
#include "chip.h"

#define CLEAR 0x3000u /* added to an address: clear these bits */
#define RESETS 0x4000C000u
#define RESETS_DONE 0x4000C008u
#define USED (BIT(5) | BIT(8) | BIT(12) | BIT(22) | BIT(23)) /* pins, pads, PLL, both UARTs */
#define XOSC_CTRL 0x40024000u
#define XOSC_STATUS 0x40024004u /* bit 31: stable */
#define XOSC_STARTUP 0x4002400Cu
#define CLK_REF_CTRL 0x40008030u
#define CLK_REF_SELECTED 0x40008038u
#define CLK_SYS_CTRL 0x4000803Cu
#define CLK_SYS_SELECTED 0x40008044u
#define CLK_PERI_CTRL 0x40008048u
#define PLL_CS 0x40028000u /* bit 31: locked */
#define PLL_POWER 0x40028004u
#define PLL_FBDIV 0x40028008u
#define PLL_PRIM 0x4002800Cu
#define UART_OF_A_PIN 2u

/* The second of two dividers is 2, the first one the rest of P. */
static int speed_up(void)
{
    CHIP_REGISTER(XOSC_STARTUP) = 47; /* times 256 periods of 12 MHz: 1 ms */
    CHIP_REGISTER(XOSC_CTRL) = 0xFABAA0u;
    if (!tt_chip_becomes(XOSC_STATUS, BIT(31), BIT(31))) {
        return 0;
    }
    CHIP_REGISTER(CLK_REF_CTRL) = 2;
    if (!tt_chip_becomes(CLK_REF_SELECTED, BIT(2), BIT(2))) {
        return 0;
    }
    CHIP_REGISTER(PLL_CS) = TT_PLL_M;
    CHIP_REGISTER(PLL_FBDIV) = TT_PLL_N;
    CHIP_REGISTER(PLL_POWER + CLEAR) = BIT(0) | BIT(5);
    if (!tt_chip_becomes(PLL_CS, BIT(31), BIT(31))) {
        return 0;
    }
    CHIP_REGISTER(PLL_PRIM) = TT_PLL_P / 2u << 16 | UINT32_C(2) << 12;
    CHIP_REGISTER(PLL_POWER + CLEAR) = BIT(3);
    CHIP_REGISTER(CLK_SYS_CTRL) = 1; /* its other source, of which the PLL is the first */
    return tt_chip_becomes(CLK_SYS_SELECTED, BIT(1), BIT(1));
}

tt_clocks tt_chip_start(void)
{
    CHIP_REGISTER(RESETS + CLEAR) = USED;
    (void)tt_chip_becomes(RESETS_DONE, USED, USED);
    const uint32_t hz = speed_up() ? TT_CLOCK_HZ : TT_RESET_HZ;
    CHIP_REGISTER(CLK_PERI_CTRL) = BIT(11); /* on, the processor's */
    CHIP_REGISTER(TT_UART_TX_PORT + 8u * TT_UART_TX_PIN + 4u) = UART_OF_A_PIN;
    CHIP_REGISTER(TT_UART_RX_PORT + 8u * TT_UART_RX_PIN + 4u) = UART_OF_A_PIN;
    return (tt_clocks){hz, hz};
}
