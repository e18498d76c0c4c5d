/* Files of torch.save: the zip archive (torch 1.6 on) and the legacy
   sequence of pickles, both to one pickle whose storages have their bytes.

   The result owns its tables and borrows the file's bytes. */
#ifndef T2M_TORCHFILE_H
#define T2M_TORCHFILE_H

#include "pickle.h"

/* Reads a whole file of `length` bytes; which format it is shows in its
   first bytes.  On failure *out is empty and *where says where. */
t2m_status t2m_torchfile_parse(const uint8_t *file, uint64_t length,
                               t2m_pickle *out, t2m_where *where);

/* The two formats on their own, for tests and fuzzing. */
t2m_status t2m_archive_parse(const uint8_t *file, uint64_t length,
                             t2m_pickle *out, t2m_where *where);
t2m_status t2m_legacy_parse(const uint8_t *file, uint64_t length,
                            t2m_pickle *out, t2m_where *where);

#endif
