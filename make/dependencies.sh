#!/usr/bin/env bash
# Which dependencies are here?   dependencies.sh info|install name:kind:what:package...
# info prints a table. install calls apt for what is missing where it may (root or sudo without a password) and says
# so; otherwise lists what is missing and fails.
set -u
mode=$1
shift

# Prints the version where the dependency is found; status 1 where it is not.
find_it() { # kind, what
    case $1 in
    pkg) pkg-config --modversion "$2" 2>/dev/null ;;
    header) echo "#include <$2>" | ${CC:-cc} -std=c17 -E -x c - >/dev/null 2>&1 && echo "$2" ;;
    header-clang) echo "#include <$2>" | clang -fopenmp -E -x c - >/dev/null 2>&1 && echo "$2" ;;
    program) command -v "$2" ;;
    esac
}

package_of() { # what, package: a library of the system may satisfy a need that its package name does not tell
    case $1 in
    clang) [ -e "$(clang -print-runtime-dir 2>/dev/null)/libclang_rt.asan-x86_64.a" ] ||
        [ "$2" != libclang-rt-14-dev ] || return 1 ;;
    esac
}

missing=()
optional=""
for need in "$@"; do
    if [ "$need" = optional ]; then
        optional=" (optional)"
        continue
    fi
    IFS=: read -r name kind what package <<<"$need"
    if found=$(find_it "$kind" "$what") && package_of "$what" "$package"; then
        [ "$mode" = info ] && printf '  \u2713 %-22s %s\n' "$name" "$found"
    else
        [ "$mode" = info ] && printf '  \u2717 %-22s missing%s: %s %s; apt-get install %s\n' "$name" "$optional" "$kind" "$what" "$package"
        missing+=("$package")
    fi
done
[ "$mode" = info ] && exit 0
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        echo "Missing, and neither root nor sudo without a password to install it. Please install:" >&2
        echo "    apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null; then
    echo "Missing, and there is no apt-get here. Please install what Debian calls: ${missing[*]}" >&2
    exit 1
fi
echo "Installing with apt-get: ${missing[*]}"
if ! { "${as_root[@]}" apt-get -q update >/dev/null &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >/dev/null; }; then
    echo "apt-get could not install: ${missing[*]}" >&2
    exit 1
fi
echo "Installed: ${missing[*]}"
