/* SPDX-License-Identifier: Apache-2.0 */
/* STM32H743 and H753. ST RM0433: sections 4.3.12 (wait states), 6.6.1 (supply and scale), 8.5 (clocks), 11.4 (registers of ports).
 * Scale 1 of the regulator, for up to 400 MHz. Caches of the processor stay off. */
#include "chip.h"

#define FLASH_ACR 0x52002000u /* bits 3:0: wait states, 5:4: by their rate */
#define RCC_CR 0x58024400u    /* bit 16: crystal on, 17: it runs, 18: a clock is fed in place of one, 24: PLL on, 25: it runs */
#define RCC_CFGR 0x58024410u  /* bits 2:0: clock, 5:3: clock that runs */
#define RCC_D1CFGR 0x58024418u
#define RCC_D2CFGR 0x5802441Cu
#define RCC_D3CFGR 0x58024420u
#define RCC_PLLCKSELR 0x58024428u
#define RCC_PLLCFGR 0x5802442Cu
#define RCC_PLL1DIVR 0x58024430u
#define RCC_AHB4ENR 0x580244E0u /* bit 0 and on: ports have a clock */
#define PWR_CSR1 0x58024804u    /* bit 13: the voltage is there */
#define PWR_CR3 0x5802480Cu
#define PWR_D3CR 0x58024818u /* bits 15:14: scale, 13: it is there */
#define GPIOA 0x58020000u
#define SW_PLL UINT32_C(3)
#define INPUT_HZ_RANGE UINT32_C(1) /* of the PLL: 2 to 4 MHz */
#define BUS_BY_2 UINT32_C(4)

static int speed_up(void)
{
#ifdef TT_PLL_N
    CHIP_REGISTER(PWR_CR3) = 6; /* the regulator, as after reset: only once this is written, scales can change */
    tt_chip_set(PWR_D3CR, UINT32_C(3) << 14, UINT32_C(3) << 14);
    if (!tt_chip_becomes(PWR_CSR1, BIT(13), BIT(13)) || !tt_chip_becomes(PWR_D3CR, BIT(13), BIT(13))) {
        return 0;
    }
    uint32_t source = 0;
#ifndef TT_CLOCK_FROM_HSI
#ifdef TT_CLOCK_FROM_HSE_BYPASS
    tt_chip_set(RCC_CR, 0, BIT(18));
#endif
    tt_chip_set(RCC_CR, 0, BIT(16));
    if (!tt_chip_becomes(RCC_CR, BIT(17), BIT(17))) {
        return 0;
    }
    source = 2;
#endif
    CHIP_REGISTER(RCC_PLLCKSELR) = TT_PLL_M << 4 | source;
    CHIP_REGISTER(RCC_PLLCFGR) = BIT(16) | INPUT_HZ_RANGE << 2;
    CHIP_REGISTER(RCC_PLL1DIVR) = (TT_PLL_N - 1u) | (TT_PLL_P - 1u) << 9 | BIT(16) | BIT(24);
    tt_chip_set(RCC_CR, 0, BIT(24));
    if (!tt_chip_becomes(RCC_CR, BIT(25), BIT(25))) {
        return 0;
    }
    CHIP_REGISTER(FLASH_ACR) = TT_FLASH_WAIT | UINT32_C(2) << 4; /* before the clock is faster */
    if (!tt_chip_becomes(FLASH_ACR, 0xFu, TT_FLASH_WAIT)) {
        return 0;
    }
    CHIP_REGISTER(RCC_D1CFGR) = (TT_AHB_DIV > 1u ? UINT32_C(8) : 0u) | BUS_BY_2 << 4;
    CHIP_REGISTER(RCC_D2CFGR) = BUS_BY_2 << 4 | BUS_BY_2 << 8;
    CHIP_REGISTER(RCC_D3CFGR) = BUS_BY_2 << 4;
    tt_chip_set(RCC_CFGR, 7u, SW_PLL);
    return tt_chip_becomes(RCC_CFGR, 7u << 3, SW_PLL << 3);
#else
    return 0;
#endif
}

/* Two bits a pin, of which 2 means an alternate function; and four bits, which one. */
static void connect_pin(uint32_t port, uint32_t pin, uint32_t function)
{
    tt_chip_set(RCC_AHB4ENR, 0, BIT((port - GPIOA) / 0x400u));
    (void)CHIP_REGISTER(RCC_AHB4ENR); /* the clock runs two cycles after it was written: a read takes them */
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
