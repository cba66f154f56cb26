/* SPDX-License-Identifier: Apache-2.0 */
/* What the main loop asks of the board. On a real one: the driver of the sensor, which waits for its next frame, and a few buttons. */
#ifndef SENSOR_H
#define SENSOR_H

/* One frame, as many numbers as the sensor has channels; 0 when there will be no more (a real sensor always answers 1). */
int sensor_read(float *frame);

/* Which class the user says that this was, by holding its button, counted from 0; -1 where no button is held. */
int button_read(void);

#endif
