#include "bind.h"

#include <errno.h>
#include <stdio.h>

typedef struct {
    PyThreadState *thread; /* saved while the GIL is released */
    PyObject *callback;    /* or None */
    int failed;
} progress_context;

/* Runs on the calling thread: takes the GIL for signals and the callback. */
static int
on_progress(void *context, uint64_t done)
{
    progress_context *c = context;

    PyEval_RestoreThread(c->thread);
    if (PyErr_CheckSignals() < 0) {
        c->failed = 1;
    } else if (c->callback != Py_None) {
        PyObject *answer =
            PyObject_CallFunction(c->callback, "K", (unsigned long long)done);
        c->failed |= answer == NULL;
        Py_XDECREF(answer);
    }
    c->thread = PyEval_SaveThread();
    return c->failed;
}

int
bind_execute(PyObject *module, const t2m_job *jobs, size_t count,
             const t2m_target *target, t2m_exec_options *options,
             PyObject *progress)
{
    progress_context context = {NULL, progress, 0};
    int os_error;
    size_t bad = 0;

    options->progress = on_progress;
    options->context = &context;
    context.thread = PyEval_SaveThread();
    t2m_status status =
        t2m_exec(jobs, count, target, options, &os_error, &bad);
    PyEval_RestoreThread(context.thread);
    if (status == T2M_CANCELLED && context.failed) {
        return -1;
    }
    if (status == T2M_IO) {
        errno = os_error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (status != T2M_OK) {
        t2m_where where = {0, ""};
        snprintf(where.name, sizeof where.name, "%zu", bad);
        bind_raise(module, status, &where);
        return -1;
    }
    return 0;
}
