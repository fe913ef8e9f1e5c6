#include "launcher/plan_rates.h"

#include "launcher/config_tree.h"

#include "common/file.h"
#include "common/memory.h"
#include "common/nearest.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- built in
 * ------------------------------------------------------------------------------------------------------ */

/* None of these was measured by this program. Goals and floors for one H100 at 384 px, bf16, batch 32: 320
 * and 450 images/s of ConvNeXt-XL and Swin-L in training are the goal, 525 and 819 what its arithmetic (800
 * TFLOP/s) and memory (3.0 TB/s) allow; as FLOP/s of the networks, so that other sizes follow. MobileNet-V2:
 * 8,000 and 16,000 images/s at 224. Links: NVLink 4 at a third of its 450 GB/s, four 200 Gbit/s ports a node:
 * assumed. */
static const struct plan_rates builtin[] = {
    {.kind = "goal",
     .about = "goal for one H100 80 GB, bf16; not measured",
     .device = "h100",
     .busy = 1,
     .workers = 1,
     .threads = 1,
     .head_flop_per_s = 2e13,
     .memory_bytes_per_s = 2.4e12,
     .flop_per_s = {[MODEL_CONVNEXT] = 344e12, [MODEL_SWIN] = 282e12, [MODEL_MOBILENETV2] = 14.4e12},
     .intra = {10e-6, 150e9},
     .inter = {20e-6, 100e9}},
    {.kind = "floor",
     .about = "least time that one H100 80 GB allows, bf16; computed, no program reaches it",
     .device = "h100",
     .busy = 1,
     .workers = 1,
     .threads = 1,
     .head_flop_per_s = 3.3e13,
     .memory_bytes_per_s = 3.0e12,
     .flop_per_s = {[MODEL_CONVNEXT] = 564e12, [MODEL_SWIN] = 513e12, [MODEL_MOBILENETV2] = 28.8e12},
     .intra = {10e-6, 150e9},
     .inter = {20e-6, 100e9}},
};
static const char *const builtin_names[] = {"h100", "h100-floor"};

status_t rates_builtin(const char *name, struct plan_rates *out) {
    struct nearest nearest = nearest_start(name);
    for (size_t i = 0; i < ARRAY_LENGTH(builtin_names); i++) {
        if (strcmp(name, builtin_names[i]) == 0) {
            *out = builtin[i];
            return STATUS_OK;
        }
        nearest_offer(&nearest, builtin_names[i]);
    }
    return FAIL(
        STATUS_USAGE,
        "plan: no built-in rates of \"%s\"%s%s; there are h100 (a goal) and h100-floor (computed); other "
        "devices: --rates FILE (plan --calibrate FILE measures this machine)",
        name, nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "");
}

/* ---- reading
 * ------------------------------------------------------------------------------------------------------ */

struct reading {
    const char *origin;
    struct config_faults faults;
};

/* What a section may hold; exactly one of text, number, flag. */
struct field {
    const char *name;
    char *text; /* [capacity] */
    size_t capacity;
    double *number, low, high;
    bool *flag;
    bool wanted, given;
};

static void set_field(struct reading *r, struct field *f, const struct config_node *node) {
    if (node->kind != CONFIG_SCALAR) {
        config_fault(&r->faults, r->origin, node->line, node->column, "%s: expected a single value", f->name);
    } else if (f->text) {
        snprintf(f->text, f->capacity, "%s", node->text);
    } else if (f->flag) {
        *f->flag = strcmp(node->text, "true") == 0;
        if (!*f->flag && strcmp(node->text, "false") != 0)
            config_fault(&r->faults, r->origin, node->line, node->column,
                         "%s: expected true or false, got '%.80s'", f->name, node->text);
    } else {
        char *end;
        const double value = strtod(node->text, &end);
        if (end == node->text || *end != '\0' || !isfinite(value))
            config_fault(&r->faults, r->origin, node->line, node->column,
                         "%s: expected a number, got '%.80s'", f->name, node->text);
        else if (value < f->low || value > f->high)
            config_fault(&r->faults, r->origin, node->line, node->column,
                         "%s: %.80s is not between %g and %g", f->name, node->text, f->low, f->high);
        else
            *f->number = value;
    }
}

/* Fill the fields; `others` (NULL-terminated) are keys that the caller looks at. */
static void read_section(struct reading *r, const struct config_node *node, const char *what,
                         struct field *fields, size_t n, const char *const *others) {
    if (node->kind != CONFIG_MAPPING) {
        config_fault(&r->faults, r->origin, node->line, node->column, "%s: expected a section", what);
        return;
    }
    for (int i = 0; i < node->n_children; i++) {
        const struct config_node *key = &node->keys[i];
        struct nearest nearest = nearest_start(key->text);
        bool known = false;
        for (size_t k = 0; k < n && !known; k++) {
            nearest_offer(&nearest, fields[k].name);
            if (strcmp(fields[k].name, key->text) != 0) continue;
            known = true;
            if (fields[k].given)
                config_fault(&r->faults, r->origin, key->line, key->column, "%s appears twice", key->text);
            fields[k].given = true;
            set_field(r, &fields[k], &node->children[i]);
        }
        for (int k = 0; others && others[k]; k++) {
            nearest_offer(&nearest, others[k]);
            known |= strcmp(others[k], key->text) == 0;
        }
        if (!known)
            config_fault(&r->faults, r->origin, key->line, key->column, "unknown key %s%s%s", key->text,
                         nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "");
    }
    for (size_t k = 0; k < n; k++)
        if (fields[k].wanted && !fields[k].given)
            config_fault(&r->faults, r->origin, node->line, node->column, "%s: %s is missing", what,
                         fields[k].name);
}

static const struct config_node *child(const struct config_node *node, const char *name) {
    for (int i = 0; node->kind == CONFIG_MAPPING && i < node->n_children; i++)
        if (strcmp(node->keys[i].text, name) == 0) return &node->children[i];
    return NULL;
}

static const double a_day_s = 86400;

/* [[images, forward_s, backward_s], ...] */
static void read_points(struct reading *r, const struct config_node *node, struct network_rate *out) {
    if (node->kind != CONFIG_SEQUENCE || node->n_children < 1 || node->n_children > RATES_MAX_POINTS) {
        config_fault(&r->faults, r->origin, node->line, node->column,
                     "points: expected a list of 1 to %d [images, forward_s, backward_s]", RATES_MAX_POINTS);
        return;
    }
    for (int i = 0; i < node->n_children; i++) {
        const struct config_node *item = &node->children[i];
        struct rate_point p = {0};
        struct field fields[] = {
            {.name = "images", .number = &p.images, .low = 1, .high = 1e9},
            {.name = "forward_s", .number = &p.forward_s, .low = 1e-9, .high = a_day_s},
            {.name = "backward_s", .number = &p.backward_s, .low = 1e-9, .high = a_day_s}};
        if (item->kind != CONFIG_SEQUENCE || item->n_children != 3) {
            config_fault(&r->faults, r->origin, item->line, item->column,
                         "points: expected [images, forward_s, backward_s]");
            return;
        }
        for (int k = 0; k < 3; k++) set_field(r, &fields[k], &item->children[k]);
        if (i > 0 && p.images <= out->points[i - 1].images)
            config_fault(&r->faults, r->origin, item->line, item->column, "points: images must rise");
        out->points[out->n_points++] = p;
    }
}

static void read_network(struct reading *r, const struct config_node *node, struct network_rate *out) {
    static const char *const others[] = {"points", NULL};
    double images_per_s = 0;
    struct field fields[] = {
        {.name = "name", .text = out->name, .capacity = sizeof out->name, .wanted = true},
        {.name = "macs", .number = &out->macs, .low = 0, .high = 1e18},
        {.name = "recompute", .flag = &out->recompute},
        {.name = "update_s", .number = &out->update_s, .low = 0, .high = a_day_s},
        {.name = "data_s", .number = &out->data_s, .low = 0, .high = a_day_s},
        {.name = "predict_s", .number = &out->predict_s, .low = 0, .high = a_day_s},
        {.name = "images_per_s", .number = &images_per_s, .low = 1e-6, .high = 1e9}};
    read_section(r, node, "networks", fields, ARRAY_LENGTH(fields), others);
    const struct config_node *points = child(node, "points");
    if (points) read_points(r, points, out);
    const bool rate = fields[ARRAY_LENGTH(fields) - 1].given;
    if (!points == !rate)
        config_fault(&r->faults, r->origin, node->line, node->column,
                     "networks: %s wants either points or images_per_s (in training)", out->name);
    if (!points && images_per_s > 0) {
        const double parts = out->recompute ? 4 : 3;
        out->n_points = 1;
        out->points[0] = (struct rate_point){.images = 1,
                                             .forward_s = 1 / images_per_s / parts,
                                             .backward_s = (parts - 1) / images_per_s / parts};
    }
}

static void read_networks(struct reading *r, const struct config_node *node, struct plan_rates *out) {
    if (node->kind != CONFIG_SEQUENCE || node->n_children < 1 || node->n_children > RATES_MAX_NETWORKS) {
        config_fault(&r->faults, r->origin, node->line, node->column,
                     "networks: expected a list of 1 to %d networks", RATES_MAX_NETWORKS);
        return;
    }
    for (int i = 0; i < node->n_children; i++) {
        struct network_rate *rate = &out->networks[out->n_networks];
        *rate = (struct network_rate){.name = ""};
        read_network(r, &node->children[i], rate);
        if (rates_find(out, rate->name))
            config_fault(&r->faults, r->origin, node->children[i].line, node->children[i].column,
                         "networks: %s appears twice", rate->name);
        out->n_networks++;
    }
}

static bool read_link(struct reading *r, const struct config_node *links, const char *name,
                      struct link_rate *out) {
    const struct config_node *node = links ? child(links, name) : NULL;
    if (!node) return false;
    struct field fields[] = {
        {.name = "latency_s", .number = &out->latency_s, .low = 0, .high = 60, .wanted = true},
        {.name = "bytes_per_s", .number = &out->bytes_per_s, .low = 1, .high = 1e15, .wanted = true}};
    read_section(r, node, name, fields, ARRAY_LENGTH(fields), NULL);
    return true;
}

static void read_all(struct reading *r, const struct config_node *root, struct plan_rates *out) {
    static const char *const sections[] = {"networks", "links", NULL}, *const links_keys[] = {"intra",
                                                                                              "inter", NULL};
    char format[32] = "";
    double version = 0;
    struct field fields[] = {
        {.name = "format", .text = format, .capacity = sizeof format, .wanted = true},
        {.name = "version", .number = &version, .low = 0, .high = 1e9, .wanted = true},
        {.name = "kind", .text = out->kind, .capacity = sizeof out->kind},
        {.name = "about", .text = out->about, .capacity = sizeof out->about},
        {.name = "device", .text = out->device, .capacity = sizeof out->device},
        {.name = "cores", .number = &out->cores, .low = 0, .high = 65536},
        {.name = "threads", .number = &out->threads, .low = 1, .high = 65536},
        {.name = "workers", .number = &out->workers, .low = 1, .high = 65536},
        {.name = "busy", .number = &out->busy, .low = 1, .high = 100},
        {.name = "head_flop_per_s", .number = &out->head_flop_per_s, .low = 1, .high = 1e18}};
    read_section(r, root, "rates", fields, ARRAY_LENGTH(fields), sections);
    if (r->faults.n == 0 && (strcmp(format, "marrs-rates") != 0 || version != 1))
        config_fault(&r->faults, r->origin, root->line, root->column,
                     "this is no file of rates that this program reads (format: marrs-rates, version: 1); "
                     "marrs_dist plan --calibrate writes one");
    const struct config_node *networks = child(root, "networks"), *links = child(root, "links");
    if (networks)
        read_networks(r, networks, out);
    else if (r->faults.n == 0)
        config_fault(&r->faults, r->origin, root->line, root->column, "rates: networks is missing");
    if (!links) return;
    read_section(r, links, "links", NULL, 0, links_keys);
    out->intra_known = read_link(r, links, "intra", &out->intra);
    out->inter_known = read_link(r, links, "inter", &out->inter);
}

status_t rates_parse(const char *origin, const char *text, size_t n_bytes, struct plan_rates *out) {
    struct reading r = {.origin = origin};
    struct config_node root;
    struct plan_rates rates = {.kind = "given",
                               .device = "cpu",
                               .threads = 1,
                               .workers = 1,
                               .busy = 1,
                               .head_flop_per_s = 5e9,
                               .intra = {5e-6, 3e9},
                               .inter = {50e-6, 1e9}};
    status_t status = config_tree_read(origin, text, n_bytes, &r.faults, &root);
    if (status == STATUS_OK) {
        read_all(&r, &root, &rates);
        config_tree_free(&root);
    }
    if (r.faults.n > 0) status = FAIL(STATUS_BAD_CONFIG, "%s", r.faults.text ? r.faults.text : "bad rates");
    config_faults_free(&r.faults);
    if (status == STATUS_OK) *out = rates;
    return status;
}

status_t rates_read(const char *path, struct plan_rates *out) {
    char *text;
    size_t n_bytes;
    TRY(file_read_all(path, 1 << 20, &text, &n_bytes));
    const status_t status = rates_parse(path, text, n_bytes, out);
    free(text);
    return status;
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------ */

/* In quotes; what YAML would take for its own becomes '?'. */
static void write_text(const char *key, const char *text, FILE *out) {
    fprintf(out, "%s: \"", key);
    for (const char *p = text; *p; p++)
        fputc(*p == '"' || *p == '\\' || (unsigned char)*p < 32 || (unsigned char)*p > 126 ? '?' : *p, out);
    fputs("\"\n", out);
}

static void write_link(const char *name, const struct link_rate *link, bool known, FILE *out) {
    if (known)
        fprintf(out, "  %s: {latency_s: %.4g, bytes_per_s: %.4g}\n", name, link->latency_s,
                link->bytes_per_s);
}

static void write_network(const struct network_rate *n, FILE *out) {
    write_text("  - name", n->name, out);
    fprintf(out,
            "    macs: %.10g\n    recompute: %s\n    update_s: %.5g\n    data_s: %.5g\n    predict_s: %.5g\n"
            "    points: # images, forward_s, backward_s\n",
            n->macs, n->recompute ? "true" : "false", n->update_s, n->data_s, n->predict_s);
    for (int i = 0; i < n->n_points; i++)
        fprintf(out, "      - [%.17g, %.6g, %.6g]\n", n->points[i].images, n->points[i].forward_s,
                n->points[i].backward_s);
}

void rates_write(const struct plan_rates *r, FILE *out) {
    fputs("# Times of one rank and of the links, for marrs_dist plan --rates. Made by marrs_dist plan "
          "--calibrate; may\n"
          "# be edited (docs/running-at-scale.md).\nformat: marrs-rates\nversion: 1\n",
          out);
    write_text("kind", r->kind, out);
    write_text("about", r->about, out);
    write_text("device", r->device, out);
    fprintf(out,
            "cores: %.10g # of a node\nthreads: %.10g # a rank computes with\nworkers: %.10g # that decode, "
            "a rank\n"
            "busy: %.6g # time of a step with all cores busy / alone\nhead_flop_per_s: %.4g\nnetworks:\n",
            r->cores, r->threads, r->workers, r->busy, r->head_flop_per_s);
    for (int i = 0; i < r->n_networks; i++) write_network(&r->networks[i], out);
    if (!r->intra_known && !r->inter_known) return;
    fputs("links: # intra: a rank's within a node; inter: a node's to the others\n", out);
    write_link("intra", &r->intra, r->intra_known, out);
    write_link("inter", &r->inter, r->inter_known, out);
}

/* ---- times
 * -------------------------------------------------------------------------------------------------------- */

const struct network_rate *rates_find(const struct plan_rates *rates, const char *name) {
    for (int i = 0; i < rates->n_networks; i++)
        if (strcmp(rates->networks[i].name, name) == 0) return &rates->networks[i];
    return NULL;
}

static double at(const struct network_rate *r, double images, size_t member) {
#define VALUE(i) (*(const double *)((const char *)&r->points[i] + member))
    if (images <= 0 || r->n_points == 0) return 0;
    if (r->n_points == 1) return VALUE(0) * images / r->points[0].images;
    int i = 0;
    while (i < r->n_points - 2 && images > r->points[i + 1].images) i++;
    const double x0 = r->points[i].images, x1 = r->points[i + 1].images;
    const double slope = (VALUE(i + 1) - VALUE(i)) / (x1 - x0), y = VALUE(i) + slope * (images - x0);
    /* noise must not make time fall with work, nor fewer images free */
    if (images < x0) return fmax(y, VALUE(i) * images / x0 * 0.5);
    return images > x1 ? fmax(y, VALUE(i + 1)) : y;
#undef VALUE
}

double rate_forward_s(const struct network_rate *rate, double images) {
    return at(rate, images, offsetof(struct rate_point, forward_s));
}

double rate_backward_s(const struct network_rate *rate, double images) {
    return at(rate, images, offsetof(struct rate_point, backward_s));
}
