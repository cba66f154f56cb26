/* SPDX-License-Identifier: Apache-2.0 */
/* Internal flash of STM32F4 (RM0090 §3) and STM32F7 (RM0385 §3): one controller, four small sectors, one of four times their size, and
 * the rest of eight times. The core stalls while its only bank is erased or programmed, an interrupt too: up to 2 s for 128 KB. */
#ifndef FLASH_STM32_H
#define FLASH_STM32_H

#include "cache_m7.h"
#include "tt_flash.h"

#define FLASH_ORIGIN UINT32_C(0x08000000)
#define FLASH_REGISTER(offset) (*(volatile uint32_t *)(uintptr_t)(UINT32_C(0x40023C00) + (offset)))
#define FLASH_ACR FLASH_REGISTER(0x00)
#define FLASH_KEYR FLASH_REGISTER(0x04)
#define FLASH_SR FLASH_REGISTER(0x0C)
#define FLASH_CR FLASH_REGISTER(0x10)

#define ACR_DCEN (UINT32_C(1) << 10)  /* data cache of the flash interface: STM32F4 */
#define ACR_DCRST (UINT32_C(1) << 12)
#define SR_FAILED UINT32_C(0xF2)      /* operation, write protection, alignment, parallelism, sequence */
#define SR_BUSY (UINT32_C(1) << 16)
#define CR_PROGRAM UINT32_C(1)
#define CR_SECTOR_ERASE UINT32_C(2)
#define CR_SECTOR(n) ((n) << 3)
#define CR_WORDS (UINT32_C(2) << 8)   /* 32 bits at once: 2.7 to 3.6 V */
#define CR_START (UINT32_C(1) << 16)
#define CR_LOCK (UINT32_C(1) << 31)

static inline int flash_stm32_end(void)
{
    __asm volatile("dsb" ::: "memory");
    while ((FLASH_SR & SR_BUSY) != 0) {
    }
    const uint32_t failed = FLASH_SR & SR_FAILED;
    FLASH_SR = failed; /* written ones clear */
    FLASH_CR = CR_LOCK;
    return failed != 0;
}

static inline void flash_stm32_begin(uint32_t control)
{
    while ((FLASH_SR & SR_BUSY) != 0) {
    }
    FLASH_SR = SR_FAILED;
    if ((FLASH_CR & CR_LOCK) != 0) {
        FLASH_KEYR = UINT32_C(0x45670123);
        FLASH_KEYR = UINT32_C(0xCDEF89AB);
    }
    FLASH_CR = control;
}

/* The sector that begins at `page`; `small` is the size of the first one. */
static inline uint32_t flash_stm32_sector(uint32_t page, uint32_t small)
{
    const uint32_t at = page - FLASH_ORIGIN;
    return at < 4u * small ? at / small : 4u + at / (8u * small);
}

static inline int flash_stm32_erase(uint32_t page, uint32_t small)
{
    const uint32_t control = CR_WORDS | CR_SECTOR_ERASE | CR_SECTOR(flash_stm32_sector(page, small));
    const int cached = tt_cache_suspend();
    flash_stm32_begin(control);
    FLASH_CR = control | CR_START;
    const int failed = flash_stm32_end();
    tt_cache_resume(cached);
    const uint32_t access = FLASH_ACR;
    if ((access & ACR_DCEN) != 0) { /* what it holds of the sector is no longer so */
        FLASH_ACR = access & ~ACR_DCEN;
        FLASH_ACR = (access & ~ACR_DCEN) | ACR_DCRST;
        FLASH_ACR = access;
    }
    return failed;
}

static inline int flash_stm32_program(uint32_t at, const void *word, uint32_t bytes)
{
    const uint32_t *from = (const uint32_t *)word;
    const int cached = tt_cache_suspend();
    int failed = 0;
    for (uint32_t i = 0; i < bytes / 4u && !failed; ++i) {
        flash_stm32_begin(CR_WORDS | CR_PROGRAM);
        *(volatile uint32_t *)(uintptr_t)(at + 4u * i) = from[i];
        failed = flash_stm32_end();
    }
    tt_cache_resume(cached);
    return failed;
}

/* The driver of a family whose first sector has `small` bytes. */
#define FLASH_STM32_DRIVER(name, small) \
    int name##_erase(const tt_flash *flash, uint32_t page) \
    { \
        (void)flash; \
        return flash_stm32_erase(page, small); \
    } \
    int name##_program(const tt_flash *flash, uint32_t at, const void *word) \
    { \
        return flash_stm32_program(at, word, flash->word_bytes); \
    } \
    int name##_read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes) \
    { \
        (void)flash; \
        return tt_flash_copy(at, to, bytes); \
    }

#endif
