#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "exec.h"
#include "cast.h"
#include "size.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Source items are widened or narrowed in blocks of this many bytes. */
#define CAST_BLOCK 32768u

/* A dense part at least this long is written from where it lies. */
#define DIRECT 65536u

/* Pages of mapped sources are given back after this many bytes of output. */
#define WINDOW (64u << 20)

#define MAX_THREADS  8
#define LONG_SPANS   16 /* from here on the caller hears of progress */
#define MIN_SPAN     4096
#define TICK_NANOSEC 50000000

typedef struct {
    t2m_gather_plan plan;
    t2m_cast_loop fast;
    size_t from_bytes, to_bytes;
} prepared;

/* Where in the plan a span starts. */
typedef struct {
    size_t job;
    uint64_t item;
    uint64_t offset; /* in the target */
} place;

typedef struct {
    const t2m_job *jobs;
    const prepared *ready;
    size_t count;
    const t2m_target *target;
    const t2m_exec_options *options;
    size_t span;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    place next;
    uint64_t done;
    uint64_t held;   /* bytes made since pages were given back */
    size_t released; /* jobs before this one hold no pages */
    int running;     /* threads that have not ended */
    t2m_status status;
    int os_error;
} run;

t2m_status
t2m_exec_size(const t2m_job *jobs, size_t count, uint64_t *bytes, size_t *bad)
{
    uint64_t total = 0, items, size;

    for (size_t i = 0; i < count; i++) {
        const t2m_job *job = &jobs[i];
        t2m_status status = t2m_cast_check(job->from, job->to);
        *bad = i;
        if (status == T2M_OK) {
            status = t2m_shape_count(job->view.rank, job->view.shape,
                                     t2m_dtype_get(job->from)->bytes, &items);
        }
        if (status != T2M_OK) {
            return status;
        }
        if (t2m_mul(items, t2m_dtype_get(job->to)->bytes, &size) ||
            t2m_add(total, size, &total)) {
            return T2M_OVERFLOW;
        }
    }
    *bytes = total;
    return T2M_OK;
}

/* Takes the next span off the plan; 0 when nothing is left.  Spans end where
   the target's offset is a multiple of their size, so that no page of a file
   is written by two of them: the second would wait for the first's flush. */
static int
take_span(run *r, place *start, uint64_t *length)
{
    uint64_t taken = 0;

    pthread_mutex_lock(&r->lock);
    *start = r->next;
    uint64_t room = r->span - r->next.offset % r->span;
    while (r->status == T2M_OK && r->next.job < r->count) {
        const prepared *p = &r->ready[r->next.job];
        uint64_t left = p->plan.count - r->next.item;
        uint64_t fits = (room - taken) / p->to_bytes;
        if (fits == 0 && taken == 0) {
            fits = 1; /* an item across the boundary goes alone */
        }
        uint64_t n = left < fits ? left : fits;
        taken += n * p->to_bytes;
        r->next.item += n;
        if (n < left) {
            break;
        }
        r->next.job++;
        r->next.item = 0;
    }
    r->next.offset += taken;
    *length = taken;
    pthread_mutex_unlock(&r->lock);
    return taken > 0;
}

/* Writes all bytes at an offset; returns 0, or errno. */
static int
write_all(int fd, const uint8_t *bytes, uint64_t n, uint64_t offset)
{
    while (n > 0) {
        ssize_t wrote = pwrite(fd, bytes, n, (off_t)offset);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return wrote < 0 ? errno : EIO;
        }
        bytes += wrote;
        offset += (uint64_t)wrote;
        n -= (uint64_t)wrote;
    }
    return 0;
}

/* Lets the kernel copy between files where it can, so that a mapped source
   is never faulted in; returns the bytes copied (0: not supported here). */
static uint64_t
copy_in_kernel(int from, uint64_t from_offset, int to, uint64_t to_offset,
               uint64_t n)
{
    uint64_t copied = 0;
#if defined(__linux__)
    while (copied < n) {
        off_t in = (off_t)(from_offset + copied);
        off_t out = (off_t)(to_offset + copied);
        ssize_t k = copy_file_range(from, &in, to, &out, n - copied, 0);
        if (k <= 0) {
            break;
        }
        copied += (uint64_t)k;
    }
#else
    (void)from;
    (void)from_offset;
    (void)to;
    (void)to_offset;
    (void)n;
#endif
    return copied;
}

typedef struct {
    run *r;
    uint8_t *buffer; /* one span; NULL when the target is memory */
    uint64_t filled; /* bytes waiting in it */
    uint64_t offset; /* where in the target they go */
    uint8_t *block;  /* CAST_BLOCK bytes */
} worker;

static int
flush(worker *w)
{
    int error = 0;
    if (w->filled) {
        error = write_all(w->r->target->fd, w->buffer, w->filled, w->offset);
        w->offset += w->filled;
        w->filled = 0;
    }
    return error;
}

/* Casts n items of a job, and tells where one was beyond the target's
   range. */
static void
cast_items(const run *r, size_t job, const uint8_t *src, uint64_t n,
           uint8_t *dst)
{
    const t2m_job *j = &r->jobs[job];
    uint8_t *lost = r->options->lost;

    t2m_cast(j->to, dst, j->from, src, n, r->ready[job].fast);
    if (lost && t2m_cast_lost(j->to, dst, j->from, src, n)) {
        __atomic_store_n(&lost[job], 1, __ATOMIC_RELAXED);
    }
}

/* Puts n items of a job from `item` on at dst, through the cast where the
   dtypes differ. */
static void
produce(worker *w, size_t job, uint64_t item, uint64_t n, uint8_t *dst)
{
    const prepared *p = &w->r->ready[job];
    const t2m_job *j = &w->r->jobs[job];
    int simd = w->r->options->simd;

    if (j->from == j->to) {
        t2m_gather(&p->plan, item, n, dst, simd);
        return;
    }
    uint64_t step = CAST_BLOCK / p->from_bytes;
    while (n > 0) {
        uint64_t k = n < step ? n : step;
        const uint8_t *src = w->block;
        if (p->plan.dense) {
            src = p->plan.data + item * p->from_bytes;
        } else {
            t2m_gather(&p->plan, item, k, w->block, simd);
        }
        cast_items(w->r, job, src, k, dst);
        dst += k * p->to_bytes;
        item += k;
        n -= k;
    }
}

/* Writes a dense, uncast part from where it lies; returns 0 or errno. */
static int
write_direct(worker *w, size_t job, uint64_t item, uint64_t bytes)
{
    const prepared *p = &w->r->ready[job];
    const t2m_job *j = &w->r->jobs[job];
    uint64_t skip = item * p->from_bytes;
    uint64_t copied = 0;

    if (j->source_fd >= 0) {
        copied = copy_in_kernel(j->source_fd, j->source_offset + skip,
                                w->r->target->fd, w->offset, bytes);
    }
    int error = write_all(w->r->target->fd, p->plan.data + skip + copied,
                          bytes - copied, w->offset + copied);
    w->offset += bytes;
    return error;
}

/* Does one span and leaves in `job` of *start where it ended; returns 0 or
   errno. */
static int
run_span(worker *w, place *start, uint64_t length)
{
    run *r = w->r;
    place at = *start;
    int to_file = r->target->fd >= 0;
    int error = 0;

    w->offset = at.offset;
    w->filled = 0;
    while (length > 0 && !error) {
        const prepared *p = &r->ready[at.job];
        uint64_t left = p->plan.count - at.item;
        uint64_t fits = length / p->to_bytes;
        uint64_t n = left < fits ? left : fits;
        uint64_t bytes = n * p->to_bytes;
        const t2m_job *j = &r->jobs[at.job];

        if (!to_file) {
            produce(w, at.job, at.item, n, r->target->base + w->offset);
            w->offset += bytes;
        } else if (p->plan.dense && j->from == j->to && bytes >= DIRECT) {
            error = flush(w);
            if (!error) {
                error = write_direct(w, at.job, at.item, bytes);
            }
        } else if (bytes) {
            produce(w, at.job, at.item, n, w->buffer + w->filled);
            w->filled += bytes;
        }
        length -= bytes;
        start->job = at.job++;
        at.item = 0;
    }
    if (!error && to_file) {
        error = flush(w);
    }
#if defined(__linux__)
    if (!error && to_file && r->options->flush) {
        sync_file_range(r->target->fd, (off_t)at.offset,
                        (off_t)(w->offset - at.offset), SYNC_FILE_RANGE_WRITE);
    }
#endif
    return error;
}

/* Gives the pages of a job's mapped source back; they stay in the system's
   cache, and reading them again brings them back. */
static void
release(const t2m_job *job)
{
    const t2m_view *v = &job->view;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t low = (uintptr_t)v->data, high = low;

    if (job->source_fd < 0) {
        return;
    }
    for (int i = 0; i < v->rank; i++) {
        if (v->shape[i] == 0) {
            return;
        }
        int64_t reach = (int64_t)(v->shape[i] - 1) * v->strides[i];
        if (reach < 0) {
            low -= (uintptr_t)-reach;
        } else {
            high += (uintptr_t)reach;
        }
    }
    low -= low % page;
    madvise((void *)low, high + 1 - low, MADV_DONTNEED);
}

/* Counts a finished span that ended in `job`; gives pages back when the
   window is full. */
static void
report(run *r, t2m_status status, int os_error, uint64_t bytes, size_t job)
{
    size_t first = 0, last = 0;

    pthread_mutex_lock(&r->lock);
    r->done += bytes;
    r->held += bytes;
    if (r->held >= WINDOW && job >= r->released) {
        first = r->released;
        last = job + 1;
        r->released = job;
        r->held = 0;
    }
    if (status != T2M_OK && r->status == T2M_OK) {
        r->status = status;
        r->os_error = os_error;
    }
    pthread_mutex_unlock(&r->lock);
    for (; first < last; first++) {
        release(&r->jobs[first]);
    }
}

static void
work(run *r)
{
    worker w = {.r = r};
    place at;
    uint64_t length;

    w.block = malloc(CAST_BLOCK);
    w.buffer = r->target->fd >= 0 ? malloc(r->span) : NULL;
    if (!w.block || (r->target->fd >= 0 && !w.buffer)) {
        report(r, T2M_NO_MEMORY, 0, 0, 0);
    }
    while (take_span(r, &at, &length)) {
        int error = run_span(&w, &at, length);
        report(r, error ? T2M_IO : T2M_OK, error, length, at.job);
    }
    free(w.block);
    free(w.buffer);
}

static void *
thread_main(void *argument)
{
    run *r = argument;
    work(r);
    pthread_mutex_lock(&r->lock);
    r->running--;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Waits for the threads, telling the caller how far they are. */
static void
supervise(run *r)
{
    const t2m_exec_options *o = r->options;

    pthread_mutex_lock(&r->lock);
    while (r->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_NANOSEC;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&r->changed, &r->lock, &until) == 0 ||
            !o->progress) {
            continue;
        }
        uint64_t done = r->done;
        pthread_mutex_unlock(&r->lock);
        int cancel = o->progress(o->context, done);
        pthread_mutex_lock(&r->lock);
        if (cancel && r->status == T2M_OK) {
            r->status = T2M_CANCELLED;
        }
    }
    pthread_mutex_unlock(&r->lock);
}

static int
thread_count(const t2m_exec_options *options, uint64_t bytes, size_t span)
{
    uint64_t spans = bytes / span + 1;
    long n = options->threads;
    if (spans == 1) {
        return 1; /* the system takes longer to count its processors */
    }
    if (n <= 0) {
        n = sysconf(_SC_NPROCESSORS_ONLN);
    }
    if (n > MAX_THREADS) {
        n = MAX_THREADS;
    }
    if ((uint64_t)n > spans) {
        n = (long)spans;
    }
    return n < 1 ? 1 : (int)n;
}

/* Starts the threads; a plan of a few spans that asks for one runs here. */
static void
run_all(run *r, int threads, int is_long)
{
    pthread_t ids[MAX_THREADS];
    int started = 0;

    if (threads > 1 || is_long) {
        r->running = threads;
        while (started < threads &&
               pthread_create(&ids[started], NULL, thread_main, r) == 0) {
            started++;
        }
        pthread_mutex_lock(&r->lock);
        r->running -= threads - started;
        pthread_mutex_unlock(&r->lock);
    }
    if (started == 0) {
        work(r);
        return;
    }
    supervise(r);
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
    }
}

static t2m_status
prepare_jobs(const t2m_job *jobs, size_t count, int simd, prepared *ready,
             size_t *bad)
{
    for (size_t i = 0; i < count; i++) {
        int again = i > 0 && jobs[i].to == jobs[i - 1].to &&
                    jobs[i].from == jobs[i - 1].from;
        ready[i].fast = !simd   ? NULL
                        : again ? ready[i - 1].fast
                                : t2m_cast_fast(jobs[i].to, jobs[i].from);
        ready[i].from_bytes = t2m_dtype_get(jobs[i].from)->bytes;
        ready[i].to_bytes = t2m_dtype_get(jobs[i].to)->bytes;
        t2m_status status = t2m_gather_prepare(
            &jobs[i].view, ready[i].from_bytes, &ready[i].plan);
        if (status != T2M_OK) {
            *bad = i;
            return status;
        }
    }
    return T2M_OK;
}

static size_t
span_of(const t2m_exec_options *options)
{
    if (options->span < MIN_SPAN) {
        return T2M_EXEC_SPAN;
    }
    return options->span < T2M_EXEC_MAX_SPAN ? options->span
                                             : T2M_EXEC_MAX_SPAN;
}

t2m_status
t2m_exec(const t2m_job *jobs, size_t count, const t2m_target *target,
         const t2m_exec_options *options, int *os_error, size_t *bad)
{
    run r = {.jobs = jobs,
             .count = count,
             .target = target,
             .options = options,
             .span = span_of(options),
             .lock = PTHREAD_MUTEX_INITIALIZER,
             .changed = PTHREAD_COND_INITIALIZER,
             .next = {0, 0, target->start},
             .status = T2M_OK};
    uint64_t bytes, end;
    prepared *ready = NULL;

    *os_error = 0;
    t2m_status status = t2m_exec_size(jobs, count, &bytes, bad);
    if (status != T2M_OK || bytes == 0) {
        goto done;
    }
    if (t2m_add(target->start, bytes, &end) || end > INT64_MAX) {
        status = T2M_OVERFLOW;
        goto done;
    }
    ready = malloc(count * sizeof *ready);
    if (!ready) {
        status = T2M_NO_MEMORY;
        goto done;
    }
    status = prepare_jobs(jobs, count, options->simd, ready, bad);
    if (status == T2M_OK) {
        r.ready = ready;
        run_all(&r, thread_count(options, bytes, r.span),
                bytes / r.span >= LONG_SPANS);
        status = r.status;
        for (size_t i = r.released; i < count; i++) {
            release(&jobs[i]);
        }
        if (status == T2M_OK && options->progress &&
            options->progress(options->context, bytes)) {
            status = T2M_CANCELLED;
        }
        *os_error = r.os_error;
    }
done:
    free(ready);
    pthread_mutex_destroy(&r.lock);
    pthread_cond_destroy(&r.changed);
    return status;
}
