#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes .venv and installs missing compilers and emulators. Safe to run again: it does only what is missing.
#   scripts/setup.sh              everything
#   scripts/setup.sh --no-system  only the virtual environment, no apt-get
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
system=yes
case ${1-} in
"") ;;
--no-system) system=no ;;
*) echo "setup: unknown option $1; usage: scripts/setup.sh [--no-system]" >&2; exit 2 ;;
esac

say() { echo "setup: $*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- Debian packages: collect what is missing, then install all of it at once --------------------------------------

why_not=
as_root=
may_install() { # sets why_not and as_root; asked only when something is missing, because sudo may want a password
    if [ "$system" = no ]; then
        why_not="--no-system was given"
    elif ! have apt-get; then
        why_not="there is no apt-get here"
    elif [ "$(id -u)" != 0 ]; then
        as_root=sudo
        [ -t 0 ] || as_root="sudo -n" # nobody is there to type a password
        have sudo && $as_root true 2>/dev/null || why_not="this is neither root nor somebody with sudo"
    fi
    [ -z "$why_not" ]
}

packages=
missing() { # missing PACKAGES REASON: ask for packages, and say why
    packages="$packages $1"
    say "missing: $1 ($2)"
}

runs_c() { printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null; }

clang_is_new() { # sets clang and major: one that knows _Float16 on RISC-V, with its linker
    for v in -19 -20 -21 -22 -18 -17 -16 ""; do
        if have "clang$v" && have "ld.lld$v"; then
            major=$("clang$v" --version | sed -n '1s/.*version \([0-9]*\).*/\1/p')
            [ "${major:-0}" -ge 16 ] && clang="clang$v" && return 0
        fi
    done
    return 1
}

sanitizes() { echo 'int main(void) { return 0; }' | "$clang" -fsanitize=address -x c -o /dev/null - 2>/dev/null; }

newest_clang() { # the newest one tested that this release of Debian or Ubuntu offers
    for v in 19 20 21 22 18 17 16; do
        [ -n "$(apt-cache show "clang-$v" 2>/dev/null)" ] && echo "clang-$v lld-$v libclang-rt-$v-dev" && return
    done
    say "no clang of version 16 or newer is packaged here: RISC-V boards are left out." >&2
}

"$python" -c 'import ensurepip, venv' 2>/dev/null || missing python3-venv "virtual environment"
runs_c || missing "gcc libc6-dev" "board host: the twin that runs generated C on this machine"
have arm-none-eabi-gcc || missing gcc-arm-none-eabi "compiler for Cortex-M boards"
have qemu-system-arm || missing qemu-system-arm "emulator of Cortex-M boards"
have qemu-system-riscv32 || missing qemu-system-misc "emulator of RISC-V boards"
have gdb-multiarch || missing gdb-multiarch "flashing by a GDB server, QEMU's own among them"
have chromium || missing chromium "browser that tests the page, without a window"
have node && have npm || missing "nodejs npm" "what the emulator of the Raspberry Pi Pico runs in"
have riscv64-unknown-elf-gcc || missing gcc-riscv64-unknown-elf "compiler for RISC-V boards without floats"
have ccache || missing ccache "tests compile what many builds have alike only once"
have riscv64-unknown-elf-objdump || missing binutils-riscv64-unknown-elf "disassembler of RISC-V boards, for estimated cycles"
if clang_is_new; then
    sanitizes || missing "libclang-rt-$major-dev" "sanitizers of clang: tests compile with them in a fifth of gcc's time"
else
    clang=no
    say "missing: clang and lld of version 16 or newer (compiler for RISC-V boards)"
fi

if [ -n "$packages" ] || [ "$clang" = no ]; then
    if may_install; then
        $as_root apt-get update -qq || true # a fresh machine has no package lists at all
        [ "$clang" != no ] || packages="$packages $(newest_clang)"
        # shellcheck disable=SC2086  # a list of words
        set -- $packages
        say "installing with apt-get: ${*:-nothing}"
        [ $# = 0 ] || $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null </dev/null ||
            say "apt-get could not install all of it: going on without; a board that needs it is refused with the reason."
    else
        say "nothing installed, because $why_not: going on without; board host needs only a C compiler."
    fi
fi

# --- What comes from npm, each by its lock file -----------------------------------------------------------------------------

installed_by_npm() { # installed_by_npm FOLDER WITHOUT: what its lock file names, again only when that has changed
    if have npm && ! cmp -s "$1/package-lock.json" "$1/node_modules/tinytrain.lock"; then
        say "installing ${1##*/}"
        if npm ci --prefix "$1" --no-audit --no-fund --silent; then
            cp "$1/package-lock.json" "$1/node_modules/tinytrain.lock"
        else
            say "${1##*/} cannot be installed here: going on without $2."
        fi
    fi
}
installed_by_npm tinytrain/device/rp2040js "board raspberry-pi-pico"
installed_by_npm tests/axe "the tests of how accessible the page is"

# --- Python packages: again only when what is asked for has changed ---------------------------------------------------

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    say "making the virtual environment .venv"
    "$python" -m venv --clear .venv || { say "$python cannot make a virtual environment: install python3-venv and try again."; exit 1; }
fi

stamp=.venv/tinytrain-setup.stamp
wanted=$({ pwd; cat pyproject.toml constraints.txt scripts/setup.sh; } | cksum) # pwd: an editable install points to its folder
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing Python packages into .venv"
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[solver,plot,examples,dev,docs]"
    # The oracle has no wheel for every platform, and only tests and `verify --oracle tvm` use it.
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[tvm]" ||
        say "TVM cannot be installed here: going on without the tests and checks that compare with it."
    echo "$wanted" >"$stamp"
fi
