/* libFuzzer target: any bytes as an SSDA list. What is accepted keeps the parser's promises.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -I. tests/fuzz/list.c
 * data_shards/{list,id_map}.c \ common/{status,memory,file,log}.c -lxxhash -lm -lpthread -o build/fuzz-list
 *   build/fuzz-list -max_total_time=600 tests/fuzz/corpus/list */
#include "data_shards/list.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct image_list list;
    if (list_parse("fuzz", (const char *)bytes, n_bytes, &list) != STATUS_OK) return 0;
    if (list.n_entries == 0) abort();
    for (size_t i = 0; i < list.n_entries; i++) {
        const struct list_entry *entry = &list.entries[i];
        if (entry->label < -1 || entry->line == 0 || entry->id[0] == '\0' || entry->id[0] == '/' ||
            strchr(entry->id, '\n'))
            abort();
    }
    size_t n;
    if (list_overlap(&list, &list, &n) != STATUS_OK || n != list.n_entries) abort(); /* each path once */
    list_free(&list);
    return 0;
}
