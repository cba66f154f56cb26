/* SPDX-License-Identifier: Apache-2.0 */
/* NOR flash of the host twin: the file that TINYTRAIN_FLASH names, or one that goes when the program ends. */
#ifndef FLASH_FILE_H
#define FLASH_FILE_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_file);

#endif
