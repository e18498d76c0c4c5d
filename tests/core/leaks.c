/* Runs every reader over the files named on the command line, whole, cut
   short at many places and with bytes changed, and frees what it gets: for
   valgrind, which reports what is not freed or is read beyond its end. */
#include "../../csrc/core/json.h"
#include "../../csrc/core/keys.h"
#include "../../csrc/core/pickle.h"
#include "../../csrc/core/safetensors.h"
#include "../../csrc/core/torchfile.h"
#include "../../csrc/core/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
read_all(const uint8_t *data, size_t size)
{
    t2m_st_header header;
    t2m_zip zip;
    t2m_pickle pickle;
    t2m_where where;
    size_t used;
    t2m_json json = {data, size, 0};

    t2m_json_skip(&json, 0);
    if (t2m_st_parse(data, size, &header, &where) == T2M_OK) {
        t2m_st_free(&header);
    }
    if (t2m_zip_parse(data, size, &zip, &where) == T2M_OK) {
        t2m_zip_free(&zip);
    }
    if (t2m_pickle_load(data, size, &t2m_torch_hooks, &pickle, &used,
                        &where) == T2M_OK) {
        t2m_pickle_free(&pickle);
    }
    if (t2m_torchfile_parse(data, size, &pickle, &where) == T2M_OK) {
        t2m_pickle_free(&pickle);
    }
}

static int
run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(1 << 20), *copy;

    if (!file || !data) {
        fprintf(stderr, "leaks: cannot read %s\n", path);
        free(data);
        return 1;
    }
    size_t size = fread(data, 1, 1 << 20, file);
    fclose(file);
    read_all(data, size);
    for (size_t i = 0; i < size; i += size / 64 + 1) {
        /* a copy of exactly this length, so that reads past it are seen */
        copy = malloc(i ? i : 1);
        if (copy) {
            memcpy(copy, data, i);
            read_all(copy, i);
        }
        free(copy);
        data[i] ^= 0x41;
        read_all(data, size);
        data[i] ^= 0x41;
    }
    free(data);
    return 0;
}

int
main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= run_file(argv[i]);
    }
    return failed;
}
