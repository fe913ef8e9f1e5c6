// Files appear whole or not at all; reads are bounded; paths are joined; folders are made.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/support/test.h"
#include "common/file.h"

static char folder[] = "/tmp/marrs_test_file_XXXXXX";

static char *in_folder(const char *name) {
    char *path = file_join(folder, name);
    assert_non_null(path);
    return path;
}

static int n_entries(const char *path) {
    int n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void replaced_whole(void **state) {
    (void)state;
    char *path = in_folder("a/b/c.txt"), *parent = in_folder("a/b"), *text;
    size_t n_bytes;
    assert_ok(file_write_atomic(path, "old", 3)); /* makes a/b */
    assert_ok(file_write_atomic(path, "newer", 5));
    assert_ok(file_read_all(path, 100, &text, &n_bytes));
    assert_int_equal(n_bytes, 5);
    assert_string_equal(text, "newer");
    free(text);
    assert_int_equal(n_entries(parent), 1); /* no temporary file stays */
    free(path), free(parent);
}

static void abandoned_leaves_the_old(void **state) {
    (void)state;
    char *path = in_folder("kept"), *text;
    size_t n_bytes;
    assert_ok(file_write_atomic(path, "old", 3));
    struct file_replacement r;
    assert_ok(file_replace_begin(path, &r));
    FILE *out = fopen(r.temporary, "w");
    assert_non_null(out);
    fputs("half", out);
    fclose(out);
    file_replace_abandon(&r);
    file_replace_abandon(&r); /* twice is fine */
    assert_ok(file_read_all(path, 3, &text, &n_bytes));
    assert_string_equal(text, "old");
    free(text);
    assert_ok(file_replace_begin(path, &r)); /* nothing written: the commit fails, the old file stays */
    assert_int_equal(file_replace_commit(&r), STATUS_MISSING);
    assert_true(file_exists(path));
    assert_fails(file_read_all(path, 2, &text, &n_bytes), STATUS_BAD_DATA, "larger than 2 bytes");
    free(path);
}

static void a_file_in_the_way(void **state) {
    (void)state;
    char *file = in_folder("plain"), *below = in_folder("plain/x");
    assert_ok(file_write_atomic(file, "", 0));
    assert_int_equal(file_write_atomic(below, "x", 1), STATUS_CANT_CREATE);
    assert_fails(file_make_folders(file), STATUS_CANT_CREATE, "not a folder");
    free(file), free(below);
}

static void short_reads_are_faults(void **state) {
    (void)state;
    char *path = in_folder("short"), bytes[8] = {0};
    assert_ok(file_write_atomic(path, "0123", 4));
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_ok(file_pread_all(fd, bytes, 2, 1, path));
    assert_memory_equal(bytes, "12", 2);
    assert_fails(file_pread_all(fd, bytes, 4, 2, path), STATUS_BAD_DATA, "2 bytes too early");
    assert_ok(file_pwrite_all(fd, "ab", 2, 2, path));
    assert_ok(file_pread_all(fd, bytes, 4, 0, path));
    assert_memory_equal(bytes, "01ab", 4);
    close(fd);
    free(path);
}

static void paths_are_joined(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < 4; i++) {
        char *path = file_join(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        free(path);
    }
    assert_fails(file_read_all("/nonexistent/x", 1, &(char *){NULL}, &(size_t){0}), STATUS_MISSING,
                 "/nonexistent/x");
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaced_whole), cmocka_unit_test(abandoned_leaves_the_old),
        cmocka_unit_test(a_file_in_the_way), cmocka_unit_test(short_reads_are_faults),
        cmocka_unit_test(paths_are_joined)};
    const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || n_failed;
}
