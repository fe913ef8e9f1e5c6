#include "launcher/commands.h"

#include "common/nearest.h"

#include <stddef.h>
#include <string.h>

/* clang-format off */
static const struct command_option predict_options[] = {
    {"--shard", "FILE...", "shards (marrs_dist pack makes them)", NULL},
    {"--images", "DIR", "every .jpg, .jpeg, .png and .webp under a folder", NULL},
    {"--model", "NAME", "student (default), ensemble, or a peer by its name", NULL},
    {"--out", "FILE", "where the answers go; replaced as a whole", NULL},
    {0},
};
static const struct command_option sweep_options[] = {
    {"--list", NULL, "the command line of each run", NULL},
    {"--count", NULL, "how many runs there are", NULL},
    {"--run", "INDEX", "one run, counted from 0: sweep FILE --run $SLURM_ARRAY_TASK_ID", NULL},
    {"--print", "INDEX", "the whole configuration of one run", NULL},
    {0},
};
static const struct command_option watch_options[] = {
    {"--once", NULL, "one picture without escape codes; also where standard output is no terminal", NULL},
    {"--ascii", NULL, "no bars of Unicode blocks, whatever the locale says", NULL},
    {0},
};
static const struct command_option report_options[] = {
    {"--table", NULL, "mean and standard deviation over seeds: a row a variant and model, a column a pair of domains", NULL},
    {"--format", "text|csv|latex", "of the table", NULL},
    {"--split", "unlabelled|unlabelled_without_validation|validation", "which images the accuracies are of", NULL},
    {"--model", "NAME", "only supervised, ensemble, student, or a peer by its name", NULL},
    {0},
};
static const struct command_option plan_options[] = {
    {"--nodes", "N", "hosts that are only imagined; with one of the next two", NULL},
    {"--gpus-per-node", "M", "GPUs of each, one rank a GPU", NULL},
    {"--ranks-per-node", "M", "ranks of each, without GPUs", NULL},
    {"--rates", "FILE", "times from measured or written rates", NULL},
    {"--device", "h100|h100-floor", "times from built-in rates: a goal, or the least the hardware allows; none was measured", NULL},
    {"--html", "FILE", "the plan as one page", NULL},
    {"--hosts", "1,2,4", "numbers of hosts in the scaling table", NULL},
    {"--cores", "N", "cores of a node, instead of the rates'", NULL},
    {"--intra", "US,GB", "latency in us and GB/s between ranks of a node, instead of the rates'", NULL},
    {"--inter", "US,GB", "the same of a node's link to the others", NULL},
    {"--images", "S,L,U,V", "images of the source, labelled, unlabelled and validation lists, where these are not there", NULL},
    {"--classes", "K", "goes with it", NULL},
    {"--calibrate", "FILE", "measure this machine with the configuration's own steps, and the links between the started ranks", NULL},
    {"--links", NULL, "measure only the links, and put them into the FILE of --calibrate", NULL},
    {"--seconds", "T", "of each measurement (default: 0.7)", NULL},
    {0},
};
static const struct command_option doctor_options[] = {
    {"--data", "DIR", "also the folder of the shards: locks, speed of reading", NULL},
    {"--device", "cpu|cuda|auto", "whether runs shall have GPUs (cuda: exit code 66 where they cannot; default: auto)", NULL},
    {"--settings", NULL, "list every variable of Slurm, Open MPI and PMI", NULL},
    {0},
};
static const struct command_option config_options[] = {
    {"--print", NULL, "the configuration in force, every key with its value", NULL},
    {"--markdown", NULL, "all keys as docs/configuration.md has them", NULL},
    {0},
};
static const struct command_option lists_options[] = {
    {"--root", "DIR", "folder that holds the two; what pack calls so too", NULL},
    {"--source", "NAME", "its folder of labelled images: one folder a class in it", NULL},
    {"--target", "NAME", "its folder of images to adapt to: folders of the same names hold those whose class is known", NULL},
    {"--out", "DIR", "where the four lists go", NULL},
    {"--shots", "N", "labelled target images a class (default: 3)", NULL},
    {"--validation", "N", "target images a class for choosing weights (default: 3, or what is there)", NULL},
    {"--seed", "N", "of the draw (default: 1)", NULL},
    {0},
};
static const struct command_option pack_options[] = {
    {"--root", "DIR", "folder that the lists' paths start at", NULL},
    {"--list", "FILE...", "lists, one \"relative/path label\" a line; each image is packed once", NULL},
    {"--out", "PREFIX", "shards are named PREFIX-000.h5, ...", NULL},
    {"--shards", "N", "number of shards (default: one for each 10000 images)", NULL},
    {"--domain", "NAME", "name of the domain (default: the first folder that all paths share, else the end of PREFIX)", NULL},
    {"--raw", "SIDE", "keep pixels of SIDE x SIDE instead of the files as they are", NULL},
    {"--check", "structure|decode", "what is checked of each image: its structure, or decode it whole", NULL},
    {"--threads", "N", "threads a rank (default: its cores)", NULL},
    {"--strict", NULL, "exit with 65 where an image cannot be read", NULL},
    {0},
};
static const struct command_option inspect_options[] = {
    {"--extract", "DIR", "also write the images of shards, as files named by their ids", NULL},
    {0},
};
static const struct command_word bench_words[] = {
    {"ops", "every operation at the sizes the presets use, against what this machine reaches"},
    {"model", "images/s, peak memory, time by kind of operation"},
    {"heads", "a full-batch step of the frozen stage (default: the size of Office-Home)"},
    {"infer", "predictions of a configuration's networks"},
    {"data", "reading, decoding and augmenting images of shards"},
    {"comm", "all-reduce, reduce-scatter, all-gather and the exchange, by size"},
    {"scale", "the same steps of co-training at several numbers of ranks, each a start of its own"},
    {0},
};
static const struct command_option bench_options[] = {
    {"--only", "WORD", "only operations whose name contains WORD", "ops"},
    {"--model", "NAME", "preset, as timm names it", "model"},
    {"--image", "S", "side in pixels (default: what the preset was trained at)", "model"},
    {"--batch", "B", "images at once", "model infer data"},
    {"--train", NULL, "forward, backward and update instead of inference", "model"},
    {"--graph", NULL, "on a GPU: replay the step as a CUDA graph", "model"},
    {"--autotune", NULL, "on a GPU: as cuda.autotune, the fastest of several ways of computing the same", "ops model"},
    {"--recompute", NULL, "keep only the inputs of blocks and compute them again", "model"},
    {"--source", "N", "rows of source features", "heads"},
    {"--labelled", "N", "rows of labelled target features", "heads"},
    {"--unlabelled", "N", "rows of unlabelled target features", "heads"},
    {"--features", "D", "features a row", "heads"},
    {"--classes", "K", "classes", "heads"},
    {"--kept", "PERCENT", "rows that the thresholds keep", "heads"},
    {"--size", "S", "side of the views", "data"},
    {"--seconds", "T", "length of each measurement", "data"},
    {"--min", "BYTES", "smallest message", "comm"},
    {"--max", "BYTES", "largest message", "comm"},
    {"--factor", "F", "from one size to the next", "comm"},
    {"--op", "all_reduce|reduce_scatter|all_gather|exchange", "only this one", "comm"},
    {"--ranks", "LIST", "numbers of ranks: 1,2,4", "scale"},
    {"--weak", NULL, "the batch grows with the ranks", "scale"},
    {"--steps", "N", "steps of each start", "scale"},
    {"--launcher", "COMMAND", "how to start: 'mpirun -np {n}'; {n} and {nodes} are the ranks and hosts", "scale"},
    {"--ranks-per-node", "M", "for {nodes}", "scale"},
    {"--out", "DIR", "folder of the runs, scale.csv and scale.svg", "scale"},
    {"--csv", "FILE", "the table as CSV", "scale"},
    {"--svg", "FILE", "the table as a picture", "scale"},
    {"--precision", "fp32|bf16", "of the arithmetic", "ops model heads infer"},
    {"--device", "cpu|cuda|auto", "where to compute (default: cpu)", "ops model heads infer comm"},
    {"--threads", "N", "threads (default: the cores)", "ops model heads infer data"},
    {"--runs", "N", "timed runs, whose median is shown", "ops model heads infer"},
    {"--cpu-time", NULL, "take the processor's time; with --threads 1, where other work runs", "ops model heads"},
    {"--json", NULL, "one line of JSON for each result", "ops model comm"},
    {0},
};
static const struct command_option export_options[] = {
    {"--onnx", "FILE", "the file to write", NULL},
    {"--weights", "FILE", "a safetensors file instead of a run; with --model", NULL},
    {"--model", "NAME", "preset that the weights are of, as timm names it", NULL},
    {"--image", "S", "another side in pixels than the network was trained at", NULL},
    {0},
};
static const struct command_word completion_words[] = {
    {"bash", "for ~/.local/share/bash-completion/completions/marrs_dist"},
    {"zsh", "for a file _marrs_dist in a folder of $fpath"},
    {0},
};
/* clang-format on */

const struct command commands[] = {
    {.name = "train",
     .usage = "[train] [CONFIG] [key=value ...]",
     .help = "run every stage of CONFIG that is not done yet (default: the digits demo)",
     .operands = "CONFIG KEY",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_train,
     .notes = "A run goes on where its directory stops. SIGUSR1, SIGUSR2, SIGTERM or SIGINT: finish the "
              "step, write a checkpoint, exit with 75. Keys: marrs_dist config --help.\n"},
    {.name = "evaluate",
     .usage = "evaluate RUN",
     .help = "accuracies of a run's models on validation and unlabelled target images",
     .operands = "RUN",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_evaluate},
    {.name = "predict",
     .usage = "predict RUN (--shard FILE... | --images DIR) [--model NAME] --out FILE",
     .help = "answer for images: one row id,label,name,confidence each, as CSV",
     .operands = "RUN",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_predict,
     .options = predict_options},
    {.name = "sweep",
     .usage = "sweep FILE [--list | --count | --run INDEX | --print INDEX] [key=value ...]",
     .help = "one configuration over pairs of domains, seeds and variants of the method",
     .operands = "CONFIG KEY",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_sweep,
     .options = sweep_options,
     .notes = "Without an option: every run that is not done yet, one after the other. key=value goes on "
              "top of all runs.\n"},
    {.name = "report",
     .usage = "report RUN...\n"
              "report --table [--format text|csv|latex] [--split NAME] [--model NAME] RUN...",
     .help = "one HTML page about a run, or a table over many",
     .operands = "RUN",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_report,
     .options = report_options,
     .notes = "Writes RUN/report.html: curves, accuracies, confusion, sample images; one file that needs "
              "nothing else.\n"},
    {.name = "watch",
     .usage = "watch RUN [--once] [--ascii]",
     .help = "a run's progress, curves and slowest rank in the terminal, once a second",
     .operands = "RUN",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_watch,
     .options = watch_options,
     .notes =
         "Reads RUN's files only: it may run on another host, and stop at any time. q or Ctrl-C leaves; the "
         "run goes on.\n"},
    {.name = "plan",
     .usage = "plan [CONFIG] [key=value ...] [--nodes N --gpus-per-node M | --nodes N --ranks-per-node M]\n"
              "                [--rates FILE | --device NAME] [--html FILE]\n"
              "plan [CONFIG] [key=value ...] --calibrate FILE [--links]",
     .help = "placement, memory, time of a step, scaling and cost of a run, before there is a machine",
     .operands = "CONFIG KEY",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_plan,
     .options = plan_options,
     .notes =
         "Under mpirun: the placement on the ranks that were started. With --nodes: on hosts that are "
         "only imagined.\n"
         "Times need rates: measured by --calibrate (nothing else should run meanwhile), written by hand, "
         "or built in.\n"},
    {.name = "doctor",
     .usage = "doctor [--data DIR] [--device NAME] [--settings]",
     .help = "is this place fit to train in? Findings with remedies; also under mpirun and srun",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_doctor,
     .options = doctor_options,
     .notes =
         "Looks at MPI and PMI, versions, cores and threads, /dev/shm, GPUs, interfaces, variables of the "
         "environment, differences between ranks; times an all-reduce, an exchange and each host's link.\n"
         "Exit code: 0 without errors (warnings may be there), 78 with errors, 66 where --device cuda asks "
         "for "
         "GPUs and a host has none, 64 where the start itself is wrong (each rank alone in its world).\n"},
    {.name = "config",
     .usage = "config [--print | --markdown] [CONFIG] [key=value ...]",
     .help = "check a configuration; --print shows it in force; --help lists every key",
     .operands = "CONFIG KEY",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_config,
     .options = config_options},
    {.name = "lists",
     .usage =
         "lists --root DIR --source NAME --target NAME --out DIR [--shots N] [--validation N] [--seed N]",
     .help = "write the lists of two folders of images, for pack and a configuration",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_lists,
     .options = lists_options,
     .notes =
         "The source's folders are the classes, numbered in the order of their names. Of each class of the "
         "target a few images are drawn as labelled and for validation; all others, and those that lie in no "
         "folder of a class, are unlabelled.\n"},
    {.name = "pack",
     .usage = "pack --root DIR --list FILE... --out PREFIX [--shards N] [--domain NAME] [--raw SIDE]\n"
              "                [--check structure|decode] [--threads N] [--strict]",
     .help = "pack images that lists name into shards, in parallel under mpirun",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_pack,
     .options = pack_options},
    {.name = "inspect",
     .usage = "inspect [--extract DIR] FILE...",
     .help = "say what a file of this program holds, and verify it",
     .operands = "FILE",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_inspect,
     .options = inspect_options},
    {.name = "bench",
     .usage =
         "bench ops [--only WORD] [options]\n"
         "bench model --model NAME [--image S] [--batch B] [--train] [--recompute] [options]\n"
         "bench heads [--source N] [--labelled N] [--unlabelled N] [--features D] [--classes K] [options]\n"
         "bench infer [CONFIG] [--batch B] [options]\n"
         "bench data [SHARD...] [--size S] [--batch B] [--threads N] [--seconds T]\n"
         "mpirun -np N marrs_dist bench comm [options]\n"
         "bench scale [CONFIG] [key=value ...] [--ranks 1,2,4] [--launcher COMMAND] [options]",
     .help = "measure: operations, networks, data, communication, scaling",
     .operands = "CONFIG KEY FILE",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_bench,
     .first = bench_words,
     .options = bench_options},
    {.name = "export",
     .usage = "export (RUN [PEER] | --weights FILE --model NAME [--image S]) --onnx FILE",
     .help = "write a trained network as ONNX, for inference elsewhere",
     .operands = "RUN",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_export,
     .options = export_options,
     .notes =
         "RUN is a run's directory; PEER one of its peers (without: the student). The input \"image\" is "
         "(N,3,S,S), RGB in [0,1], normalised with the mean and std that stand in the file's metadata.\n"},
    {.name = "completion",
     .usage = "completion bash|zsh",
     .help = "print what a shell completes commands, options and keys with",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_completion,
     .first = completion_words},
    {.name = "manual",
     .usage = "manual [PAGE]",
     .help = "print a manual page, or their names: marrs_dist manual train | man -l -",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_manual},
    {.name = NULL},
};

const struct command *command_find(const char *name) {
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

const char *command_nearest(const char *name) {
    struct nearest nearest = nearest_start(name);
    for (const struct command *c = commands; c->name; c++) nearest_offer(&nearest, c->name);
    nearest_offer(&nearest, "--help");
    nearest_offer(&nearest, "--version");
    return nearest.best;
}

status_t command_unknown_option(const char *command, const char *word, const char *const *known) {
    struct nearest nearest = nearest_start(word);
    for (; *known; known++) nearest_offer(&nearest, *known);
    return FAIL(STATUS_USAGE, "%s: unknown option %s%s%s (marrs_dist %s --help)", command, word,
                nearest.best ? "; nearest: " : "", nearest.best ? nearest.best : "", command);
}
