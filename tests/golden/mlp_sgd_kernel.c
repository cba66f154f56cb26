/* sgd: f32[10], f32[10], f32[1] -> f32[10] */
static void tt_sgd_f32_7(const float *g, const float *w, const float *restrict lr, float *w_new)
{
    const float lr_0 = lr[0];
    for (int32_t i = 0; i < 10; ++i) {
        {
            const float t0 = g[i];
            const float t1_1 = w[i];
            const float t1_2 = lr_0;
            const float t1a = t1_1 - t1_2 * t0;
            w_new[i] = t1a;
        }
    }
}

