/* What the targets share: each takes bytes, makes one call, frees. */
#ifndef T2M_FUZZ_H
#define T2M_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
