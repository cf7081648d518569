# shellcheck shell=bash
# Sourced, not run: the functions by which the other scripts find what they need, or install it. Nothing is
# installed that is there already.

# The root of the repository, wherever the caller stands.
repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Ends the script with one line that says what is wrong and what to do.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The folder that cargo builds into.
target_dir() {
    local dir=${CARGO_TARGET_DIR:-}
    case $dir in
        '') printf '%s\n' "$repo/target" ;;
        /*) printf '%s\n' "$dir" ;;
        *) printf '%s\n' "$PWD/$dir" ;;
    esac
}

need_cargo() {
    if ! command -v cargo >/dev/null && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then
        export PATH="$HOME/.cargo/bin:$PATH"
    fi
    command -v cargo >/dev/null || die "no cargo; install Rust from https://rustup.rs"
}

# apt_install PACKAGE…: as root or through sudo; false where neither is possible.
apt_install() {
    local as_root=()
    command -v apt-get >/dev/null || return 1
    if [[ $(id -u) != 0 ]]; then
        command -v sudo >/dev/null || return 1
        as_root=(sudo)
    fi
    printf 'installing %s (apt-get)\n' "$*" >&2
    {
        "${as_root[@]}" apt-get update -qq &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    } >&2
}

# SQLite is compiled from its C source, and cargo links through the C compiler.
need_c_compiler() {
    if ! command -v cc >/dev/null || ! have_c_headers; then
        apt_install gcc libc6-dev || die "no C compiler; install gcc and libc6-dev"
    fi
}

have_c_headers() {
    printf '#include <stdio.h>\n' | cc -E -x c - >/dev/null 2>&1
}

need_python() {
    if ! python3 -c 'import json, sqlite3' 2>/dev/null; then
        apt_install python3 || die "no python3; install it"
    fi
}

# The programs of a PostgreSQL server; Debian keeps them out of PATH. Its package would also start a server of its own.
need_postgres() {
    have_postgres && return
    local policy=
    if [[ $(id -u) = 0 && ! -e /usr/sbin/policy-rc.d ]]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    apt_install postgresql || true
    [[ -z $policy ]] || rm -f -- "$policy"
    have_postgres || die "no PostgreSQL server; install postgresql"
}

have_postgres() {
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

# need_component COMMAND COMPONENT: `cargo COMMAND`, of the rustup component.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || die "no cargo $1, and no rustup to install it; install the component $2 of Rust"
    rustup component add "$2" >&2 || die "rustup could not install $2"
}

# need_cargo_tool NAME VERSION: `cargo NAME`; any version that is installed will do, else this one is built below
# the target folder.
need_cargo_tool() {
    local tools
    tools=$(target_dir)/tools
    export PATH="$PATH:$tools/bin"
    cargo "$1" --version >/dev/null 2>&1 && return
    printf 'installing cargo-%s %s into %s\n' "$1" "$2" "$tools" >&2
    CARGO_TARGET_DIR="$tools/build" cargo install --locked --quiet --root "$tools" --version "$2" "cargo-$1" >&2 ||
        die "cargo-$1 could not be installed; try: cargo install --locked cargo-$1"
}
