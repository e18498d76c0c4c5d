/* Runs a write plan: a list of tensors, each gathered, cast and put behind
   the one before it, into a file or a block of memory.

   Memory: each thread owns one span and one small block, whatever the
   tensors weigh; sources and the target are borrowed from the caller. */
#ifndef T2M_EXEC_H
#define T2M_EXEC_H

#include "dtype.h"
#include "permute.h"

/* Bytes a thread writes at a time: small enough to stay in the second-level
   cache between gather and write. */
#define T2M_EXEC_SPAN (1u << 20)

/* A larger span is cut to this. */
#define T2M_EXEC_MAX_SPAN (64u << 20)

typedef struct {
    t2m_view view;
    t2m_dtype from, to;
    int source_fd;          /* file that view.data is mapped from, or -1 */
    uint64_t source_offset; /* of view.data in that file */
} t2m_job;

typedef struct {
    int fd;         /* target file, or -1 for memory */
    uint8_t *base;  /* target memory when fd is -1 */
    uint64_t start; /* offset of the first job's bytes in the target */
} t2m_target;

/* Called now and then on the calling thread with the bytes written so far;
   a non-zero answer cancels the run. */
typedef int (*t2m_progress)(void *context, uint64_t done);

typedef struct {
    int threads;   /* 0 or less: one for each processor, at most 8 */
    size_t span;   /* bytes; below 4096: T2M_EXEC_SPAN */
    int simd;      /* 0: scalar kernels only */
    int flush;     /* 1: start writing back to disk early (file targets) */
    uint8_t *lost; /* NULL, or a byte for each job: 1 is put where a cast made
                      an item infinite that was finite */
    t2m_progress progress; /* may be NULL */
    void *context;
} t2m_exec_options;

/* Runs all jobs.  On IO *os_error gets errno; on a bad job *bad its index;
   OVERFLOW also where the last byte would lie beyond 63 bits. */
t2m_status t2m_exec(const t2m_job *jobs, size_t count,
                    const t2m_target *target, const t2m_exec_options *options,
                    int *os_error, size_t *bad);

/* Returns the bytes that all jobs write, or OVERFLOW / BAD_CAST / BAD_RANK
   with the job's index in *bad. */
t2m_status t2m_exec_size(const t2m_job *jobs, size_t count, uint64_t *bytes,
                         size_t *bad);

#endif
