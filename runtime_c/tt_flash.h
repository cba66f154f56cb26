/* SPDX-License-Identifier: Apache-2.0 */
/* Flash memory as the store sees it: three functions and its geometry. Drivers are in flash_*.c. */
#ifndef TT_FLASH_H
#define TT_FLASH_H

#include <stdint.h>

#ifndef TT_FLASH_WORD_MAX
#define TT_FLASH_WORD_MAX 256u /* bytes: a word of the largest kind lies on the stack while the store writes; RP2040 has 256 */
#endif

/* NOR flash: erasing a page sets all its bits, and a word is programmed once between two erasures of its page, because words with
 * error correction (STM32L4, STM32H7) take no second programming. Addresses are bytes; the functions answer 0 when it is done. */
typedef struct tt_flash {
    int (*erase)(const struct tt_flash *flash, uint32_t page);                   /* page: address of its first byte */
    int (*program)(const struct tt_flash *flash, uint32_t at, const void *word); /* word_bytes from `word`, aligned to 4 */
    int (*read)(const struct tt_flash *flash, uint32_t at, void *to, uint32_t bytes);
    uint32_t base;       /* address of the first page */
    uint32_t page_bytes; /* what is erased at once: all pages are of one size, a multiple of 64 and of word_bytes */
    uint32_t pages;
    uint32_t word_bytes; /* what is programmed at once: a power of two from 4 to TT_FLASH_WORD_MAX; a smaller one counts as 4 */
    void *driver;        /* the driver's own */
} tt_flash;

/* Declares the three functions of a driver. */
#define TT_FLASH_DRIVER(name)                                             \
    int name##_erase(const tt_flash *flash, uint32_t page);               \
    int name##_program(const tt_flash *flash, uint32_t at, const void *word); \
    int name##_read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes)

/* What `read` does where flash is mapped into memory. */
static inline int tt_flash_copy(uint32_t at, void *to, uint32_t bytes)
{
    const volatile unsigned char *from = (const volatile unsigned char *)(uintptr_t)at; /* it changes behind the compiler's back */
    unsigned char *t = (unsigned char *)to;
    while (bytes-- > 0) {
        *t++ = *from++;
    }
    return 0;
}

#endif
