#include "bind.h"

#include <sys/mman.h>

/* Fresh memory of blocks from this size on is asked for in huge pages:
   faulting small pages costs more than filling them. */
#define HUGE_BLOCK (4u << 20)
#define HUGE_PAGE  (2u << 20)

static void
block_free(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, "torch2mlx.block"));
}

/* Asks for huge pages where a block has not been touched yet.  Pages that
   are there already stay as they are. */
static void
prefer_huge_pages(uint8_t *data, size_t bytes)
{
#if defined(MADV_HUGEPAGE)
    size_t skip = -(uintptr_t)data % HUGE_PAGE;
    if (bytes >= HUGE_BLOCK) {
        madvise(data + skip, (bytes - skip) & ~((size_t)HUGE_PAGE - 1),
                MADV_HUGEPAGE);
    }
#else
    (void)data;
    (void)bytes;
#endif
}

/* malloc, and not a mapping of its own, for large blocks too: where the
   process has freed as much before, malloc hands out memory that the system
   need not clear again. */
PyObject *
bind_block_new(size_t bytes, uint8_t **data)
{
    *data = malloc(bytes ? bytes : 1);
    if (!*data) {
        return PyErr_NoMemory();
    }
    prefer_huge_pages(*data, bytes);
    PyObject *capsule = PyCapsule_New(*data, "torch2mlx.block", block_free);
    if (!capsule) {
        free(*data);
    }
    return capsule;
}
