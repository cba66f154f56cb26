/* SPDX-License-Identifier: Apache-2.0 */
/* Internal flash of STM32F4, whose first sectors have 16 KB. */
#ifndef FLASH_STM32F4_H
#define FLASH_STM32F4_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_stm32f4);

#endif
