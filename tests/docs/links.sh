#!/usr/bin/env bash
# Pages for readers: what they link to is there (files, and headings within pages), every table's rows have the columns of
# its head, README.md leads to every page of docs/.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
fault() {
    echo "$*"
    bad=1
}
# Headings as anchors: lower case, punctuation dropped, blanks as hyphens.
anchors() { sed -n 's/^#\{1,6\} //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'; }

n=0
for page in *.md docs/*.md slurm/*.md data/*/*.md; do
    # shellcheck disable=SC2016 # backquotes of Markdown
    links=$(awk '/^ *```/ { code = !code; next } !code' "$page" | sed 's/`[^`]*`//g' | grep -oE '\]\([^)]+\)' | sed 's/^](//; s/)$//')
    for link in $links; do
        case $link in *://* | mailto:*) continue ;; esac
        n=$((n + 1))
        file=${link%%#*}
        [ -n "$file" ] && file=$(dirname "$page")/$file || file=$page
        [ -e "$file" ] || { fault "$page links to $link, which is not there"; continue; }
        case $link in
        *'#'*) anchors "$file" | grep -qxF -e "${link#*#}" || fault "$page links to $link: no such heading" ;;
        esac
    done
    awk -v page="$page" '
        /^ *```/ { code = !code }
        !code && /^\|/ {
            line = $0
            gsub(/\\\|/, "", line)
            gsub(/`[^`]*`/, "", line)
            columns = gsub(/\|/, "", line)
            if (!head) head = columns
            if (columns != head) { print page ":" FNR ": " columns - 1 " columns, its head has " head - 1; bad = 1 }
            next
        }
        { head = 0 }
        END { exit bad }' "$page" || bad=1
done
[ "$n" -ge 30 ] || fault "only $n links found"
for page in docs/*.md; do
    grep -qF "($page)" README.md || fault "README.md does not lead to $page"
done
exit $bad
