/* marrs_dist manual [PAGE]: manual pages from the tables of commands and of configuration keys, in man(7)'s
 * macros. Pages on file formats and the tutorial are made from docs/ by make/manual.awk. */
#include "launcher/command_help.h"
#include "launcher/commands.h"
#include "launcher/config_schema.h"
#include "launcher/config_value.h"

#include "common/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_WIDTH = 78 };

/* ---- text as roff
 * ------------------------------------------------------------------------------------------ */

/* `n` bytes of a word, with what roff would take for its own escaped; how many columns that took. */
static size_t put_escaped(const char *text, size_t n, FILE *out) {
    size_t written = 0;
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        const char *escape = c == '\\'  ? "\\e"
                             : c == '-' ? "\\-"
                             : c == '^' ? "\\(ha"
                             : c == '~' ? "\\(ti"
                                        : NULL;
        written += (size_t)(escape ? fprintf(out, "%s", escape) : fprintf(out, "%c", c));
    }
    return written;
}

/* A paragraph, up to a newline or the end, in lines that roff fills; what follows the newline. */
static const char *put_text(const char *text, FILE *out) {
    size_t at = 0;
    while (*text && *text != '\n') {
        const size_t n = strcspn(text, " \n");
        if (at > 0 && at + 1 + n > LINE_WIDTH - 8) {
            fputc('\n', out);
            at = 0;
        }
        if (at > 0) at += (size_t)fprintf(out, " ");
        if (at == 0 && (*text == '.' || *text == '\'')) at += (size_t)fprintf(out, "\\&");
        at += put_escaped(text, n, out);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
    return *text ? text + 1 : text;
}

/* A tagged paragraph's tag: a name in bold, and what it takes in italics. */
static void put_tag(const char *name, const char *value, FILE *out) {
    fputs(".TP\n\\fB", out);
    put_escaped(name, strlen(name), out);
    fputs("\\fR", out);
    if (value) {
        fputs(" \\fI", out);
        put_escaped(value, strlen(value), out);
        fputs("\\fR", out);
    }
    fputc('\n', out);
}

/* The day of SOURCE_DATE_EPOCH, so that a build can be repeated, else today. */
static void put_title(const char *page, const char *section, FILE *out) {
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    const time_t now = epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm day;
    char text[32], *end;
    gmtime_r(&now, &day);
    strftime(text, sizeof text, "%Y-%m-%d", &day);
    char upper[80];
    snprintf(upper, sizeof upper, "%s", page);
    for (end = upper; *end; end++) *end = (char)toupper((unsigned char)*end);
    fputs(".\\\" made by: marrs_dist manual\n.TH ", out);
    put_escaped(upper, strlen(upper), out);
    fprintf(out, " %s %s \"marrs_dist " MARRS_VERSION "\" \"marrs_dist manual\"\n.SH NAME\n", section, text);
    put_escaped(page, strlen(page), out);
    fputs(" \\- ", out);
}

static void put_see_also(const char *but, FILE *out) {
    fputs(".SH SEE ALSO\n", out);
    if (strcmp(but, "marrs_dist") != 0) fputs(".BR marrs_dist (1),\n", out);
    for (const struct command *c = commands; c->name && strcmp(but, "marrs_dist") == 0; c++)
        fprintf(out, ".BR marrs_dist\\-%s (1),\n", c->name);
    if (strcmp(but, "configuration") != 0) fputs(".BR marrs_dist\\-configuration (5),\n", out);
    fputs(".BR marrs_dist\\-shard (5),\n.BR marrs_dist\\-features (5),\n.BR marrs_dist\\-checkpoint (5),\n"
          ".BR marrs_dist\\-tutorial (7)\n",
          out);
}

/* ---- commands: section 1 ------------------------------------------------------------------------------- */

/* Lines of a usage; one that starts with a blank goes on with the line before. */
static void put_usage(const char *usage, FILE *out) {
    fputs(".SH SYNOPSIS\n", out);
    for (const char *line = usage; *line;) {
        const size_t n = strcspn(line, "\n"), skip = strspn(line, " ");
        if (line != usage && skip == 0) fputs(".br\n", out);
        if (skip == 0) fputs(strncmp(line, "mpirun", 6) == 0 ? "" : "\\fBmarrs_dist\\fR ", out);
        put_escaped(line + skip, n - skip, out);
        fputc('\n', out);
        line += n + (line[n] == '\n');
    }
}

static void put_start(const struct command *command, FILE *out) {
    static const char *const text[] = {
        [COMMAND_MPI_NEVER] =
            "Runs alone, without MPI: on a login node too. Under mpirun only rank 0 does anything.",
        [COMMAND_MPI_ALWAYS] = "Runs on the ranks that mpirun or srun starts; started alone it is one rank.",
        [COMMAND_MPI_WHEN_LAUNCHED] =
            "Runs alone, without MPI, or on the ranks that mpirun or srun starts, all together.",
    };
    fputs(".PP\n", out);
    put_text(text[command->needs_mpi], out);
}

static void put_command(const struct command *command, FILE *out) {
    char page[80], text[512];
    snprintf(page, sizeof page, "marrs_dist-%s", command->name);
    put_title(page, "1", out);
    put_text(command->help, out);
    put_usage(command->usage, out);
    fputs(".SH DESCRIPTION\n", out);
    snprintf(text, sizeof text, "%s.", command->help);
    text[0] = (char)toupper((unsigned char)text[0]);
    put_text(text, out);
    for (const char *note = command->notes; note && *note;) {
        fputs(".PP\n", out);
        note = put_text(note, out);
    }
    put_start(command, out);
    for (const struct command_word *w = command->first; w && w->name; w++) {
        put_tag(w->name, NULL, out);
        put_text(w->help, out);
    }
    fputs(".SH OPTIONS\n", out);
    for (const struct command_option *o = command->options; o && o->name; o++) {
        put_tag(o->name, o->value, out);
        command_option_text(o, text, sizeof text);
        put_text(text, out);
    }
    put_tag("--help", NULL, out);
    put_text("what the command does and takes", out);
    fputs(".SH EXIT STATUS\nThat of\n.BR marrs_dist (1).\n", out);
    put_see_also("", out);
}

static const struct {
    const char *code, *text;
} exit_codes[] = {
    {"0", "done"},
    {"1", "training failed: NaN or Inf step after step"},
    {"64", "wrong usage; the nearest option or command is named"},
    {"65", "bad data: a damaged or contradictory input file"},
    {"66", "a missing input"},
    {"70", "an internal error"},
    {"73", "an output cannot be created"},
    {"74", "an error of input or output"},
    {"75", "stopped cleanly; the same command goes on from there"},
    {"78", "a bad configuration; every fault is named with line and column"},
};

static const struct {
    const char *name, *text;
} variables[] = {
    {"MARRS_KEY", "a key of the configuration: MARRS_COTRAIN_STEPS=10 is cotrain.steps=10"},
    {"MARRS_ISA", "base, avx2, avx512 or avx512bf16: the widest instruction set used"},
    {"OMP_NUM_THREADS", "threads of a rank; otherwise the host's cores divided by its ranks"},
    {"CUDA_VISIBLE_DEVICES", "the GPUs that a rank may use"},
    {"NO_COLOR", "no colours on a terminal"},
};

static void put_program(FILE *out) {
    put_title("marrs_dist", "1", out);
    put_text("semi-supervised domain adaptation of image classifiers over MPI ranks", out);
    fputs(".SH SYNOPSIS\n\\fBmarrs_dist\\fR\n.br\n\\fBmpirun\\fR \\-np \\fIN\\fR \\fBmarrs_dist\\fR "
          "\\fICONFIG\\fR "
          "[\\fIkey\\fR=\\fIvalue\\fR ...]\n.br\n\\fBmarrs_dist\\fR \\fICOMMAND\\fR [\\fIargument\\fR ...]\n"
          ".SH DESCRIPTION\n",
          out);
    put_text("Two large networks of different design learn from many labelled images of one kind and one or "
             "three a "
             "class of another, and label the many unlabelled ones for each other; then both teach one small "
             "network. "
             "Each of the two lives on its own group of MPI ranks.",
             out);
    fputs(".PP\n", out);
    put_text("Without arguments the embedded default runs: printed digits to handwritten ones, into "
             "runs/digits of the "
             "current directory, in about a minute.",
             out);
    fputs(".SH COMMANDS\n", out);
    for (const struct command *c = commands; c->name; c++) {
        put_tag(c->name, NULL, out);
        put_text(c->help, out);
    }
    fputs(".SH OPTIONS\n", out);
    put_tag("--help", NULL, out);
    put_text("commands and exit codes; after a command: what it takes", out);
    put_tag("--version", NULL, out);
    put_text("name and version; --version=full: the libraries built against and loaded, too", out);
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof exit_codes / sizeof exit_codes[0]; i++) {
        put_tag(exit_codes[i].code, NULL, out);
        put_text(exit_codes[i].text, out);
    }
    fputs(".SH ENVIRONMENT\n", out);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        put_tag(variables[i].name, NULL, out);
        put_text(variables[i].text, out);
    }
    fputs(".SH FILES\n", out);
    put_tag("PREFIX/share/marrs_dist/configs", NULL, out);
    put_text("configurations to start from; digits.yaml is the default", out);
    put_tag("PREFIX/share/marrs_dist/slurm", NULL, out);
    put_text("job scripts for Slurm, and submit, which fills them in", out);
    put_see_also("marrs_dist", out);
}

/* ---- the configuration: section 5 ------------------------------------------------------------------------
 */

static const char configuration_text[] =
    "A configuration is a YAML file: one document, without anchors, aliases or tags. Above it stand "
    "variables MARRS_KEY "
    "of the environment, and above them key=value of the command line (cotrain.steps=10, peers.0.ranks=2, "
    "peers.swin.ranks=2, stages=[cotrain]). Every fault is told with file, line and column, all of them in "
    "one run, "
    "and nothing is started (exit status 78).\n"
    "Paths of inputs (data.*, weights) that are relative start at the folder of the configuration file; "
    "those of data "
    "at data.folder where it is given; those on the command line or in the environment at the current "
    "directory. run "
    "and features.folder start at the current directory.\n"
    "marrs_dist config CONFIG checks a configuration, marrs_dist config --print CONFIG shows it in force.\n";

static const char *default_text(const struct config_key *key) {
    if (key->required) return "required";
    if (!key->fallback) return "default: the family's";
    return key->fallback[0] ? "default: " : "default: none";
}

static void put_key(const struct config_key *key, FILE *out) {
    char kind[160], line[256];
    config_value_kind(key, kind, sizeof kind);
    put_tag(key->path, NULL, out);
    const char *given = default_text(key);
    snprintf(line, sizeof line, "%s; %s%s.", kind, given, strcmp(given, "default: ") ? "" : key->fallback);
    put_text(line, out);
    fputs(".br\n", out);
    put_text(key->help, out);
}

static void put_configuration(FILE *out) {
    char section[64] = "", now[64], heading[64];
    put_title("marrs_dist-configuration", "5", out);
    put_text("keys of a run's configuration", out);
    fputs(".SH DESCRIPTION\n", out);
    for (const char *text = configuration_text; *text;) {
        if (text != configuration_text) fputs(".PP\n", out);
        text = put_text(text, out);
    }
    fputs(".SH KEYS AT THE TOP\n", out);
    for (int i = 0; i < config_n_keys; i++) {
        const size_t n = strcspn(config_keys[i].path, ".[");
        snprintf(now, sizeof now, "%.*s", config_keys[i].path[n] ? (int)n : 0, config_keys[i].path);
        if (strcmp(now, section) != 0) {
            snprintf(heading, sizeof heading, "%s", now);
            for (char *c = heading; *c; c++) *c = (char)toupper((unsigned char)*c);
            fprintf(out, ".SH %s\n", heading);
            if (config_section_help(now)) put_text(config_section_help(now), out);
            snprintf(section, sizeof section, "%s", now);
        }
        put_key(&config_keys[i], out);
    }
    put_see_also("configuration", out);
}

/* ---- the command ----------------------------------------------------------------------------------------
 */

/* Is `word` this page, as "train", "marrs_dist-train" or "marrs_dist-train.1"? */
static bool is_page(const char *word, const char *name, const char *section) {
    char full[80];
    if (strcmp(word, name) == 0) return true;
    snprintf(full, sizeof full, "%s%s.%s", strcmp(name, "marrs_dist") ? "marrs_dist-" : "", name, section);
    const size_t n = strlen(full) - 2;
    return strcmp(word, full) == 0 || (strlen(word) == n && strncmp(word, full, n) == 0);
}

status_t cmd_manual(struct launch_context *context, int argc, char **argv) {
    (void)context;
    CHECK(argc <= 2, STATUS_USAGE, "manual: one page at a time (marrs_dist manual lists them)");
    if (argc == 1) {
        puts("marrs_dist.1");
        for (const struct command *c = commands; c->name; c++) printf("marrs_dist-%s.1\n", c->name);
        puts("marrs_dist-configuration.5");
        return STATUS_OK;
    }
    struct nearest nearest = nearest_start(argv[1]);
    if (is_page(argv[1], "marrs_dist", "1")) return put_program(stdout), STATUS_OK;
    if (is_page(argv[1], "configuration", "5")) return put_configuration(stdout), STATUS_OK;
    nearest_offer(&nearest, "configuration");
    for (const struct command *c = commands; c->name; c++) {
        if (is_page(argv[1], c->name, "1")) return put_command(c, stdout), STATUS_OK;
        nearest_offer(&nearest, c->name);
    }
    return FAIL(STATUS_USAGE, "manual: no page %s%s%s (marrs_dist manual lists them)", argv[1],
                nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "");
}
