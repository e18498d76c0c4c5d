#include "largest.h"

#include <float.h>
#include <math.h>

/* Items per step, gathered on the stack. */
#define STEP 512
/* Running maxima side by side: compilers keep them in vector registers. */
#define LANES 8

static void
largest_of(const double *items, uint64_t count, double *lanes)
{
    for (uint64_t i = 0; i + LANES <= count; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            double size = fabs(items[i + (uint64_t)j]);
            size = size <= DBL_MAX ? size : 0;
            lanes[j] = size > lanes[j] ? size : lanes[j];
        }
    }
    for (uint64_t i = count - count % LANES; i < count; i++) {
        double size = fabs(items[i]);
        lanes[0] = size <= DBL_MAX && size > lanes[0] ? size : lanes[0];
    }
}

t2m_status
t2m_largest(const t2m_view *view, t2m_dtype dtype, double *out)
{
    double items[STEP], lanes[LANES] = {0};
    t2m_gather_plan plan;
    t2m_status status;

    *out = 0;
    if (dtype != T2M_F64) {
        return T2M_BAD_CAST;
    }
    status = t2m_gather_prepare(view, sizeof(double), &plan);
    if (status != T2M_OK) {
        return status;
    }
    for (uint64_t i = 0; i < plan.count; i += STEP) {
        uint64_t n = plan.count - i < STEP ? plan.count - i : STEP;
        t2m_gather(&plan, i, n, items, 1);
        largest_of(items, n, lanes);
    }
    for (int j = 0; j < LANES; j++) {
        *out = lanes[j] > *out ? lanes[j] : *out;
    }
    return T2M_OK;
}
