// Configuration: defaults, precedence, every kind of fault with its place, and the effective file read back.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "launcher/config.h"

#define DATA                                                                                                 \
    "data:\n  source: {shards: [s.h5], list: s.txt}\n"                                                       \
    "  target: {shards: [t.h5], labelled: l.txt, unlabelled: u.txt, validation: v.txt}\n"
#define PEERS                                                                                                \
    "peers:\n  - {name: c, model: convnext_tiny, view: perspective}\n  - {name: s, model: swin_tiny, "       \
    "coral: deep}\n"
#define SMALL "run: runs/x\n" DATA PEERS

static status_t read_text(const char *text, int n, char **arguments, char **environment,
                          struct settings *out) {
    const struct config_overrides o = {.n_arguments = n, .arguments = arguments, .environment = environment};
    return config_read_text("f.yaml", "/folder", text, strlen(text), &o, out);
}

static void defaults_are_the_methods(void **state) {
    (void)state;
    struct settings s;
    assert_ok(read_text(SMALL, 0, NULL, NULL, &s));
    assert_int_equal(s.stages.n, 2);
    assert_int_equal(s.stages.items[0], STAGE_COTRAIN);
    assert_int_equal(s.heads.outer, 30);
    assert_int_equal(s.heads.inner, 400);
    assert_true(s.heads.optimizer.lr == 30 && s.heads.optimizer.momentum == 0.9 &&
                s.heads.optimizer.nesterov);
    assert_true(s.heads.init.source == 0.4 && s.heads.init.labelled == 0.2 && s.heads.tau_source == 0.8);
    assert_true(s.heads.tau.n == 3 && s.heads.tau.items[2] == 0.7);
    assert_true(settings_tau(&s.heads.tau, 9, 30) == 0.9 && settings_tau(&s.heads.tau, 10, 30) == 0.8);
    assert_true(settings_tau(&s.heads.tau, 19, 30) == 0.8 && settings_tau(&s.heads.tau, 20, 30) == 0.7);
    assert_true(s.distil.optimizer.backbone_scale == 0.1 && s.distil.schedule.name == SCHEDULE_INVERSE);
    assert_true(s.distil.schedule.gamma == 1e-4 && s.distil.schedule.power == 0.75 &&
                !s.distil.optimizer.no_decay_norms);
    assert_int_equal(s.distil.student.resize, 256);
    assert_int_equal(s.distil.student.image, 224);
    assert_int_equal(s.distil.batch.unlabelled, 48);
    assert_int_equal(s.peers[0].ranks, 0);
    assert_int_equal(s.peers[1].model.spec.family, MODEL_SWIN);
    assert_true(isnan(s.log.every_s));
    assert_string_equal(s.data.source.shards.items[0], "/folder/s.h5");
    settings_free(&s);
}

static void later_sources_win(void **state) {
    (void)state;
    char *environment[] = {"MARRS_COTRAIN_STEPS=20",
                           "MARRS_SEED=20",
                           "HOME=/",
                           "MARRS_PEERS_S_IMAGE=96",
                           "MARRS_ISA=base",
                           "MARRS_STAGES=[distil, cotrain]",
                           NULL};
    char *arguments[] = {"cotrain.steps=30",
                         "stages=[cotrain]",
                         "peers.0.ranks=3",
                         "peers.s.ranks=2",
                         "cotrain.tau=0.5",
                         "data.source.list=mine.txt",
                         "peers.0.model={family: convnext, depths: [1], dims: [8]}",
                         "peers.c.image=32",
                         "log.prometheus=a, b: c"};
    struct settings s;
    assert_fails(read_text("seed: 10\ncotrain: {steps: 10, ema: 0.5}\n" SMALL, 9, arguments, environment, &s),
                 STATUS_BAD_CONFIG, "MARRS_STAGES:1:10: stages: each stage once");
    environment[5] = NULL;
    assert_ok(read_text("seed: 10\ncotrain: {steps: 10, ema: 0.5}\n" SMALL, 9, arguments, environment, &s));
    assert_int_equal(s.seed, 20);
    assert_int_equal(s.cotrain.steps, 30);
    assert_true(s.cotrain.ema == 0.5 && s.cotrain.tau.n == 1 && s.cotrain.tau.items[0] == 0.5);
    assert_int_equal(s.stages.n, 1);
    assert_int_equal(s.peers[0].ranks, 3);
    assert_int_equal(s.peers[1].ranks, 2);
    assert_int_equal(s.peers[1].image, 96);
    assert_int_equal(s.peers[0].model.spec.dims[0], 8);
    assert_string_equal(s.peers[0].model.preset, "");
    assert_string_equal(s.log.prometheus, "a, b: c");
    char cwd[4096], want[4200];
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(want, sizeof want, "%s/mine.txt", cwd);
    assert_string_equal(s.data.source.list, want);
    settings_free(&s);
}

/* One text, and words that its fault must have. */
static const struct {
    const char *text, *words;
} faults[] = {
    {"run: r\ncotrian: {steps: 1}\n", "f.yaml:2:1: unknown key cotrian; nearest: cotrain"},
    {"cotrain:\n  setps: 1\n", "f.yaml:2:3: unknown key cotrain.setps; nearest: cotrain.steps"},
    {"cotrain:\n  lr: 1\n", "f.yaml:2:3: unknown key cotrain.lr; nearest: "},
    {"cotrain: {steps: ten}\n", "f.yaml:1:18: cotrain.steps: expected an integer, got 'ten'"},
    {"cotrain: {steps: 1.5}\n", "expected an integer, got '1.5'"},
    {"cotrain: {steps: }\n", "expected an integer, got nothing"},
    {"cotrain: {steps: [1]}\n", "expected an integer, got a list"},
    {"cotrain: {steps: 99999999999999999999}\n", "above the largest value"},
    {"cotrain: {accumulate: 0}\n", "cotrain.accumulate: 0 is below the least value, 1"},
    {"cotrain: {ema: nan}\n", "expected a number, got 'nan'"},
    {"cotrain: {ema: 0x1}\n", "expected a number, got '0x1'"},
    {"device: gpu\n", "device: expected one of auto cpu cuda cuda-emulated, got 'gpu'"},
    {"device: cudaa\n", "nearest: cuda"},
    {"cuda: {graph: yes}\n", "expected true or false, got 'yes'"},
    {"cotrain: 3\n", "cotrain is a section"},
    {"seed: 1\nrun: a\nseed: 2\n", "f.yaml:3:1: seed appears twice, first in line 1"},
    {"cotrain:\n  optimizer: {betas: [0.9]}\n", "cotrain.optimizer.betas: expected 2 items, got 1"},
    {"run: &a x\n", "anchors"},
    {"run: *a\n", "anchors"},
    {"run: !!str x\n", "tags"},
    {"run: x\n---\nrun: y\n", "second document"},
    {"run: [a\n", "not YAML"},
    {"run: \"a\\0b\"\n", "NUL"},
    {"run: \"a\\nb\"\n", "printable"},
    {"run: \xff\n", "not UTF-8"},
    {"- a\n", "expected keys and values"},
    {"peers: {name: a}\n", "peers: expected a list"},
    {"peers: [a]\n", "f.yaml:1:9: peers: each is a section"},
    {"peers: []\n", "peers: expected a list of 1 to 8"},
    {"[a]: b\n", "a key must be a word"},
    {"a.b: 1\n", "'a.b' cannot be a key"},
    {"seed: 1\n", "f.yaml: missing key run"},
    {"seed: 1\n", "f.yaml: missing key data.target.validation"},
    {"peers:\n  - name: a\n", "f.yaml:2:5: missing key peers[].model"},
    {"peers:\n  - {name: a/b, model: swin_tiny}\n", "letters, digits"},
    {"peers:\n  - {name: a, model: swin_tiny}\n  - {name: A, model: swin_tiny}\n",
     "f.yaml:3:12: peers[].name: 'A' names two peers"},
    {"peers:\n  - {name: a, model: swin_tinny}\n", "f.yaml:2:22: peers[].model: "},
    {"peers:\n  - {name: a, model: {depths: [1]}}\n", "needs family"},
    {"peers:\n  - {name: a, model: {family: swin, depths: [1, 1], heads: [1], embed: 4}}\n",
     "heads has 1 entries, depths has 2"},
    {"peers:\n  - {name: a, model: {family: swin, depths: [1], heads: [1], embed: 4}}\n",
     "auto needs a preset"},
    {"peers:\n  - {name: a, model: {family: swin, dims: [3]}}\n",
     "peers[].model.dims: no key of this family"},
    {"stages: [heads, distil]\n", "heads needs the features stage"},
    {"stages: [distil]\n", "distil needs teachers"},
    {"stages: [distil, cotrain]\n", "in the order"},
    {"distil: {student: {resize: 100}}\n", "100 is smaller than the crop"},
};

static void every_fault_has_its_place(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct settings s;
        const status_t status = read_text(faults[i].text, 0, NULL, NULL, &s);
        if (status != STATUS_BAD_CONFIG) fail_msg("%s: %s", faults[i].text, status_name(status));
        if (!strstr(status_message(), faults[i].words))
            fail_msg("%s\nlacks: %s\nsays: %s", faults[i].text, faults[i].words, status_message());
    }
}

static void all_faults_in_one_run(void **state) {
    (void)state;
    char *environment[] = {"MARRS_COTRAIN_SETPS=1", NULL};
    char *arguments[] = {"peers.x.ranks=1", "peers.7.ranks=1", "steps", "seed=x"};
    struct settings s;
    assert_fails(
        read_text("sead: 1\ndevice: tpu\ncotrain: {setps: 1}\n" SMALL, 4, arguments, environment, &s),
        STATUS_BAD_CONFIG, "\n8 faults");
    const char *const words[] = {
        "f.yaml:1:1: unknown key sead; nearest: seed",
        "f.yaml:2:9: device",
        "f.yaml:3:11: unknown key",
        "MARRS_COTRAIN_SETPS: no configuration key has this name; nearest: MARRS_COTRAIN_STEPS",
        "there is no peer named x",
        "there is no peer 7",
        "not of the form key=value",
        "command line:1:1: seed: expected an integer"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strstr(status_message(), words[i])) fail_msg("lacks: %s\nsays: %s", words[i], status_message());
}

static char *written(const struct settings *s) {
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    assert_ok(config_write(s, out));
    fclose(out);
    return text;
}

/* What is written reads back to a configuration that is written the same; and the same field by field,
 * strings aside. */
static void effective_file_reads_back(void **state) {
    (void)state;
    const char *const files[] = {"configs/digits.yaml", "configs/office_home.yaml", "configs/office31.yaml",
                                 "configs/domainnet.yaml"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *arguments[] = {"peers.1.name=a-b", "log.prometheus=\"strange\\ 'text' # \xc3\xa4",
                             "cotrain.ema=0.1234567890123456789", "peers.0.ranks=5", "comm.bucket_mb=1e-3"};
        const struct config_overrides o = {.n_arguments = 5, .arguments = arguments};
        struct settings a, b;
        assert_ok(config_read(files[i], &o, &a));
        char *first = written(&a);
        assert_ok(config_read_text("again", "/elsewhere", first, strlen(first), NULL, &b));
        char *second = written(&b);
        assert_string_equal(first, second);
        assert_string_equal(a.log.prometheus, b.log.prometheus);
        assert_memory_equal(&a.cotrain, &b.cotrain, sizeof a.cotrain);
        assert_memory_equal(&a.heads, &b.heads, sizeof a.heads);
        assert_memory_equal(&a.comm, &b.comm, sizeof a.comm);
        /* not the bytes of the whole: a structure that was copied may hold anything between its fields */
        const struct model_spec *x = &a.peers[0].model.spec, *y = &b.peers[0].model.spec;
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->family, y->family);
        assert_int_equal(x->n_stages, y->n_stages);
        assert_memory_equal(x->depths, y->depths, sizeof x->depths);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        assert_int_equal(x->stem, y->stem);
        assert_int_equal(x->kernel, y->kernel);
        free(first);
        free(second);
        settings_free(&a);
        settings_free(&b);
    }
}

static void missing_file(void **state) {
    (void)state;
    struct settings s;
    assert_fails(config_read("no/such.yaml", NULL, &s), STATUS_MISSING, "no/such.yaml");
}

static void thresholds_that_smoothing_caps(void **state) {
    (void)state;
    struct settings s;
    char *arguments[] = {"cotrain.smoothing=0.1", "cotrain.tau=[0.95, 0.9]"};
    assert_true(fabs(settings_confidence_cap(0.1, 10) - 0.91) < 1e-12);
    assert_ok(read_text(SMALL, 2, arguments, NULL, &s));
    assert_int_equal(settings_warn_thresholds(&s, 10), 1);
    s.cotrain.tau.n = 0;
    assert_int_equal(settings_warn_thresholds(&s, 10), 0);
    settings_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_methods),       cmocka_unit_test(later_sources_win),
        cmocka_unit_test(every_fault_has_its_place),      cmocka_unit_test(all_faults_in_one_run),
        cmocka_unit_test(effective_file_reads_back),      cmocka_unit_test(missing_file),
        cmocka_unit_test(thresholds_that_smoothing_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
