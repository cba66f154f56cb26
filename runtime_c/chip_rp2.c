/* SPDX-License-Identifier: Apache-2.0 */
/* RP2040 and RP2350. RP2040 data sheet sections 2.14 (resets), 2.15 (clocks), 2.16 (crystal), 2.18 (PLL), 2.19 (pins); RP2350 data sheet
 * 7.5, 8.1, 8.2, 8.6, 9. The same registers at other addresses, which soc.toml has. */
#include "chip.h"

#define CLEAR 0x3000u /* added to an address: clear these bits */
#define RESETS_DONE (TT_RESETS + 0x8u)
#define XOSC_CTRL TT_XOSC
#define XOSC_STATUS (TT_XOSC + 0x4u) /* bit 31: stable */
#define XOSC_STARTUP (TT_XOSC + 0xCu)
#define CLK_REF_CTRL (TT_CLOCKS + 0x30u)
#define CLK_REF_SELECTED (TT_CLOCKS + 0x38u)
#define CLK_SYS_CTRL (TT_CLOCKS + 0x3Cu)
#define CLK_SYS_SELECTED (TT_CLOCKS + 0x44u)
#define CLK_PERI_CTRL (TT_CLOCKS + 0x48u)
#define PLL_CS TT_PLL /* bit 31: locked */
#define PLL_POWER (TT_PLL + 0x4u)
#define PLL_FBDIV (TT_PLL + 0x8u)
#define PLL_PRIM (TT_PLL + 0xCu)
#define UART_OF_A_PIN 2u
#define PAD 0x5Au /* input on, 4 mA, pulled up as an idle line is; and, of an RP2350, no longer isolated */

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
    CHIP_REGISTER(TT_RESETS + CLEAR) = TT_RESETS_USED;
    (void)tt_chip_becomes(RESETS_DONE, TT_RESETS_USED, TT_RESETS_USED);
    const uint32_t hz = speed_up() ? TT_CLOCK_HZ : TT_RESET_HZ;
    CHIP_REGISTER(CLK_PERI_CTRL) = BIT(11); /* on, the processor's */
    CHIP_REGISTER(TT_PADS + 4u + 4u * TT_UART_TX_PIN) = PAD;
    CHIP_REGISTER(TT_PADS + 4u + 4u * TT_UART_RX_PIN) = PAD;
    CHIP_REGISTER(TT_UART_TX_PORT + 8u * TT_UART_TX_PIN + 4u) = UART_OF_A_PIN;
    CHIP_REGISTER(TT_UART_RX_PORT + 8u * TT_UART_RX_PIN + 4u) = UART_OF_A_PIN;
    return (tt_clocks){hz, hz};
}
