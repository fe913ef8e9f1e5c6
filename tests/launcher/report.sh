#!/usr/bin/env bash
# marrs_dist report: the page of a small run with damaged lines and awkward names is valid HTML that fetches nothing.
# LIMIT 60
set -u
cd "$(dirname "$0")/../.." || exit 2
program=$PWD/build/marrs_dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
fail() { echo "$*"; bad=1; }

cat >"$work/check.py" <<'PY'
import sys
from html.parser import HTMLParser
VOID = {"meta", "br", "img", "hr", "link", "input"}
class Check(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.bad, self.text, self.tags = [], [], [], {}
    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith("data:"): self.bad.append(f"fetches {value}")
            if name.startswith("on"): self.bad.append(f"script in {name}")
        if tag not in VOID: self.stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
    def handle_endtag(self, tag):
        if tag in VOID: return
        if not self.stack or self.stack[-1] != tag: self.bad.append(f"</{tag}> closes {self.stack[-3:]} at {self.getpos()}")
        else: self.stack.pop()
    def handle_data(self, data): self.text.append(data)
page = open(sys.argv[1], encoding="utf-8").read()
check = Check()
check.feed(page)
check.close()
if check.stack: check.bad.append(f"left open: {check.stack}")
if "script" in check.tags: check.bad.append("there is a script")
for word in ("nan", "inf", "-nan"):
    if f"{word} " in page.split("</style>")[1].lower().replace("nan or inf", ""): check.bad.append(f"{word} among the numbers")
text = "".join(check.text)
for words in sys.argv[2:]:
    if words not in text: check.bad.append(f"lacks '{words}'")
print("\n".join(check.bad))
sys.exit(bool(check.bad))
PY

cp -R tests/golden/report/run "$work/a<b>&c"
chmod -R u+w "$work"
"$program" report "$work/a<b>&c" >"$work/out" 2>&1 || fail "report failed: $(cat "$work/out")"
page="$work/a<b>&c/report.html"
[ -s "$page" ] || { fail 'no page'; exit 1; }
if python3 -c 'import html.parser' 2>/dev/null; then
    python3 "$work/check.py" "$page" 'a<b>&c' '<b>mug</b>' 'pen & "ink"' 'étagère' 'labeled_source_images_A&B.txt' \
        'Not run yet: distil' '4 damaged lines' '64.50' '+11.50' '59.50' 'cotrain, left: 1 step, at 4' 'Loss of right' \
        'Validation accuracy' 'Throughput' 'Waits of a step' 'Left out: ' 'Peers together' '</pre><script>' \
        '0<n1>&left20.54.82.50.050' ||
        fail 'the page is not what it should be'
else
    bad=77
fi

# Without results, without metrics, without both.
rm "$work/a<b>&c/results.json"
"$program" report "$work/a<b>&c" >"$work/out" 2>&1 || fail "without results.json: $(cat "$work/out")"
grep -q 'no readable results.json' "$page" || fail 'a missing results.json is not told'
cp tests/golden/report/run/results.json "$work/a<b>&c/" && rm "$work/a<b>&c/metrics.jsonl"
"$program" report "$work/a<b>&c" >"$work/out" 2>&1 || fail "without metrics.jsonl: $(cat "$work/out")"
grep -q 'Not run yet: cotrain, distil' "$page" || fail 'missing metrics are not told'
rm "$work/a<b>&c/results.json"
"$program" report "$work/a<b>&c" >"$work/out" 2>&1
[ $? -eq 66 ] || fail "an empty run: $(cat "$work/out")"
"$program" report "$work" >"$work/out" 2>&1
[ $? -eq 66 ] || fail "no run: $(cat "$work/out")"
"$program" report >"$work/out" 2>&1
[ $? -eq 64 ] || fail "no argument: $(cat "$work/out")"
exit $bad
