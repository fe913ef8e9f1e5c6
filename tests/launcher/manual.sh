#!/usr/bin/env bash
# Help and manual pages tell what the program takes: each command has the options that its source reads and no others,
# each command a page, each key of the configuration its entry; mandoc and man find nothing wrong with the pages.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
program=build/marrs_dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
fault() {
    echo "$*"
    bad=1
}
option_lines() { "$program" "$1" --help | sed -n '1,/^Keys/s/^  \(--[a-z-]*\)\(.*\)/\1 \2/p'; }

commands=$("$program" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 12 ] || fault "only these commands: $commands"
for command in $commands; do
    # What the source reads: "--name" as a literal of its own in cmd_COMMAND.c and the files that go with it.
    grep -hoE '"--[a-z][a-z-]*"' launcher/cmd_"$command"*.c | tr -d '"' | grep -vx -e --help -e --version | sort -u >"$work/read"
    option_lines "$command" | cut -d' ' -f1 | sort -u >"$work/told"
    cmp -s "$work/read" "$work/told" ||
        fault "$command: options in launcher/cmd_$command*.c and in launcher/commands.c differ (< read, > told):" \
            "$(diff "$work/read" "$work/told" | grep '^[<>]')"
done
for file in launcher/cmd_bench_*.c; do # options of one measurement: its name stands in the brackets
    what=${file#launcher/cmd_bench_} what=${what%.c}
    grep -hoE '"--[a-z][a-z-]*"' "$file" | tr -d '"' | sort -u >"$work/read"
    "$program" bench --help | tr '\n' '\r' | sed -E 's/\r {3,}/ /g' | tr '\r' '\n' | # a row on one line
        grep -E "^  --.*\((.*, )?$what(, .*)?\)$" | sed 's/^  \(--[a-z-]*\).*/\1/' | sort -u >"$work/told"
    cmp -s "$work/read" "$work/told" || fault "bench $what: $(diff "$work/read" "$work/told" | grep '^[<>]')"
done

mkdir "$work/man"
for page in $("$program" manual); do
    "$program" manual "$page" >"$work/man/$page" || fault "no page $page"
done
for command in $commands; do
    page=$work/man/marrs_dist-$command.1
    [ -s "$page" ] || fault "$command has no page"
    grep -q "^.\\\\fB$command\\\\fR\$\|^.BR marrs_dist.-$command (1)" "$work/man/marrs_dist.1" || fault "marrs_dist(1) lacks $command"
    for option in $(option_lines "$command" | cut -d' ' -f1); do
        grep -qF -e "fB${option//-/\\-}\\fR" "$page" || fault "$command(1) lacks $option"
    done
done
# shellcheck disable=SC2016 # backquotes of Markdown
for key in $("$program" config --markdown | sed -n 's/^| `\([^`]*\)`.*/\1/p'); do
    grep -qF -e "fB$key\\fR" "$work/man/marrs_dist-configuration.5" || fault "configuration(5) lacks $key"
done
"$program" manual trian >"$work/out" 2>&1
grep -q 'nearest: train' "$work/out" || fault "manual trian: $(cat "$work/out")"

# Those of docs/ too, made as make install makes them.
make --no-print-directory DEPS=no MAN="$work/made" manual >"$work/out" 2>&1 || fault "make manual: $(cat "$work/out")"
for page in marrs_dist.1 marrs_dist-train.1 marrs_dist-configuration.5 marrs_dist-shard.5 marrs_dist-features.5 \
    marrs_dist-checkpoint.5 marrs_dist-tutorial.7; do
    [ -s "$work/made/$page" ] || fault "make manual makes no $page"
done
for page in "$work"/made/*; do
    if command -v mandoc >/dev/null; then
        mandoc -Tlint -W warning "$page" >"$work/out" || fault "$(cat "$work/out")"
    fi
    if command -v lexgrog >/dev/null; then
        lexgrog "$page" >"$work/out" 2>&1 || fault "lexgrog: $(cat "$work/out")"
        MANWIDTH=80 LC_ALL=C.UTF-8 man --warnings -l -E UTF-8 "$page" 2>"$work/out" >/dev/null
        [ -s "$work/out" ] && fault "man: $page: $(cat "$work/out")"
    fi
done
exit $bad
