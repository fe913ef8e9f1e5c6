#!/usr/bin/env bash
# Installation as users and packagers do it: make install (staged, moved, run from another folder as another user, removed
# again), make dist twice (the same bytes) and a build from the archive, make deb and lintian, the package in a fresh
# Debian. What this machine lacks (debhelper, lintian, debootstrap, root, a mirror) is left out and said.
# LIMIT 3600
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
unset MPIEXEC_TIMEOUT OMP_NUM_THREADS OMP_WAIT_POLICY MAKEFLAGS MAKELEVEL
work=$(mktemp -d)
# shellcheck disable=SC2317 # called by the trap
clean() {
    [ -d "$work/debian/proc/self" ] && umount "$work/debian/proc"
    rm -rf --one-file-system "$work"
}
trap clean EXIT
bad=0
fault() {
    echo "$*"
    bad=1
}
status_before=$(git status --porcelain 2>/dev/null)
short=(cotrain.warmup.steps=5 cotrain.steps=10 distil.steps=10)
finish() {
    [ "$(git status --porcelain 2>/dev/null)" = "$status_before" ] || fault "files were left in the source tree: $(git status --porcelain)"
    exit $bad
}

# ---- staged, moved, elsewhere ----
make DESTDIR="$work/stage" PREFIX=/opt/marrs install >"$work/log" 2>&1 || { tail -n 30 "$work/log"; exit 1; }
find "$work/stage" -mindepth 1 -maxdepth 1 ! -name opt | grep . && fault "installed outside PREFIX"
grep -rlI -e "$PWD" -e "$work" "$work/stage" && fault "these name the folder of the build"
mv "$work/stage/opt/marrs" "$work/moved"
mkdir "$work/elsewhere" && cd "$work/elsewhere" || exit 2
(
    PATH=$work/moved/bin:$PATH
    mpirun -np 2 marrs_dist train "${short[@]}" >"$work/log" 2>&1 || exit 1
    [ -s runs/digits/models/student.safetensors ] && [ -s runs/digits/report.html ] || exit 1
    man -M "$work/moved/share/man" -w marrs_dist-train >>"$work/log" 2>&1 || exit 1
    bash -c ". '$work/moved/share/bash-completion/completions/marrs_dist'" >>"$work/log" 2>&1
) || { tail -n 30 "$work/log"; fault "the installed program did not run from another folder"; }
lmod=/usr/share/lmod/lmod/libexec/lmod
if [ -e "$lmod" ]; then
    MODULEPATH=$work/moved/share/modulefiles "$lmod" bash load marrs_dist >"$work/log" 2>&1
    grep -qF "$work/moved/bin" "$work/log" || fault "the modulefile does not find the program: $(cat "$work/log")"
else
    echo "no Lmod here: its modulefile not tried"
fi
if command -v tclsh >/dev/null; then # the Tcl modulefile, with stand-ins for what Environment Modules gives it
    tclsh <<END >"$work/log" 2>&1
proc module-whatis {args} {}
proc conflict {args} {}
proc prepend-path {name value} { puts "\$name=\$value" }
set ModulesCurrentModulefile "$(echo "$work"/moved/share/modulefiles/marrs_dist/[0-9]*[0-9])"
source \$ModulesCurrentModulefile
END
    grep -qxF "PATH=$work/moved/bin" "$work/log" || fault "the Tcl modulefile: $(cat "$work/log")"
fi
cd "$OLDPWD" || exit 2
make DESTDIR="$work/again" PREFIX=/usr install >"$work/log" 2>&1 && make DESTDIR="$work/again" PREFIX=/usr uninstall >>"$work/log" 2>&1
left=$(find "$work/again" ! -type d)
[ -z "$left" ] || fault "make uninstall leaves: $left"

# ---- archive ----
git rev-parse -q --verify HEAD >/dev/null 2>&1 || { echo "no git here: archive and package not tried"; finish; }
make dist >"$work/log" 2>&1 || { cat "$work/log"; fault "make dist failed"; finish; }
archive=$PWD/$(tail -n 1 "$work/log")
sum=$(sha256sum <"$archive")
sleep 1
make dist >/dev/null 2>&1
[ "$(sha256sum <"$archive")" = "$sum" ] || fault "make dist twice gives other bytes"
mkdir "$work/archive"
tar -xzf "$archive" -C "$work/archive" || fault "the archive cannot be unpacked"
(
    cd "$work"/archive/* || exit 1
    make DEPS=no PREFIX="$work/from_archive" install >"$work/log" 2>&1 || exit 1
    cd "$work/elsewhere" && "$work/from_archive/bin/marrs_dist" config >>"$work/log" 2>&1
) || { tail -n 30 "$work/log"; fault "no program from the archive"; }

# ---- Debian package ----
for tool in dpkg-buildpackage dh fakeroot; do
    command -v $tool >/dev/null || { echo "no $tool here: make deb not tried"; finish; }
done
lintian=yes
command -v lintian >/dev/null || { lintian=no; echo "no lintian here: the package is not looked through"; }
LINTIAN=$lintian make DEPS=no deb >"$work/log" 2>&1 || { tail -n 40 "$work/log"; fault "make deb failed"; finish; }
grep -E '^[WE]:' "$work/log"

# ---- in a fresh Debian, as a new user ----
if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
    echo "no debootstrap, or not root: no fresh Debian tried"
    finish
fi
# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$')
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
timeout 900 debootstrap --variant=minbase "$suite" "$work/debian" "$mirror" >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log"; echo "debootstrap found no mirror: no fresh Debian tried"; finish; }
cp -r /etc/apt/apt.conf.d /etc/apt/auth.conf.d "$work/debian/etc/apt/" 2>/dev/null
cp /etc/resolv.conf /etc/hosts "$work/debian/etc/" 2>/dev/null
cp build/deb/marrs-dist_*_*.deb "$work/debian/tmp/"
mount -t proc proc "$work/debian/proc" || echo "no /proc in there"
inside() { env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive timeout 900 chroot "$work/debian" "$@" >"$work/log" 2>&1; }
inside apt-get -q update
inside sh -c 'apt-get -q install -y --no-install-recommends /tmp/marrs-dist_*.deb' || { tail -n 20 "$work/log"; fault "the package cannot be installed"; finish; }
inside useradd -m new || inside adduser --disabled-password --gecos '' new
inside su new -c "cd && marrs_dist train ${short[*]} && test -s runs/digits/models/student.safetensors" ||
    { tail -n 20 "$work/log"; fault "a new user's start on one rank failed"; }
inside su new -c 'cd && marrs_dist doctor' || { tail -n 20 "$work/log"; fault "doctor finds errors"; }
inside su new -c 'cd && mpirun -np 2 --oversubscribe --mca btl_vader_single_copy_mechanism none marrs_dist run=runs/two' ||
    { tail -n 20 "$work/log"; fault "a new user's run on two ranks failed"; }
grep -E '^student' "$work/log"
inside apt-get -q purge -y marrs-dist || fault "the package cannot be removed"
find "$work/debian/usr" -name '*marrs*' | grep . && fault "purging leaves files"

# ---- what the Apptainer definition does, in the same Debian ----
section() { sed -n "/^%$1/,/^%/{/^%/!p}" packaging/apptainer/marrs_dist.def; }
cp "$archive" "$work/debian/opt/"
section post >"$work/debian/tmp/post"
section test >"$work/debian/tmp/test"
inside sh /tmp/post || { tail -n 20 "$work/log"; fault "the container's %post failed"; }
inside sh -e /tmp/test || { tail -n 20 "$work/log"; fault "the container's %test failed"; }
finish
