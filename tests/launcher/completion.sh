#!/usr/bin/env bash
# What bash and zsh complete: commands, options, their words, files, keys of a configuration and their words; every
# option of every command and every key are there. zsh's part is left out where there is no zsh.
# LIMIT 300
set -u
cd "$(dirname "$0")/../.." || exit 2
program=$PWD/build/marrs_dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
cd "$work" || exit 2
mkdir -p folder runs/one
touch own.yaml folder/other.yaml list.txt
"$program" completion bash >bash.sh || exit 1
"$program" completion zsh >_marrs_dist || exit 1
bash -n bash.sh || bad=1
command -v shellcheck >/dev/null && { shellcheck -s bash bash.sh || bad=1; }

cat >complete.sh <<'END'
# Complete the line $1 as bash does when Tab is pressed at its end; one candidate a line.
. ./bash.sh
compopt() { :; } # only within a real completion
COMP_LINE=$1 COMP_POINT=${#1}
_marrs_dist
printf '%s\n' "${COMPREPLY[@]}"
END

expect() { # line, words that must be among the candidates; those after "not" must not be
    local line=$1 word not=""
    shift
    timeout 20 bash complete.sh "$line" >out 2>err
    [ -s err ] && { echo "bash: '$line': $(cat err)"; bad=1; }
    for word; do
        if [ "$word" = not ]; then
            not=yes
        elif { [ -z "$not" ] && ! grep -qxF -e "$word" out; } || { [ -n "$not" ] && grep -qxF -e "$word" out; }; then
            echo "bash: '$line' completes to: $(tr '\n' ' ' <out); ${not:-wanted} $word"
            bad=1
        fi
    done
}

expect 'marrs_dist ' train predict own.yaml folder not list.txt
expect 'marrs_dist tr' train not predict
expect 'marrs_dist --v' --version
expect 'marrs_dist own.yaml cot' cotrain.
expect 'marrs_dist train own.yaml cotrain.' cotrain.steps= cotrain.warmup. not cotrain.
expect 'marrs_dist train own.yaml peers.1.co' peers.1.coral=
expect 'marrs_dist train own.yaml peers.1.coral=' none deep closed
expect 'marrs_dist train own.yaml device=cu' cuda not auto
expect 'marrs_dist report --' --table --format not --shard
expect 'marrs_dist report --format ' text csv latex not list.txt
expect 'marrs_dist report --format=c' csv not text
expect 'marrs_dist report ' runs folder not list.txt
expect 'marrs_dist pack --list ' list.txt
expect 'marrs_dist pack --list list.txt l' list.txt
expect 'marrs_dist pack --root ' folder not list.txt
expect 'marrs_dist bench ' ops model scale
expect 'marrs_dist bench scale --' --ranks not --only
expect 'marrs_dist bench ops --precision ' fp32 bf16
expect 'marrs_dist inspect li' list.txt

# Every command, option and key.
commands=$("$program" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 12 ] || { echo "only these commands: $commands"; bad=1; }
for command in $commands; do
    expect 'marrs_dist ' "$command"
    options=$("$program" "$command" --help | sed -n '1,/^Keys/s/^  \(--[a-z-]*\).*/\1/p')
    # shellcheck disable=SC2086 # a list of words
    [ "$command" = bench ] || expect "marrs_dist $command --" $options
    for option in --help $options; do
        grep -qF -e "'${option}[" <(sed -n "/^    $command)/,/;;/p" _marrs_dist) ||
            { echo "zsh: $command has no $option"; bad=1; }
    done
done
# shellcheck disable=SC2016 # backquotes of Markdown
"$program" config --markdown | sed -n 's/^| `\([a-z_.0-9[]*\]*[a-z_.0-9]*\)` .*/\1/p' | sed 's/\[\]/.0/' >keys
[ "$(wc -l <keys)" -gt 150 ] || { echo "only $(wc -l <keys) keys"; bad=1; }
for file in bash.sh _marrs_dist; do
    missing=$(sed -n "/^_marrs_dist_keys=/,/^'/p" $file | grep -vxFf - keys)
    [ -z "$missing" ] || { echo "$file lacks keys: $missing"; bad=1; }
done

if ! command -v zsh >/dev/null; then
    [ $bad -eq 0 ] || exit 1
    echo "bash's part passed; no zsh here"
    exit 77
fi
zsh -n _marrs_dist || bad=1

# A zsh on a terminal of its own: type $1 and Tab, and wait until all of the other words are to be seen, 30 s at most.
cat >complete.zsh <<'END'
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1="" RPS1="" TERM=dumb; unsetopt zle_bracketed_paste menu_complete auto_menu; stty rows 200 cols 150'
zpty -w z 'fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; bindkey "^I" complete-word; echo READY=1'
local text all='' word
zpty -r -m z text '*READY=1*READY=1*' # as typed, and as said
zpty -n -w z "$1"
integer round missing=1
for ((round = 0; round < 300 && missing; round++)); do
    ((round % 20)) || zpty -n -w z $'\t' # the first may come before the terminal listens
    sleep 0.1
    while zpty -r -t z text; do all+=$text; done
    missing=0
    for word in "${@:2}"; do [[ $all == *$word* ]] || missing=1; done
done
zpty -d z
print -r -- "$all"
END
zsh_expect() { # line, words that the terminal must show
    local line=$1 word
    shift
    timeout 60 zsh -f complete.zsh "$line" "$@" 2>&1 | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' | tr -d '\r\a' >out
    for word; do
        grep -qF -e "$word" out || { echo "zsh: '$line' shows no $word:"; cat out; bad=1; }
    done
}
zsh_expect 'marrs_dist pred' 'marrs_dist predict'
zsh_expect 'marrs_dist ' 'run every stage' own.yaml
zsh_expect 'marrs_dist report --form' 'report --format'
zsh_expect 'marrs_dist report --format ' text latex
zsh_expect 'marrs_dist own.yaml cotrain.ste' 'cotrain.steps='
zsh_expect 'marrs_dist train own.yaml peers.0.coral=' deep closed
zsh_expect 'marrs_dist bench ' 'images/s, peak memory' scale
exit $bad
