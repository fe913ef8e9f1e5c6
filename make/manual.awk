# Pages of docs/ as manual pages, in man(7)'s macros:
#   awk -v page=marrs_dist-shard -v section=5 -v date=2026-01-31 -v version=0.1.0 -f make/manual.awk docs/format-shard.md
# Of Markdown it knows: "# Subject: one line" (the NAME), ## and ### headings, paragraphs, "- " lists, fenced code, tables (first
# column: what is told about), `code`, **strong**, *emphasis*, [text](link).

function escape(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    return text
}

# Replace each pair of `mark` around text by fonts; code is taken as it stands.
function fonts(text, out, at, end, link) {
    out = ""
    while (match(text, /`[^`]*`|\*\*[^*]+\*\*|\*[^* ][^*]*\*|\[[^]]*\]\([^)]*\)/)) {
        out = out plain(substr(text, 1, RSTART - 1))
        at = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        if (at ~ /^`/) {
            out = out "\\fB" escape(substr(at, 2, length(at) - 2)) "\\fR"
        } else if (at ~ /^\*\*/) {
            out = out "\\fB" plain(substr(at, 3, length(at) - 4)) "\\fR"
        } else if (at ~ /^\*/) {
            out = out "\\fI" plain(substr(at, 2, length(at) - 2)) "\\fR"
        } else {
            end = index(at, "](")
            link = substr(at, end + 2, length(at) - end - 2)
            out = out plain(substr(at, 2, end - 2))
            if (link ~ /^format-.*\.md$/)
                out = out " (\\fBmarrs_dist\\-" substr(link, 8, length(link) - 10) "\\fR(5))"
            else if (link !~ /^#/)
                out = out " (\\fIdocs/" escape(link) "\\fR)"
        }
    }
    return out plain(text)
}

function plain(text) {
    gsub(/\\/, "\\e", text)
    return text
}

# A paragraph's lines, filled to 78 columns; a dot or an apostrophe at the start of a line would be a request.
function put(text, n, words, i, line) {
    n = split(text, words, /[ \t]+/)
    line = ""
    for (i = 1; i <= n; i++) {
        if (words[i] == "") continue
        if (line != "" && length(line) + 1 + length(words[i]) > 78) {
            print line
            line = ""
        }
        if (line == "" && words[i] ~ /^[.']/) line = "\\&" words[i]
        else line = line (line == "" ? "" : " ") words[i]
    }
    if (line != "") print line
}

function flush() {
    if (paragraph != "") {
        if (!fresh && !item) print ".PP"
        put(fonts(paragraph))
        fresh = 0
    }
    paragraph = ""
    item = 0
}

function cell(text) {
    gsub(/^ +| +$/, "", text)
    gsub(/\001/, "|", text)
    return text
}

/^```/ {
    flush()
    if (code) print ".fi\n.RE"
    else print (fresh ? "" : ".PP\n") ".RS 4\n.nf"
    code = !code
    fresh = 0
    next
}
code {
    line = escape($0)
    if (line ~ /^[.']/) line = "\\&" line
    print line
    next
}
/^# / {
    subject = $0
    sub(/^# [^:]*: */, "", subject)
    title = toupper(page)
    print ".\\\" made from " FILENAME " by make/manual.awk"
    print ".TH " escape(title) " " section " " date " \"marrs_dist " version "\" \"marrs_dist manual\""
    print ".SH NAME\n" escape(page) " \\- " plain(subject)
    print ".SH DESCRIPTION"
    fresh = 1
    next
}
/^## / {
    flush()
    print ".SH " toupper(plain(substr($0, 4)))
    fresh = 1
    table = 0
    next
}
/^### / {
    flush()
    print ".SS " plain(substr($0, 5))
    fresh = 1
    next
}
/^\|/ {
    flush()
    if (!table++) next # heads of the columns
    if ($0 ~ /^\|[-| :]*\|$/) next
    line = $0
    gsub(/\\\|/, "\001", line)
    n = split(line, cells, /\|/)
    print ".TP\n" fonts(cell(cells[2]))
    text = ""
    for (i = 3; i < n; i++) text = text (text == "" ? "" : "; ") cell(cells[i])
    put(fonts(text))
    fresh = 0
    next
}
{ table = 0 }
/^- / {
    flush()
    print ".IP \\(bu 2"
    item = 1
    paragraph = substr($0, 3)
    next
}
/^[ \t]*$/ {
    flush()
    next
}
{ paragraph = paragraph (paragraph == "" ? "" : " ") $0 }
END {
    flush()
    print ".SH SEE ALSO\n.BR marrs_dist (1),\n.BR marrs_dist\\-configuration (5)"
}
