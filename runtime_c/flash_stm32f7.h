/* SPDX-License-Identifier: Apache-2.0 */
/* Internal flash of STM32F7, whose first sectors have 32 KB. */
#ifndef FLASH_STM32F7_H
#define FLASH_STM32F7_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_stm32f7);

#endif
