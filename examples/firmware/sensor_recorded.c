/* SPDX-License-Identifier: Apache-2.0 */
/* A recording in place of the sensor: `recording.h` has its frames, and the button that was held during each window of them. */
#include "recording.h"
#include "sensor.h"

static int next;

int sensor_read(float *frame)
{
    if (next == RECORDED_FRAMES) {
        return 0;
    }
    for (int channel = 0; channel < RECORDED_CHANNELS; ++channel) {
        frame[channel] = (float)recorded[next][channel] * RECORDED_SCALE;
    }
    ++next;
    return 1;
}

int button_read(void)
{
    return next ? buttons[(next - 1) / RECORDED_WINDOW] : -1;
}
