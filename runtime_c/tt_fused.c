/* SPDX-License-Identifier: Apache-2.0 */
/* fmaf for a machine that has neither an instruction for it nor a C library: the model of a board with fused arithmetic, in a browser. */
#include <stdint.h>

float fmaf(float a, float b, float c);

/* The product of two floats is exact as a double. Its sum with c is rounded to odd (Boldo and Melquiond, 2008): what a double cannot hold sets
 * its last bit, so that the second rounding, to a float, sees on which side of a tie the exact sum lies. */
float fmaf(float a, float b, float c)
{
    const double product = (double)a * (double)b, addend = (double)c;
    union {
        double f;
        uint64_t u;
    } sum;
    sum.f = product + addend;
    const double part = sum.f - product;
    const double lost = (product - (sum.f - part)) + (addend - part); /* exact (Knuth); not a number where the sum is infinite */
    if ((lost < 0.0 || lost > 0.0) && (sum.u & 1u) == 0u) {
        sum.u += (lost > 0.0) == (sum.f > 0.0) ? UINT64_C(1) : ~UINT64_C(0);
    }
    return (float)sum.f;
}
