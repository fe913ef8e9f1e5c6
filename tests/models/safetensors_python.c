// What is written here equals, byte for byte, what the Python package writes for the same tensors, and reads
// back there.
// LIMIT 120
#include <string.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "tests/support/python.h"
#include "common/file.h"
#include "models/safetensors.h"

static void equal_files(void **state) {
    const char *folder = *state;
    static const struct safetensors_entry entries[] = {
        {"z.weight", TENSOR_F32, 4, {2, 1, 2, 3}}, {"a.count", TENSOR_I64, 0, {0}}, {"b", TENSOR_U8, 1, {5}},
        {"a.weight", TENSOR_F32, 2, {2, 2}},       {"labels", TENSOR_I32, 1, {3}},
    };
    static const float z[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, a[4] = {0.1f, -1, 1e-30f, 3};
    static const int64_t count = 12345678901;
    static const int32_t labels[3] = {3, -1, 2};
    static const char *const metadata[] = {"format", "pt"};
    char ours[256], theirs[256], code[1024];
    snprintf(ours, sizeof ours, "%s/ours.safetensors", folder);
    snprintf(theirs, sizeof theirs, "%s/theirs.safetensors", folder);
    struct safetensors_writer *writer;
    assert_ok(safetensors_create(ours, entries, 5, metadata, 1, &writer));
    assert_ok(safetensors_put(writer, 0, z, sizeof z));
    assert_ok(safetensors_put(writer, 1, &count, sizeof count));
    assert_ok(safetensors_put(writer, 2, "\1\2\3\4\5", 5));
    assert_ok(safetensors_put(writer, 3, a, sizeof a));
    assert_ok(safetensors_put(writer, 4, labels, sizeof labels));
    assert_ok(safetensors_commit(writer));
    snprintf(code, sizeof code,
             "from safetensors.numpy import load_file, save_file\n"
             "import numpy as np\n"
             "t = load_file('%s')\n"
             "assert t['a.count'].shape == () and t['a.count'] == 12345678901\n"
             "assert (t['z.weight'] == np.arange(12, dtype='f4').reshape(2, 1, 2, 3)).all()\n"
             "assert (t['labels'] == [3, -1, 2]).all() and t['a.weight'][1, 0] == np.float32(1e-30)\n"
             "save_file(t, '%s', metadata={'format': 'pt'})\n",
             ours, theirs);
    assert_true(python_runs(code));
    char *x, *y;
    size_t n_x, n_y;
    assert_ok(file_read_all(ours, 1 << 20, &x, &n_x));
    assert_ok(file_read_all(theirs, 1 << 20, &y, &n_y));
    assert_int_equal(n_x, n_y);
    assert_memory_equal(x, y, n_x);
    free(x), free(y);
    unlink(ours), unlink(theirs);
}

int main(void) {
    if (!python_has("numpy, safetensors")) return 77;
    char folder[] = "/tmp/safetensors-python-XXXXXX";
    if (!mkdtemp(folder)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(equal_files, folder)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failures;
}
