/* SPDX-License-Identifier: Apache-2.0 */
#include "flash_stm32f4.h"

#include "flash_stm32.h"

FLASH_STM32_DRIVER(flash_stm32f4, 16u * 1024u)
