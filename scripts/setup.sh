#!/usr/bin/env bash
# Installs the system packages that Lakefold builds with, if they are missing.
# Usage: scripts/setup.sh          what the Rust build needs
#        scripts/setup.sh python   also what the Python tooling (lint tools, peers, references) needs
set -euo pipefail

if ! command -v cargo >/dev/null; then
    echo "error: cargo was not found. Install a Rust toolchain (https://rustup.rs), then run this again." >&2
    exit 1
fi

missing=()
works() { "$@" >/dev/null 2>&1; }

works gcc --version || missing+=(gcc libc6-dev)
works g++ --version || missing+=(g++)
works pkg-config --version || missing+=(pkg-config)
# openblas-src finds OpenBLAS through pkg-config.
works pkg-config --exists openblas || missing+=(libopenblas-dev)
if [[ "${1:-}" == python ]]; then
    works python3 -c 'import ensurepip, venv' || missing+=(python3 python3-venv)
fi

if ((${#missing[@]} == 0)); then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    cat >&2 <<EOF
error: missing: ${missing[*]} (Debian's names).
This script installs packages on Debian and Ubuntu only. Install the same with your system's package manager, e.g.
  Fedora: dnf install gcc gcc-c++ pkgconf openblas-devel
  macOS:  brew install openblas pkgconf, then export PKG_CONFIG_PATH="\$(brew --prefix openblas)/lib/pkgconfig"
and run this again: it only asks whether each is there.
EOF
    exit 1
fi

sudo=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "error: run this as root once: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo)
fi
echo "installing ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
