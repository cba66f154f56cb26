/* SPDX-License-Identifier: Apache-2.0 */
/* STM32F100. ST RM0041: section 6.2 (clocks), 6.3 (registers of RCC), 7.2 (registers of ports). Its flash needs no wait states. */
#include "chip.h"

#define RCC_CR 0x40021000u   /* bit 16: crystal on, 17: it runs, 24: PLL on, 25: it runs */
#define RCC_CFGR 0x40021004u /* bits 1:0: clock, 3:2: clock that runs, 10:8 and 13:11: APB1, APB2, 16: PLL of the crystal, 21:18: times */
#define RCC_CFGR2 0x4002102Cu
#define RCC_APB2ENR 0x40021018u /* bit 2 and on: ports have a clock */
#define GPIOA 0x40010800u
#define SW_PLL UINT32_C(2)

static int speed_up(void)
{
#ifdef TT_PLL_N
    tt_chip_set(RCC_CR, 0, BIT(16));
    if (!tt_chip_becomes(RCC_CR, BIT(17), BIT(17))) {
        return 0;
    }
    CHIP_REGISTER(RCC_CFGR2) = TT_PLL_M - 1u;
    CHIP_REGISTER(RCC_CFGR) = BIT(16) | (TT_PLL_N - 2u) << 18;
    tt_chip_set(RCC_CR, 0, BIT(24));
    if (!tt_chip_becomes(RCC_CR, BIT(25), BIT(25))) {
        return 0;
    }
    tt_chip_set(RCC_CFGR, 3u, SW_PLL);
    return tt_chip_becomes(RCC_CFGR, 3u << 2, SW_PLL << 2);
#else
    return 0;
#endif
}

/* Four bits a pin: 0xB is an alternate function that drives at up to 50 MHz, 4 a floating input. */
static void connect_pin(uint32_t port, uint32_t pin, uint32_t mode)
{
    tt_chip_set(RCC_APB2ENR, 0, BIT(2u + (port - GPIOA) / 0x400u));
    tt_chip_set(port + pin / 8u * 4u, UINT32_C(0xF) << pin % 8u * 4u, mode << pin % 8u * 4u);
}

tt_clocks tt_chip_start(void)
{
    const int fast = speed_up();
    tt_chip_set(TT_UART_ENABLE, 0, BIT(TT_UART_ENABLE_BIT));
    connect_pin(TT_UART_TX_PORT, TT_UART_TX_PIN, 0xB);
    connect_pin(TT_UART_RX_PORT, TT_UART_RX_PIN, 4);
    return fast ? (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ} : (tt_clocks){TT_RESET_HZ, TT_RESET_HZ};
}
