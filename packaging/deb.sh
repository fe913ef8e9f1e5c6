#!/usr/bin/env bash
# make deb: the committed sources as a Debian source and binary package in build/deb, looked through by lintian.
# Nothing is written outside build/, nothing is downloaded. DEBFULLNAME and DEBEMAIL say who the maintainer is.
# LINTIAN=no leaves lintian out; BUILD=binary makes no source package.
set -eu
here=$PWD/build/deb
version=${VERSION:?}
maintainer="${DEBFULLNAME:-The marrs_dist authors} <${DEBEMAIL:-marrs-dist@example.org}>"
date=$(LC_ALL=C date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")
rm -rf build/deb
mkdir -p build/deb
git rev-parse -q --verify HEAD >/dev/null || { echo "make deb wants a git checkout" >&2; exit 1; }
git diff --quiet HEAD || echo "note: changes that are not committed are left out" >&2
git archive --format=tar --prefix="marrs-dist-$version/" HEAD | gzip -n9 >"$here/marrs-dist_$version.orig.tar.gz"
tar -xzf "$here/marrs-dist_$version.orig.tar.gz" -C "$here"
cd "$here/marrs-dist-$version"
cp -R packaging/debian .
for file in control changelog; do
    sed -e "s|@VERSION@|$version|; s|@MAINTAINER@|$maintainer|; s|@DATE@|$date|" debian/$file.in >debian/$file
    rm debian/$file.in
done
# Flags of an outer make and of its environment are not the package's.
unset MAKEFLAGS MAKELEVEL MAKEOVERRIDES CFLAGS CPPFLAGS LDFLAGS CC MPICC DESTDIR PREFIX VERSION V OMPI_CC MPICH_CC
how=()
[ "${BUILD:-}" != binary ] || how=(-b)
if ! dpkg-buildpackage -us -uc -j"$(nproc)" "${how[@]}" >"$here/build.log" 2>&1; then
    tail -n 40 "$here/build.log"
    exit 1
fi
cd "$here"
if [ "${LINTIAN:-}" != no ]; then
    as=()
    [ "$(id -u)" -ne 0 ] || as=(--allow-root)
    lintian "${as[@]}" --fail-on error ./*.changes
fi
ls "$here"/*.deb
