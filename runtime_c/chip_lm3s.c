/* SPDX-License-Identifier: Apache-2.0 */
/* TI LM3S6965. Data sheet SPMS036, section 5.3 (initialization of clocks), 8.3 (of ports), with a crystal of 8 MHz. */
#include "chip.h"

#define RIS 0x400FE050u /* bit 6: the PLL runs */
#define RCC 0x400FE060u
#define BYPASS BIT(11)   /* the PLL is not used */
#define POWER_OFF BIT(13) /* of the PLL */
#define USE_DIVIDER BIT(22)
#define RCGC2 0x400FE108u /* bit 0: port A has a clock */
#define AFSEL 0x420u
#define DEN 0x51Cu

static int speed_up(void)
{
    tt_chip_set(RCC, USE_DIVIDER, BYPASS);
    tt_chip_set(RCC, POWER_OFF | UINT32_C(0xF) << 6 | UINT32_C(3) << 4 | BIT(0), UINT32_C(0xE) << 6); /* 8 MHz, main oscillator */
    tt_chip_set(RCC, UINT32_C(0xF) << 23, (TT_PLL_P - 1u) << 23 | USE_DIVIDER);
    if (!tt_chip_becomes(RIS, BIT(6), BIT(6))) {
        tt_chip_set(RCC, USE_DIVIDER, 0);
        return 0;
    }
    tt_chip_set(RCC, BYPASS, 0);
    return 1;
}

tt_clocks tt_chip_start(void)
{
    const uint32_t hz = speed_up() ? TT_CLOCK_HZ : TT_RESET_HZ;
    tt_chip_set(TT_UART_ENABLE, 0, BIT(TT_UART_ENABLE_BIT));
    tt_chip_set(RCGC2, 0, BIT(0));
    (void)CHIP_REGISTER(RCGC2); /* three cycles until the port may be written */
    (void)CHIP_REGISTER(RCGC2);
    tt_chip_set(TT_UART_TX_PORT + AFSEL, 0, BIT(TT_UART_TX_PIN) | BIT(TT_UART_RX_PIN));
    tt_chip_set(TT_UART_TX_PORT + DEN, 0, BIT(TT_UART_TX_PIN) | BIT(TT_UART_RX_PIN));
    return (tt_clocks){hz, hz};
}
