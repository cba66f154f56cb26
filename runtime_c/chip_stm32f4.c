/* SPDX-License-Identifier: Apache-2.0 */
/* STM32F4 and STM32F7. ST RM0090, RM0390 and RM0385: sections 3.5 (wait states), 7.2 or 6.2 (clocks), 8.4 (registers of ports).
 * The regulator's scale 1, as after reset, and no over-drive: 168 MHz on the F4 and 180 MHz on the F7 at most. */
#include "chip.h"

#define RCC_CR 0x40023800u /* bit 16: crystal on, 17: it runs, 18: a clock is fed in place of a crystal, 24: PLL on, 25: it runs */
#define RCC_PLLCFGR 0x40023804u
#define RCC_CFGR 0x40023808u /* bits 1:0: clock, 3:2: clock that runs, 12:10 and 15:13: dividers of APB1 and APB2 */
#define RCC_AHB1ENR 0x40023830u /* bit 0 and on: ports have a clock */
#define GPIOA 0x40020000u
#define FLASH_ACR 0x40023C00u /* bits 3:0: wait states, 8: prefetch, 9 and 10: caches (F4); 9: accelerator (F7) */
#define SW_PLL UINT32_C(2)

#ifdef TT_PLL_N
/* A bus divided by 1, 2, 4, 8 or 16 is 0, 4, 5, 6 or 7. */
static uint32_t divider(uint32_t by)
{
    uint32_t code = by > 1u ? 3u : 0u;
    for (; by > 1u; by /= 2u) {
        ++code;
    }
    return code;
}
#endif

static int speed_up(void)
{
#ifdef TT_PLL_N
    uint32_t source = 0;
#ifndef TT_CLOCK_FROM_HSI
#ifdef TT_CLOCK_FROM_HSE_BYPASS
    tt_chip_set(RCC_CR, 0, BIT(18));
#endif
    tt_chip_set(RCC_CR, 0, BIT(16));
    if (!tt_chip_becomes(RCC_CR, BIT(17), BIT(17))) {
        return 0;
    }
    source = BIT(22);
#endif
    /* Q, the divider of USB, which nothing here uses, must be 2 at least. */
    CHIP_REGISTER(RCC_PLLCFGR) = TT_PLL_M | TT_PLL_N << 6 | (TT_PLL_P / 2u - 1u) << 16 | source | UINT32_C(15) << 24 | TT_PLLCFGR_KEPT;
    tt_chip_set(RCC_CR, 0, BIT(24));
    if (!tt_chip_becomes(RCC_CR, BIT(25), BIT(25))) {
        return 0;
    }
    CHIP_REGISTER(FLASH_ACR) = TT_FLASH_WAIT | TT_FLASH_CACHES; /* before the clock is faster */
    if (!tt_chip_becomes(FLASH_ACR, 0xFu, TT_FLASH_WAIT)) {
        return 0;
    }
    tt_chip_set(RCC_CFGR, UINT32_C(0x3F) << 10, divider(TT_APB1_DIV) << 10 | divider(TT_APB2_DIV) << 13);
    tt_chip_set(RCC_CFGR, 3u, SW_PLL);
    return tt_chip_becomes(RCC_CFGR, 3u << 2, SW_PLL << 2);
#else
    return 0;
#endif
}

/* Two bits a pin, of which 2 means an alternate function; and four bits, which one. */
static void connect_pin(uint32_t port, uint32_t pin, uint32_t function)
{
    tt_chip_set(RCC_AHB1ENR, 0, BIT((port - GPIOA) / 0x400u));
    (void)CHIP_REGISTER(RCC_AHB1ENR); /* the clock runs two cycles after it was written: a read takes them */
    tt_chip_set(port + 0x20u + pin / 8u * 4u, UINT32_C(0xF) << pin % 8u * 4u, function << pin % 8u * 4u);
    tt_chip_set(port, UINT32_C(3) << pin * 2u, UINT32_C(2) << pin * 2u);
}

tt_clocks tt_chip_start(void)
{
    const int fast = speed_up();
    tt_chip_set(TT_UART_ENABLE, 0, BIT(TT_UART_ENABLE_BIT));
    connect_pin(TT_UART_TX_PORT, TT_UART_TX_PIN, TT_UART_TX_FUNCTION);
    connect_pin(TT_UART_RX_PORT, TT_UART_RX_PIN, TT_UART_RX_FUNCTION);
    return fast ? (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ} : (tt_clocks){TT_RESET_HZ, TT_RESET_HZ};
}
