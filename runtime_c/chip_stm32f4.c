/* SPDX-License-Identifier: Apache-2.0 */
/* STM32F4 and STM32F7. ST RM0090, RM0390 and RM0385: sections 3.5 (wait states), 7.2 or 6.2 (clocks), 8.4 (registers of ports).
 * The regulator's scale 1, as after reset; for more than 180 MHz, of an F7, in over-drive (RM0385 section 4.1.4). */

#define RCC_CR 0x40023800u
#define RCC_PLLCFGR 0x40023804u
#define RCC_CFGR 0x40023808u /* bits 1:0: clock, 3:2: clock that runs, 12:10 and 15:13: dividers of APB1 and APB2 */
#define RCC_PORTS 0x40023830u /* bit 0 and on: ports have a clock */
#define GPIOA 0x40020000u
#define FLASH_ACR 0x40023C00u /* bits 3:0: wait states, 8: prefetch, 9 and 10: caches (F4); 9: accelerator (F7) */
#define RCC_APB1ENR 0x40023840u /* bit 28: the power controller has a clock */
#define PWR_CR1 0x40007000u  /* bit 16: over-drive on, 17: switch to it */
#define PWR_CSR1 0x40007004u /* the same bits: done */
#define SW_PLL UINT32_C(2)
#ifdef TT_CLOCK_FROM_HSI
#define PLL_SOURCE 0u
#else
#define PLL_SOURCE BIT(22)
#endif

#include "chip_stm32.h"

#if defined TT_PLL_N && defined TT_OVER_DRIVE
/* After the PLL runs and before it is used. */
static int over_drive(void)
{
    tt_chip_set(RCC_APB1ENR, 0, BIT(28));
    (void)CHIP_REGISTER(RCC_APB1ENR); /* the clock runs two cycles later */
    tt_chip_set(PWR_CR1, 0, BIT(16));
    if (!tt_chip_becomes(PWR_CSR1, BIT(16), BIT(16))) {
        return 0;
    }
    tt_chip_set(PWR_CR1, 0, BIT(17));
    return tt_chip_becomes(PWR_CSR1, BIT(17), BIT(17));
}
#else
#define over_drive() 1
#endif

static int speed_up(void)
{
#ifdef TT_PLL_N
    if (!tt_stm32_source_runs()) {
        return 0;
    }
    /* Q, the divider of USB, which nothing here uses, must be 2 at least. */
    CHIP_REGISTER(RCC_PLLCFGR) = TT_PLL_M | TT_PLL_N << 6 | (TT_PLL_P / 2u - 1u) << 16 | PLL_SOURCE | UINT32_C(15) << 24 | TT_PLLCFGR_KEPT;
    if (!tt_stm32_pll_runs() || !over_drive()) {
        return 0;
    }
    CHIP_REGISTER(FLASH_ACR) = TT_FLASH_WAIT | TT_FLASH_CACHES; /* before the clock is faster */
    if (!tt_chip_becomes(FLASH_ACR, 0xFu, TT_FLASH_WAIT)) {
        return 0;
    }
    tt_chip_set(RCC_CFGR, UINT32_C(0x3F) << 10, tt_stm32_divider(TT_APB1_DIV) << 10 | tt_stm32_divider(TT_APB2_DIV) << 13);
    tt_chip_set(RCC_CFGR, 3u, SW_PLL);
    return tt_chip_becomes(RCC_CFGR, 3u << 2, SW_PLL << 2);
#else
    return 0;
#endif
}
