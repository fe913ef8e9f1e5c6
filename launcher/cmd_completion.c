/* marrs_dist completion bash|zsh: what a shell needs to complete commands, options, and keys of a
 * configuration, from the tables of commands and keys. */
#include "launcher/command_help.h"
#include "launcher/commands.h"
#include "launcher/config_schema.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PEERS_OFFERED = 2 };

/* What may stand for an option's value or an operand. */
enum kind { KIND_NONE, KIND_WORDS, KIND_FILE, KIND_FOLDER };

static enum kind kind_of(const char *value) {
    if (strchr(value, '|')) return KIND_WORDS;
    if (strncmp(value, "FILE", 4) == 0 || strncmp(value, "PREFIX", 6) == 0) return KIND_FILE;
    return strcmp(value, "DIR") == 0 ? KIND_FOLDER : KIND_NONE;
}

static bool takes_many(const struct command_option *option) {
    return option->value && strlen(option->value) > 3 &&
           strcmp(option->value + strlen(option->value) - 3, "...") == 0;
}

static bool has_operand(const struct command *command, const char *what) {
    return command->operands && strstr(command->operands, what);
}

/* "a|b" as "a b". */
static void put_words(const char *words, FILE *out) {
    for (; *words; words++) fputc(*words == '|' ? ' ' : *words, out);
}

/* The words that a key's value may be, or NULL. */
static const char *value_words(const struct config_key *key) {
    if (key->type == CONFIG_BOOL) return "true|false";
    return key->type == CONFIG_WORD ? key->words : NULL;
}

/* One line a key: as it stands on a command line, a peer's key once for each peer offered; `each` gets the
 * name. */
static void each_key(void (*each)(const char *name, const struct config_key *key, FILE *out), FILE *out) {
    char name[256];
    for (int i = 0; i < config_n_keys; i++) {
        const char *rest = config_keys[i].path + 8;
        if (strncmp(config_keys[i].path, "peers[].", 8) != 0) {
            each(config_keys[i].path, &config_keys[i], out);
            continue;
        }
        for (int p = 0; p < MAX_PEERS_OFFERED; p++) {
            snprintf(name, sizeof name, "peers.%d.%s", p, rest);
            each(name, &config_keys[i], out);
        }
    }
}

static void put_key(const char *name, const struct config_key *key, FILE *out) {
    (void)key;
    fprintf(out, "%s\n", name);
}

static void put_case(const char *name, const struct config_key *key, FILE *out) {
    const char *words = value_words(key);
    if (!words) return;
    fprintf(out, "    %s) _marrs_dist_values='", name);
    put_words(words, out);
    fputs("' ;;\n", out);
}

/* What both shells share: the keys, and the words that their values may be. */
static void print_keys(FILE *out) {
    fputs("_marrs_dist_keys='\n", out);
    each_key(put_key, out);
    fputs("'\n\n# The words that the value of key $1 may be, in _marrs_dist_values.\n"
          "_marrs_dist_values_of() {\n    _marrs_dist_values=''\n    case $1 in\n",
          out);
    each_key(put_case, out);
    fputs("    esac\n}\n\n", out);
}

/* ---- bash ---------------------------------------------------------------------------------------------- */

static void bash_options(const struct command *command, const char *first, FILE *out) {
    fputs("options='--help", out);
    for (const struct command_option *o = command->options; o && o->name; o++)
        if (command_option_is_of(o, first)) fprintf(out, " %s", o->name);
    fputs("'", out);
}

/* One branch a command: its options, its first words and the kinds of its operands. */
static void bash_command(const struct command *command, FILE *out) {
    fprintf(out, "    %s)\n        ", command->name);
    bash_options(command, NULL, out);
    if (command->operands) fprintf(out, " operands='%s'", command->operands);
    fputc('\n', out);
    if (!command->first) {
        fputs("        ;;\n", out);
        return;
    }
    fputs("        case ${words[2]:-} in\n", out);
    for (const struct command_word *w = command->first; w->name; w++) {
        fprintf(out, "        %s) ", w->name);
        bash_options(command, w->name, out);
        fputs(" ;;\n", out);
    }
    fputs("        *) first='", out);
    for (const struct command_word *w = command->first; w->name; w++) fprintf(out, "%s ", w->name);
    fputs("' ;;\n        esac\n        ;;\n", out);
}

/* One line an option with a value: what may stand there. */
static void bash_values(const struct command *command, FILE *out) {
    for (const struct command_option *o = command->options; o && o->name; o++) {
        if (!o->value) continue;
        const enum kind kind = kind_of(o->value);
        fprintf(out, "    '%s %s') kind='%s'", command->name, o->name,
                kind == KIND_WORDS    ? "words"
                : kind == KIND_FILE   ? "file"
                : kind == KIND_FOLDER ? "folder"
                                      : "none");
        if (kind == KIND_WORDS) {
            fputs(" values='", out);
            put_words(o->value, out);
            fputc('\'', out);
        }
        fprintf(out, "%s ;;\n", takes_many(o) ? " many=yes" : "");
    }
}

static const char bash_start[] =
    "# What is typed is taken from the line itself: bash breaks words at '=' too.\n"
    "_marrs_dist() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} current words command option='' i key\n"
    "    local options='' operands='' first='' kind='' values='' many='' _marrs_dist_values=''\n"
    "    current=${line##*[[:space:]]}\n"
    "    read -ra words <<<\"${line%\"$current\"}\"\n"
    "    COMPREPLY=()\n";

static const char bash_middle[] =
    "    # The option whose value this is.\n"
    "    for ((i = ${#words[@]} - 1; i > 1; i--)); do\n"
    "        [[ ${words[i]} == --* ]] && option=${words[i]} && break\n"
    "    done\n"
    "    if [[ $current == --*=* ]]; then\n"
    "        option=${current%%=*} current=${current#*=} i=$((${#words[@]} - 1))\n"
    "    fi\n"
    "    case \"$command $option\" in\n";

static const char bash_end[] =
    "    esac\n"
    "    [[ -z $many && $i -ne $((${#words[@]} - 1)) ]] && kind=''\n"
    "    if [[ $current == -* && $kind != words ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n"
    "        return\n"
    "    fi\n"
    "    case $kind in\n"
    "    words) COMPREPLY=($(compgen -W \"$values\" -- \"$current\")) && return ;;\n"
    "    file | folder)\n"
    "        compopt -o filenames\n"
    "        local IFS=$'\\n'\n"
    "        COMPREPLY=($(compgen \"-${kind:0:1}\" -- \"$current\"))\n"
    "        [[ $kind == folder ]] && COMPREPLY=($(compgen -d -- \"$current\"))\n"
    "        return\n"
    "        ;;\n"
    "    none) return ;;\n"
    "    esac\n"
    "    if [[ -n $first ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$first\" -- \"$current\"))\n"
    "        return\n"
    "    fi\n"
    "    if [[ $operands == *KEY* && $current == *=* ]]; then\n"
    "        _marrs_dist_values_of \"${current%%=*}\"\n"
    "        COMPREPLY=($(compgen -W \"$_marrs_dist_values\" -- \"${current#*=}\"))\n"
    "        [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=(\"${COMPREPLY[@]/#/${current%%=*}=}\")\n"
    "        return\n"
    "    fi\n"
    "    # Keys one level at a time, as folders are.\n"
    "    if [[ $operands == *KEY* && -n $current ]]; then\n"
    "        for key in $_marrs_dist_keys; do\n"
    "            [[ $key == \"$current\"* ]] || continue\n"
    "            key=${key#\"$current\"}\n"
    "            if [[ $key == *.* ]]; then key=${key%%.*}.; else key=$key=; fi\n"
    "            [[ \" ${COMPREPLY[*]} \" == *\" $current$key \"* ]] || COMPREPLY+=(\"$current$key\")\n"
    "        done\n"
    "    fi\n"
    "    if [[ ${#COMPREPLY[@]} -gt 0 ]]; then\n"
    "        compopt -o nospace\n"
    "        return\n"
    "    fi\n"
    "    compopt -o filenames\n"
    "    local IFS=$'\\n'\n"
    "    case $operands in\n"
    "    *FILE*) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n"
    "    *CONFIG*) COMPREPLY=($(compgen -f -X '!*.y*ml' -- \"$current\") $(compgen -d -- \"$current\")) ;;\n"
    "    *RUN*) COMPREPLY=($(compgen -d -- \"$current\")) ;;\n"
    "    esac\n"
    "    IFS=$' \\t\\n'\n"
    "    if [[ ${#words[@]} -eq 1 ]]; then\n"
    "        COMPREPLY+=($(compgen -W \"$_marrs_dist_commands\" -- \"$current\"))\n"
    "    fi\n"
    "}\n"
    "complete -F _marrs_dist marrs_dist\n";

static void print_bash(FILE *out) {
    fputs("# bash completion for marrs_dist " MARRS_VERSION ", made by: marrs_dist completion bash\n"
          "# shellcheck disable=SC2207 # lists of words without blanks\n\n",
          out);
    print_keys(out);
    fputs("_marrs_dist_commands='", out);
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "%s%s", c == commands ? "" : " ", c->name);
    fputs("'\n\n", out);
    fputs(bash_start, out);
    fputs("    command=${words[1]:-}\n"
          "    [[ \" $_marrs_dist_commands \" == *\" $command \"* ]] || command=train\n"
          "    case $command in\n",
          out);
    for (const struct command *c = commands; c->name; c++) bash_command(c, out);
    fputs("    esac\n"
          "    [[ ${#words[@]} -eq 1 ]] && options='--help --version --version=full'\n",
          out);
    fputs(bash_middle, out);
    for (const struct command *c = commands; c->name; c++) bash_values(c, out);
    fputs(bash_end, out);
}

/* ---- zsh ----------------------------------------------------------------------------------------------- */

/* Within '...' of an _arguments or _describe specification. */
static void zsh_text(const char *text, FILE *out) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (strchr("[]:\\", *text))
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

static void zsh_option(const struct command_option *o, FILE *out) {
    fprintf(out, "        '%s[", o->name);
    zsh_text(o->help, out);
    fputc(']', out);
    if (o->value) {
        const enum kind kind = kind_of(o->value);
        fputs(takes_many(o) ? ":*-*:" : ":", out);
        zsh_text(kind == KIND_WORDS ? "word" : o->value, out);
        fputc(':', out);
        if (kind == KIND_WORDS) {
            fputc('(', out);
            put_words(o->value, out);
            fputc(')', out);
        }
        fputs(kind == KIND_FILE ? "_files" : kind == KIND_FOLDER ? "_files -/" : "", out);
    }
    fputs("' \\\n", out);
}

static void zsh_command(const struct command *command, FILE *out) {
    fprintf(out, "    %s)\n        _arguments '--help[what it does and takes]' \\\n", command->name);
    for (const struct command_option *o = command->options; o && o->name; o++) zsh_option(o, out);
    if (command->first) {
        fputs("        '1:what:((", out);
        for (const struct command_word *w = command->first; w->name; w++) {
            fprintf(out, "%s\\:\"", w->name);
            zsh_text(w->help, out);
            fputs("\" ", out);
        }
        fputs("))' \\\n", out);
    }
    if (has_operand(command, "KEY"))
        fputs("        '*:configuration:_marrs_dist_config'\n", out);
    else if (has_operand(command, "RUN"))
        fputs("        '*:run:_files -/'\n", out);
    else
        fputs("        '*:file:_files'\n", out);
    fputs("        ;;\n", out);
}

static const char zsh_start[] = "# A configuration file, keys, and words for the value of a key.\n"
                                "_marrs_dist_config() {\n"
                                "    local _marrs_dist_values\n"
                                "    if [[ $PREFIX == *=* ]]; then\n"
                                "        _marrs_dist_values_of ${PREFIX%%=*}\n"
                                "        compset -P '*='\n"
                                "        compadd -- ${=_marrs_dist_values}\n"
                                "        return\n"
                                "    fi\n"
                                "    _files -g '*.y(a|)ml'\n"
                                "    [[ -n $PREFIX ]] && compadd -S '=' -- ${=_marrs_dist_keys}\n"
                                "}\n\n";

static void print_zsh(FILE *out) {
    fputs("#compdef marrs_dist\n"
          "# zsh completion for marrs_dist " MARRS_VERSION ", made by: marrs_dist completion zsh\n\n",
          out);
    print_keys(out);
    fputs(zsh_start, out);
    fputs("_marrs_dist() {\n    local -a commands=(\n", out);
    for (const struct command *c = commands; c->name; c++) {
        fprintf(out, "        '%s:", c->name);
        zsh_text(c->help, out);
        fputs("'\n", out);
    }
    fputs("    )\n"
          "    if (( CURRENT == 2 )); then\n"
          "        _describe command commands\n"
          "        [[ $PREFIX == -* ]] && compadd -- --help --version --version=full\n"
          "        _marrs_dist_config\n"
          "        return\n"
          "    fi\n"
          "    local command=$words[2]\n"
          "    if (( ${commands[(I)$command:*]} )); then\n"
          "        shift words\n"
          "        (( CURRENT-- ))\n"
          "    else\n"
          "        command=train\n"
          "    fi\n"
          "    case $command in\n",
          out);
    for (const struct command *c = commands; c->name; c++) zsh_command(c, out);
    fputs("    esac\n}\n\n"
          "if [[ $funcstack[1] == _marrs_dist ]]; then _marrs_dist \"$@\"; else compdef _marrs_dist "
          "marrs_dist; fi\n",
          out);
}

status_t cmd_completion(struct launch_context *context, int argc, char **argv) {
    (void)context;
    const char *shell = argc > 1 ? argv[1] : "";
    const bool bash = strcmp(shell, "bash") == 0, zsh = strcmp(shell, "zsh") == 0;
    CHECK(argc == 2 && (bash || zsh), STATUS_USAGE,
          "completion: for which shell? (marrs_dist completion bash|zsh)");
    (bash ? print_bash : print_zsh)(stdout);
    return STATUS_OK;
}
