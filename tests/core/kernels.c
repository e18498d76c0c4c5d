/* Runs every kernel over made-up data and prints a line for each: what it
   is and a checksum of what came out.  Lines are the same on every machine,
   so two builds are compared by comparing what they print.  The scalar twin
   of each kernel has to give the same bytes; if not, the exit code is 1. */
#include "../../csrc/core/cast.h"
#include "../../csrc/core/compare.h"
#include "../../csrc/core/crc32.h"
#include "../../csrc/core/exec.h"
#include "../../csrc/core/largest.h"

#include <stdio.h>
#include <string.h>

/* Items of a block: no multiple of any vector's length. */
#define ITEMS 1021
#define BYTES (ITEMS * 16)

static uint8_t source[BYTES + 1], wide[BYTES], narrow[BYTES];
static int failed;

static void
fill(void)
{
    uint64_t state = 42;

    for (size_t i = 0; i < sizeof source; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        source[i] = (uint8_t)(state >> 56);
    }
}

static void
tell(const char *what, int a, int b, size_t bytes)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ wide[i]) * 1099511628211u;
    }
    printf("%s %d %d: %016llx\n", what, a, b, (unsigned long long)hash);
    if (memcmp(wide, narrow, bytes) != 0) {
        printf("%s %d %d: the scalar twin differs\n", what, a, b);
        failed = 1;
    }
}

static void
casts(void)
{
    for (int from = 0; from < T2M_DTYPE_COUNT; from++) {
        for (int to = 0; to < T2M_DTYPE_COUNT; to++) {
            if (t2m_cast_check((t2m_dtype)from, (t2m_dtype)to) != T2M_OK) {
                continue;
            }
            /* one byte off, so that nothing is aligned */
            t2m_cast((t2m_dtype)to, wide, (t2m_dtype)from, source + 1, ITEMS,
                     1);
            t2m_cast((t2m_dtype)to, narrow, (t2m_dtype)from, source + 1, ITEMS,
                     0);
            tell("cast", from, to,
                 ITEMS * t2m_dtype_get((t2m_dtype)to)->bytes);
        }
    }
}

static void
gather(const t2m_view *view, size_t item, int order)
{
    t2m_gather_plan plan;

    if (t2m_gather_prepare(view, item, &plan) != T2M_OK) {
        printf("gather %d %d: refused\n", (int)item, order);
        failed = 1;
        return;
    }
    t2m_gather(&plan, 0, plan.count, wide, 1);
    /* in two parts, the second from the middle of a row */
    t2m_gather(&plan, 0, 101, narrow, 0);
    t2m_gather(&plan, 101, plan.count - 101, narrow + 101 * item, 0);
    tell("gather", (int)item, order, plan.count * item);
}

static void
gathers(void)
{
    static const uint64_t shape[4] = {3, 7, 5, 9};

    for (size_t item = 1; item <= 16; item *= 2) {
        int64_t dense[4];
        t2m_dense_strides(4, shape, item, dense);
        for (int order = 0; order < 256; order++) {
            t2m_view view = {source, 4, {0}, {0}};
            int seen = 0;
            for (int i = 0; i < 4; i++) {
                int axis = order >> (2 * i) & 3;
                seen |= 1 << axis;
                view.shape[i] = shape[axis];
                view.strides[i] = dense[axis];
            }
            if (seen == 15) {
                gather(&view, item, order);
            }
        }
    }
}

static void
checksums(void)
{
    for (size_t n = 0; n < 400; n += 7) {
        uint32_t a = t2m_crc32(7, source + 1, n, 1);
        uint32_t b = t2m_crc32(7, source + 1, n, 0);
        printf("crc32 %d: %08lx\n", (int)n, (unsigned long)a);
        failed |= a != b;
    }
}

static void
comparisons(void)
{
    for (int dtype = 0; dtype < T2M_DTYPE_COUNT; dtype++) {
        t2m_view a = {source, 1, {ITEMS / 2}, {0}};
        t2m_difference d;
        double most = -1;

        a.strides[0] = (int64_t)t2m_dtype_get((t2m_dtype)dtype)->bytes;
        t2m_view b = a;
        b.data = source + 16;
        if (t2m_compare(&a, (t2m_dtype)dtype, &b, (t2m_dtype)dtype, &d) !=
            T2M_OK) {
            continue;
        }
        t2m_largest(&a, (t2m_dtype)dtype, &most);
        printf("compare %d: %llu %llu %a %a %a %llu %llu %llu %a\n", dtype,
               (unsigned long long)d.count, (unsigned long long)d.differing,
               d.max_abs, d.max_rel, d.max_magnitude,
               (unsigned long long)d.max_ulp, (unsigned long long)d.worst,
               (unsigned long long)d.mismatched, most);
    }
}

static void
writes(void)
{
    t2m_job job = {{source, 2, {31, 33}, {4, 124}}, T2M_F32, T2M_BF16, -1, 0};
    t2m_job jobs[2] = {job, job};
    uint64_t bytes;
    size_t bad;
    int os_error;

    if (t2m_exec_size(jobs, 2, &bytes, &bad) != T2M_OK) {
        failed = 1;
        return;
    }
    for (int simd = 0; simd < 2; simd++) {
        t2m_target target = {-1, simd ? wide : narrow, 0};
        t2m_exec_options options = {3, 4096, simd, 0, NULL, NULL};
        failed |=
            t2m_exec(jobs, 2, &target, &options, &os_error, &bad) != T2M_OK;
    }
    tell("write", 31, 33, bytes);
}

int
main(void)
{
    fill();
    casts();
    gathers();
    checksums();
    comparisons();
    writes();
    return failed;
}
