/* SPDX-License-Identifier: Apache-2.0 */
/* The three functions that a compiler may call by itself even in freestanding code (C99 leaves the rest to us). */
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    while (bytes-- != 0) {
        *t++ = *f++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if (t < f) {
        while (bytes-- != 0) {
            *t++ = *f++;
        }
    } else {
        while (bytes-- != 0) {
            t[bytes] = f[bytes];
        }
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *t = to;
    while (bytes-- != 0) {
        *t++ = (unsigned char)value;
    }
    return to;
}
