/* SPDX-License-Identifier: Apache-2.0 */
/* What a firmware of somebody else has: start-up, and semihosting to speak. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t stack_top[], bss_start[], bss_end[];
int main(void);
void say(const char *text);
void reset(void);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[] = { (uintptr_t)stack_top, (uintptr_t)reset };

static void ask(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void say(const char *text)
{
    ask(0x04, text); /* SYS_WRITE0 */
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= UINT32_C(0xF) << 20; /* the FPU on */
    __asm volatile("dsb\n\tisb");
    for (uint32_t *p = bss_start; p < bss_end; ++p) {
        *p = 0;
    }
    (void)main();
    ask(0x18, (const void *)0x20026); /* SYS_EXIT, ADP_Stopped_ApplicationExit */
    for (;;) {
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    volatile unsigned char *t = to;
    for (const unsigned char *f = from; bytes > 0; --bytes) {
        *t++ = *f++;
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    for (volatile unsigned char *t = to; bytes > 0; --bytes) {
        *t++ = (unsigned char)value;
    }
    return to;
}
