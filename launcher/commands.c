#include "launcher/commands.h"

#include "common/nearest.h"

#include <stddef.h>
#include <string.h>

const struct command commands[] = {
    {.name = "train",
     .usage = "[train] [CONFIG] [key=value ...]",
     .help = "run every stage of CONFIG that is not done yet (default: the digits demo)",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_train,
     .options = "A run goes on where its directory stops. SIGUSR1, SIGUSR2, SIGTERM or SIGINT: finish the "
                "step, write a\n"
                "checkpoint, exit with 75. Keys: marrs_dist config --help.\n"},
    {.name = "evaluate",
     .usage = "evaluate RUN",
     .help = "accuracies of a run's models on validation and unlabelled target images",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_evaluate},
    {.name = "predict",
     .usage = "predict RUN (--shard FILE... | --images DIR) [--model NAME] --out CSV",
     .help = "answer for images: one row id,label,name,confidence each",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_predict,
     .options = "  --shard FILE...  shards (marrs_dist pack makes them)\n"
                "  --images DIR     every .jpg, .jpeg, .png and .webp under a folder\n"
                "  --model NAME     student (default), ensemble, or a peer by its name\n"
                "  --out CSV        where the answers go; replaced as a whole\n"},
    {.name = "sweep",
     .usage = "sweep FILE [--list | --count | --run INDEX | --print INDEX] [key=value ...]",
     .help = "one configuration over pairs of domains, seeds and variants of the method",
     .needs_mpi = COMMAND_MPI_ALWAYS,
     .run = cmd_sweep,
     .options = "Without an option: every run that is not done yet, one after the other. key=value goes on "
                "top of all runs.\n"
                "  --list          the command line of each run\n"
                "  --count         how many runs there are\n"
                "  --run INDEX     one run, counted from 0: sweep FILE --run $SLURM_ARRAY_TASK_ID\n"
                "  --print INDEX   the whole configuration of one run\n"},
    {.name = "report",
     .usage = "report RUN...\n"
              "report --table [--format text|csv|latex] [--split NAME] [--model NAME] RUN...",
     .help = "one HTML page about a run, or a table over many",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_report,
     .options = "Writes RUN/report.html: curves, accuracies, confusion, sample images; one file that needs "
                "nothing else.\n"
                "  --table         mean and standard deviation over seeds: a row a variant and model, a "
                "column a pair of domains\n"
                "  --format NAME   text, csv or latex\n"
                "  --split NAME    unlabelled, unlabelled_without_validation or validation\n"
                "  --model NAME    only supervised, ensemble, student, or a peer by its name\n"},
    {.name = "plan",
     .usage = "plan [CONFIG] [key=value ...] [--nodes N --gpus-per-node M | --nodes N --ranks-per-node M]",
     .help = "show which ranks serve which peer",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_plan,
     .options = "Under mpirun: the placement on the ranks that were started. With --nodes: on hosts that are "
                "only imagined.\n"},
    {.name = "doctor",
     .usage = "doctor [--data DIR] [--settings]",
     .help = "is this place fit to train in? Findings with remedies; also under mpirun and srun",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_doctor,
     .options =
         "Looks at MPI and PMI, versions, cores and threads, /dev/shm, GPUs, interfaces, variables of the "
         "environment,\n"
         "differences between ranks; times an all-reduce, an exchange and each host's link.\n"
         "  --data DIR       also the folder of the shards: locks, speed of reading\n"
         "  --settings       list every variable of Slurm, Open MPI and PMI\n"
         "Exit code: 0 without errors (warnings may be there), 78 with errors, 64 where the start itself is "
         "wrong (each\n"
         "rank alone in its world).\n"},
    {.name = "config",
     .usage = "config [--print | --markdown] [CONFIG] [key=value ...]",
     .help = "check a configuration; --print shows it in force; --help lists every key",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_config},
    {.name = "pack",
     .usage = "pack --root DIR --list FILE... --out PREFIX [--shards N] [--domain NAME] [--raw SIDE]\n"
              "                [--check structure|decode] [--threads N] [--strict]",
     .help = "pack images that lists name into shards, in parallel under mpirun",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_pack,
     .options = "  --root DIR      folder that the lists' paths start at\n"
                "  --list FILE...  lists, one \"relative/path label\" a line; each image is packed once\n"
                "  --out PREFIX    shards are named PREFIX-000.h5, ...\n"
                "  --shards N      number of shards (default: one for each 10000 images)\n"
                "  --raw SIDE      keep pixels of SIDE x SIDE instead of the files as they are\n"
                "  --check WHAT    what is checked of each image: structure, or decode it whole\n"
                "  --strict        exit with 65 where an image cannot be read\n"},
    {.name = "inspect",
     .usage = "inspect FILE...",
     .help = "say what a file of this program holds, and verify it",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_inspect},
    {.name = "bench",
     .usage = "bench ops [--only WORD] [options]\n"
              "bench model --model NAME [--image S] [--batch B] [--train] [--recompute] [options]\n"
              "bench heads [--source N] [--labelled N] [--unlabelled N] [--features D] [--classes K] [--kept "
              "PERCENT]\n"
              "bench infer [CONFIG] [--batch B]\n"
              "bench data [SHARD...] [--size S] [--batch B] [--threads N] [--seconds T]\n"
              "mpirun -np N marrs_dist bench comm [options]\n"
              "bench scale [CONFIG] [key=value ...] [--ranks 1,2,4] [--weak] [--steps N] [--launcher "
              "'mpirun -np {n}']\n"
              "            [--ranks-per-node M] [--out DIR] [--csv FILE] [--svg FILE]",
     .help = "measure: operations, networks, data, communication, scaling",
     .options =
         "ops: every operation at the sizes the presets use, against what this machine reaches\n"
         "model: images/s, peak memory, time by kind of operation\n"
         "heads: a full-batch step of the frozen stage (default: the size of Office-Home)\n"
         "scale: the same steps of co-training at several numbers of ranks, each a start of its own; {n} and "
         "{nodes} "
         "in the\n"
         "       launcher are the ranks and hosts; --weak: the batch grows with the ranks; results in --out\n"
         "ops, model, heads, infer: [--precision fp32|bf16] [--threads N] [--runs 5] [--json]\n"
         "ops, model: --cpu-time takes the processor's time; with --threads 1, where other work runs\n",
     .needs_mpi = COMMAND_MPI_WHEN_LAUNCHED,
     .run = cmd_bench},
    {.name = "export",
     .usage = "export (RUN [PEER] | --weights FILE --model NAME [--image S]) --onnx FILE",
     .help = "write a trained network as ONNX, for inference elsewhere",
     .needs_mpi = COMMAND_MPI_NEVER,
     .run = cmd_export,
     .options = "RUN is a run's directory; PEER one of its peers (without: the student). --image S takes "
                "another side than\n"
                "the network was trained at. The input \"image\" is (N,3,S,S), RGB in [0,1], normalised with "
                "the mean and\n"
                "std that stand in the file's metadata.\n"},
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
