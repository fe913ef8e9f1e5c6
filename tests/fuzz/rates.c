// libFuzzer: any bytes as a file of rates give faults, or rates whose times are finite and that are read
// again as they were written.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "launcher/plan_rates.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    struct plan_rates rates, again;
    char *text = NULL;
    size_t n = 0;
    if (rates_parse("fuzz", (const char *)data, n_bytes, &rates) != STATUS_OK) return 0;
    for (int i = 0; i < rates.n_networks; i++)
        for (double images = 0; images < 1e6; images = 3 * images + 1)
            if (!(rate_forward_s(&rates.networks[i], images) >= 0) ||
                !isfinite(rate_backward_s(&rates.networks[i], images)))
                __builtin_trap();
    FILE *out = open_memstream(&text, &n);
    if (!out) return 0;
    rates_write(&rates, out);
    fclose(out);
    if (rates_parse("again", text, n, &again) != STATUS_OK) {
        fprintf(stderr, "%s\n%s", status_message(), text);
        __builtin_trap();
    }
    if (again.n_networks != rates.n_networks || again.inter_known != rates.inter_known) __builtin_trap();
    free(text);
    return 0;
}
