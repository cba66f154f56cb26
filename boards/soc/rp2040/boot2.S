/* SPDX-License-Identifier: Apache-2.0 */
/* Boot stage 2 of the RP2040: 252 bytes that its ROM copies to 0x20041F00 and calls (data sheet section 2.8.1.3). They have the serial
 * flash answer reads of memory at 0x10000000 (section 4.10, SSI), and start what lies behind them. The plain read, 03h, is known to
 * every flash, W25Q among them, and in any state of it: at 125 MHz / 4, below the 50 MHz of it. `python scripts/boot2.py` writes boot2.c. */
    .syntax unified
    .cpu cortex-m0plus
    .thumb
    .text
    ldr r3, =0x18000000 /* SSI */
    movs r1, #0
    str r1, [r3, #0x08] /* SSIENR: off, to be set up */
    movs r1, #4
    str r1, [r3, #0x14] /* BAUDR: clock / 4 */
    ldr r1, =0x001F0300
    str r1, [r3, #0x00] /* CTRLR0: one line, words of 32 bits, mode 3: a command, then what is read */
    movs r1, #0
    str r1, [r3, #0x04] /* CTRLR1: one word */
    ldr r1, =0x03000218
    ldr r2, =0x180000F4
    str r1, [r2]        /* SPI_CTRLR0: command 03h, of 8 bits, 24 bits of address */
    movs r1, #1
    str r1, [r3, #0x08]
    ldr r0, =0x10000100 /* the vectors */
    ldr r1, =0xE000ED08 /* VTOR */
    str r0, [r1]
    ldr r1, [r0]
    msr msp, r1
    ldr r0, [r0, #4]
    bx r0
    .pool
