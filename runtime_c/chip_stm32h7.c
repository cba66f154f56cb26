/* SPDX-License-Identifier: Apache-2.0 */
/* STM32H743 and H753. ST RM0433: sections 4.3.12 (wait states), 6.6.1 (supply and scale), 8.5 (clocks), 11.4 (registers of ports).
 * Scale 1 of the regulator, for up to 400 MHz. */

#define FLASH_ACR 0x52002000u /* bits 3:0: wait states, 5:4: by their rate */
#define RCC_CR 0x58024400u
#define RCC_CFGR 0x58024410u  /* bits 2:0: clock, 5:3: clock that runs */
#define RCC_D1CFGR 0x58024418u
#define RCC_D2CFGR 0x5802441Cu
#define RCC_D3CFGR 0x58024420u
#define RCC_PLLCKSELR 0x58024428u
#define RCC_PLLCFGR 0x5802442Cu
#define RCC_PLL1DIVR 0x58024430u
#define RCC_PORTS 0x580244E0u /* bit 0 and on: ports have a clock */
#define PWR_CSR1 0x58024804u    /* bit 13: the voltage is there */
#define PWR_CR3 0x5802480Cu
#define PWR_D3CR 0x58024818u /* bits 15:14: scale, 13: it is there */
#define GPIOA 0x58020000u
#define SW_PLL UINT32_C(3)
#define INPUT_HZ_RANGE UINT32_C(1) /* of the PLL: 2 to 4 MHz */
#ifdef TT_CLOCK_FROM_HSI
#define PLL_SOURCE 0u
#else
#define PLL_SOURCE 2u
#endif

#include "chip_stm32.h"

static int speed_up(void)
{
#ifdef TT_PLL_N
    CHIP_REGISTER(PWR_CR3) = 6; /* the regulator, as after reset: only once this is written, scales can change */
    tt_chip_set(PWR_D3CR, UINT32_C(3) << 14, UINT32_C(3) << 14);
    if (!tt_chip_becomes(PWR_CSR1, BIT(13), BIT(13)) || !tt_chip_becomes(PWR_D3CR, BIT(13), BIT(13))) {
        return 0;
    }
    if (!tt_stm32_source_runs()) {
        return 0;
    }
    CHIP_REGISTER(RCC_PLLCKSELR) = TT_PLL_M << 4 | PLL_SOURCE;
    CHIP_REGISTER(RCC_PLLCFGR) = BIT(16) | INPUT_HZ_RANGE << 2;
    CHIP_REGISTER(RCC_PLL1DIVR) = (TT_PLL_N - 1u) | (TT_PLL_P - 1u) << 9 | BIT(16) | BIT(24);
    if (!tt_stm32_pll_runs()) {
        return 0;
    }
    CHIP_REGISTER(FLASH_ACR) = TT_FLASH_WAIT | UINT32_C(2) << 4; /* before the clock is faster */
    if (!tt_chip_becomes(FLASH_ACR, 0xFu, TT_FLASH_WAIT)) {
        return 0;
    }
    const uint32_t apb1 = tt_stm32_divider(TT_APB1_DIV / TT_AHB_DIV), apb2 = tt_stm32_divider(TT_APB2_DIV / TT_AHB_DIV);
    CHIP_REGISTER(RCC_D1CFGR) = (TT_AHB_DIV > 1u ? UINT32_C(8) : 0u) | apb1 << 4; /* APB3 */
    CHIP_REGISTER(RCC_D2CFGR) = apb1 << 4 | apb2 << 8;
    CHIP_REGISTER(RCC_D3CFGR) = apb1 << 4; /* APB4 */
    tt_chip_set(RCC_CFGR, 7u, SW_PLL);
    return tt_chip_becomes(RCC_CFGR, 7u << 3, SW_PLL << 3);
#else
    return 0;
#endif
}
