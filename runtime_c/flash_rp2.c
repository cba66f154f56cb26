/* SPDX-License-Identifier: Apache-2.0 */
#include "flash_rp2.h"

#define XIP_ORIGIN UINT32_C(0x10000000)
#define BLOCK_BYTES UINT32_C(65536)
#define BLOCK_ERASE 0xD8u
#define CODE(a, b) ((uint32_t)(a) | (uint32_t)(b) << 8)
#define IN_RAM __attribute__((noinline, section(".ram_code"))) /* the linker script puts it beside .data */

typedef void plain(void);
typedef void range_erase(uint32_t at, uint32_t bytes, uint32_t block_bytes, uint32_t command);
typedef void range_program(uint32_t at, const uint8_t *data, uint32_t bytes);

typedef struct {
    plain *connect, *exit_xip, *flush, *enter_xip;
    range_erase *erase;
    range_program *program;
} functions;

/* A half-word of the boot ROM that points into it. */
static uintptr_t rom_pointer(uint32_t at)
{
    const volatile uintptr_t address = at; /* compilers take the first page of memory for null */
    return *(const volatile uint16_t *)address;
}

#if __ARM_ARCH == 6 /* RP2040 */

typedef void *lookup(uint16_t *table, uint32_t code);

static void *rom_function(uint32_t code)
{
    return ((lookup *)rom_pointer(0x18))((uint16_t *)rom_pointer(0x14), code);
}

static plain *xip_function(void)
{
    return (plain *)rom_function(CODE('C', 'X'));
}

#else

typedef void *lookup(uint32_t code, uint32_t mask);

#if defined(__riscv)
#define LOOKUP 0x7DFAu
#define MASK 1u
#else
#define LOOKUP 0x16u
#define MASK 4u /* functions for the secure world */
#endif

static void *rom_function(uint32_t code)
{
    return ((lookup *)rom_pointer(LOOKUP))(code, MASK);
}

#define BOOT_RAM UINT32_C(0x400E0000) /* begins with a function that sets the flash up as it was found at start; none runs there */
static uint32_t set_up[64];

static plain *xip_function(void)
{
    for (uint32_t i = 0; i < sizeof set_up / sizeof set_up[0]; ++i) {
        set_up[i] = *(const volatile uint32_t *)(uintptr_t)(BOOT_RAM + 4u * i);
    }
#if defined(__riscv)
    __asm volatile("fence.i" ::: "memory"); /* written as data, fetched as code */
#endif
    return (plain *)((uintptr_t)set_up | 1u); /* Thumb code, for an Arm core; RISC-V does not look at that bit */
}

#endif

static functions rom_functions(void)
{
    return (functions){
        (plain *)rom_function(CODE('I', 'F')), (plain *)rom_function(CODE('E', 'X')), (plain *)rom_function(CODE('F', 'C')),
        xip_function(), (range_erase *)rom_function(CODE('R', 'E')), (range_program *)rom_function(CODE('R', 'P'))};
}

#if defined(__riscv)
#define MASK_INTERRUPTS(masked) __asm volatile("csrrci %0, mstatus, 8" : "=r"(masked)::"memory")
#define RESTORE_INTERRUPTS(masked) __asm volatile("csrw mstatus, %0" ::"r"(masked) : "memory")
#else
#define MASK_INTERRUPTS(masked) __asm volatile("mrs %0, primask\n\tcpsid i" : "=r"(masked)::"memory")
#define RESTORE_INTERRUPTS(masked) __asm volatile("msr primask, %0" ::"r"(masked) : "memory")
#endif

/* Erases, where `data` is null, or programs. */
typedef void change(const functions *rom, uint32_t at, const uint8_t *data, uint32_t bytes);

IN_RAM static void change_flash(const functions *rom, uint32_t at, const uint8_t *data, uint32_t bytes)
{
    uint32_t masked;
    MASK_INTERRUPTS(masked);
    rom->connect();
    rom->exit_xip();
    if (data) {
        rom->program(at, data, bytes);
    } else {
        rom->erase(at, bytes, BLOCK_BYTES, BLOCK_ERASE);
    }
    rom->flush();
    rom->enter_xip();
    RESTORE_INTERRUPTS(masked);
}

static change *volatile const in_ram = change_flash; /* too far away for a branch */

int flash_rp2_erase(const tt_flash *flash, uint32_t page)
{
    const functions rom = rom_functions();
    in_ram(&rom, page - XIP_ORIGIN, 0, flash->page_bytes);
    return 0;
}

int flash_rp2_program(const tt_flash *flash, uint32_t at, const void *word)
{
    const functions rom = rom_functions();
    in_ram(&rom, at - XIP_ORIGIN, word, flash->word_bytes);
    return 0;
}

int flash_rp2_read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes)
{
    (void)flash;
    return tt_flash_copy(at, to, bytes);
}
