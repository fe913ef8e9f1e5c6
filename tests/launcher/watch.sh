#!/usr/bin/env bash
# marrs_dist watch: one picture of a run in every state, in ASCII and UTF-8; unfinished and damaged lines; a run that goes
# back; bytes that would drive a terminal; and, on a pseudo-terminal, new lines, another size, q and Ctrl-C.
# LIMIT 60
set -u
cd "$(dirname "$0")/../.." || exit 2
program=$PWD/build/marrs_dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
fail() { echo "$*"; bad=1; }
run=$work/run
cp -R tests/golden/report/run "$run" && chmod -R u+w "$run"
cp "$run/metrics.jsonl" "$work/all" && head -n "$(wc -l <"$work/all")" "$work/all" >"$run/metrics.jsonl" # whole lines
export COLUMNS=100 LC_ALL=C.UTF-8

look() { # what the picture is; the status must be 0
    "$program" watch "$run" "$@" >"$work/out" 2>"$work/err" || fail "watch $*: status $?, $(cat "$work/err")"
}
shows() { # text...
    local text
    for text in "$@"; do grep -qF -- "$text" "$work/out" || { fail "the picture lacks '$text':"; cat "$work/out"; }; done
}
state() { # fields of state.json
    printf '{%s,"ranks":3,"started_ms":%s000}' "$1" "$(date +%s)" >"$run/state.json"
}

# ---- one picture
look --once
shows 'stages  cotrain (done)  distil (now)' 'cotrain 9/3300' 'loss left                    0.3095  █' 'images/s' \
    'labels kept                  30.0 %' 'peers agree                  50.0 %' 'validation left             61.50 %' \
    'accuracy, cotrained    left 60.00 %  right 57.00 %  ensemble 64.50 %' \
    'slowest rank 0 (<n1>&): +150 % compute against the others' '   0 <n1>&            left                  31.0      9.0' \
    '3 damaged lines of metrics.jsonl left out'
LC_ALL=C grep -q $'[\x01-\x09\x0b-\x1f\x7f]' "$work/out" && fail "escape codes in what is no terminal"
grep -qE '.{101}' "$work/out" && fail "lines of more than 100 characters"
LC_ALL=C look
LC_ALL=C grep -q $'[\x80-\xff]' "$work/out" && fail "characters that the C locale does not have"
shows 'loss left                    0.3095  #'
look --ascii
LC_ALL=C grep -q $'[\x80-\xff]' "$work/out" && fail "--ascii: characters beyond ASCII"
COLUMNS=40 look
grep -qE '.{41}' "$work/out" && fail "lines of more than 40 characters"

# ---- states
state '"state":"running","host":"elsewhere","pid":1'
look && shows 'running on elsewhere, 3 ranks; last line '
state '"state":"stopped","message":"stopped after step 3 of cotrain","ended_ms":'"$(date +%s)000"
look && shows 'stopped ' ' ago: stopped after step 3 of cotrain'
state '"state":"failed","message":"disk \u001b[31mfull","ended_ms":'"$(date +%s)000"
look && shows 'failed ' 'disk ?[31mfull'
printf '{"state":"running","host":"%s","pid":4194000,"ranks":3,"started_ms":1000}' "$(hostname)" >"$run/state.json"
touch -d '2 minutes ago' "$run/metrics.jsonl"
look && shows 'gone: process 4194000 on '
rm "$run/state.json"
look && shows 'silent for 2 min'
echo '{"state":' >"$run/state.json"
look && shows 'silent for 2 min'
rm "$run/state.json"
sed -i 's/"stages_done": *\[/&"distil", /' "$run/results.json"
look && shows 'finished' 'distil (done)'

# ---- a line under way is no damage, and a run that went back is read again
cp "$run/metrics.jsonl" "$work/whole"
printf '{"stage":"cotrain","step":9,"images_per_s":777' >>"$run/metrics.jsonl"
look && shows '3 damaged lines' 'images/s                        105'
mv "$run/metrics.jsonl" "$work/away"
look && shows 'finished'
mkdir "$work/fresh" && cp "$run/config.yaml" "$work/fresh/"
"$program" watch "$work/fresh" >"$work/out" 2>&1 || fail "a run that has not begun: $(cat "$work/out")"
shows 'nothing has run here yet' 'cotrain (now)'

# ---- errors
fails() { # STATUS TEXT argument...
    local status=$1 text=$2 got
    shift 2
    "$program" watch "$@" >"$work/out" 2>&1
    got=$?
    [ $got = "$status" ] || fail "watch $*: status $got, not $status"
    grep -q "$text" "$work/out" || fail "watch $*: lacks '$text': $(cat "$work/out")"
}
fails 66 'no config.yaml' "$work/nothing"
fails 66 'no config.yaml' "$work"
fails 64 'which run'
fails 64 'one run at a time' "$run" "$run"
fails 64 'nearest: --once' "$run" --onec
echo 'peers: [' >"$work/fresh/config.yaml"
fails 78 'config.yaml:' "$work/fresh"

# ---- on a terminal
cp "$work/whole" "$run/metrics.jsonl"
python3 -c 'import pty, termios' 2>/dev/null || exit $((bad ? 1 : 77))
cat >"$work/terminal.py" <<'PY'
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
program, run, whole = sys.argv[1:]


class Watch:
    def __init__(self, rows, columns):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            time.sleep(0.3)  # until the other side has looked at the terminal as it was
            os.execv(program, [program, "watch", run])
        self.seen = b""
        time.sleep(0.1)
        self.before = termios.tcgetattr(self.fd)

    def until(self, words, limit_s=15):
        end, start = time.time() + limit_s, len(self.seen)
        while words not in self.seen[start:]:
            left = end - time.time()
            assert left > 0, f"no {words!r} in {self.seen[start:][-1500:]!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536)
        # from the beginning of the picture that was under way, so that newest() sees whole ones
        return self.seen[max(self.seen.rfind(b"\x1b[H", 0, start), 0):]

    def ends(self, status):
        end = time.time() + 15
        while time.time() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    pass
            pid, got = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                assert os.waitstatus_to_exitcode(got) == status, got
                assert self.seen.rstrip().endswith(b"\x1b[?25h\x1b[?1049l"), self.seen[-80:]
                return
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it does not leave")


def newest(frames):
    """The lines of the last whole picture."""
    return frames.split(b"\x1b[H")[-1].replace(b"\x1b[K", b"").split(b"\r\r\n")


w = Watch(24, 80)
w.until(b"q leaves")
assert w.seen.startswith(b"\x1b[?1049h\x1b[?25l"), w.seen[:40]
assert not termios.tcgetattr(w.fd)[3] & (termios.ICANON | termios.ECHO), "keys wait for the end of a line"
record = {"stage": "cotrain", "step": 9, "time_ms": int(time.time() * 1000), "images_per_s": 4321.0}
with open(f"{run}/metrics.jsonl", "a", encoding="utf-8") as out:
    out.write(json.dumps(record)[:20])
    out.flush()
    time.sleep(1.2)
    out.write(json.dumps(record)[20:] + "\n")
w.until(b" 4321 ")
with open(f"{run}/metrics.jsonl", "wb") as out:  # back to where it was, and on with something else
    out.write(open(whole, "rb").read() + json.dumps(record | {"images_per_s": 1234.0, "more": 1}).encode() + b"\n")
w.until(b" 1234 ")
fcntl.ioctl(w.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 34, 0, 0))
os.kill(w.pid, signal.SIGWINCH)
w.until(b"\x1b[2J\x1b[H")
w.until(b"\x1b[H")
time.sleep(0.2)
lines = newest(w.until(b"\x1b[H").rsplit(b"\x1b[H", 1)[0])
assert len(lines) <= 9, lines
assert all(len(line.decode().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[32m", "")) <= 34 for line in lines), lines
os.write(w.fd, b"xq")
w.ends(0)
assert termios.tcgetattr(w.fd)[3] == w.before[3], "the terminal is not as it was"

for how in ("ctrl-c", signal.SIGTERM):
    w = Watch(24, 80)
    w.until(b"q leaves")
    os.write(w.fd, b"\x03") if how == "ctrl-c" else os.kill(w.pid, how)
    w.ends(0)
    assert termios.tcgetattr(w.fd)[3] == w.before[3], "the terminal is not as it was"
PY
python3 "$work/terminal.py" "$program" "$run" "$work/whole" >"$work/out" 2>&1 || fail "on a terminal: $(tail -n 3 "$work/out" | cut -c 1-1600)"
exit $bad
