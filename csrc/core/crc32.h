/* CRC-32 (ISO 3309), the checksum of zip entries. */
#ifndef T2M_CRC32_H
#define T2M_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Continues a checksum (0 at the start) over n bytes; returns the new one.
   With simd == 0 only the portable code runs (the reference for tests). */
uint32_t t2m_crc32(uint32_t crc, const uint8_t *data, size_t n, int simd);

#endif
