#!/usr/bin/env bash
# Make a virtual environment and install the package into it, editable, with every extra.
# Usage: tools/install.sh [VENV]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python="$venv/bin/python"

# What Qt 6, napari's OpenGL canvas and a virtual display need on a Debian system without a desktop.
system_packages=(
    xvfb xauth fonts-dejavu-core libdbus-1-3 libegl1 libfontconfig1 libgl1 libgl1-mesa-dri libglib2.0-0 libxkbcommon-x11-0
    libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
    libxcb-xinerama0
)

say() { printf '== %s\n' "$*"; }

# Install Debian packages if this machine and this user allow it; otherwise say what is missing and go on.
install_system() {
    local missing=() package status sudo=()
    for package in "$@"; do
        # Debian 13 and Ubuntu 24.04 renamed some libraries to NAMEt64; apt-get understands the old names.
        status=$(dpkg-query -W -f '${db:Status-Status} ' "$package" "${package}t64" 2>/dev/null || true)
        [[ " $status" == *" installed "* ]] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "Some system packages are missing; please run: sudo apt-get install ${missing[*]}"
            return
        fi
        sudo=(sudo -n)
    fi
    say "Installing system packages: ${missing[*]}"
    "${sudo[@]}" apt-get update -qq || true
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null ||
        say "apt-get could not install all of: ${missing[*]}; going on without."
}

on_debian() { command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; }

# The first Python on this machine that is new enough.
find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer was not found; please install it, or name it: make install PYTHON=/path/to/python" >&2
    return 1
}

make_venv() {
    local base
    if on_debian && ! command -v python3 >/dev/null; then install_system python3 python3-venv; fi
    base=$(find_python)
    if on_debian && ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian keeps these in a package of their own, one for each Python version.
        install_system "$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    say "Making $venv with $("$base" --version)"
    "$base" -m venv "$venv"
}

if on_debian; then
    install_system "${system_packages[@]}"
elif [ "$(uname -s)" = Linux ] && ! command -v Xvfb >/dev/null; then
    say "Without a display, the demo and the GUI tests need Xvfb and Qt's xcb libraries; please install them."
fi

"$python" -m pip --version >/dev/null 2>&1 || make_venv
pip=("$python" -m pip --disable-pip-version-check --quiet --no-input)

say "Installing Python packages (PyTorch alone is several gigabytes the first time)"
"${pip[@]}" install --upgrade pip wheel 'setuptools>=77'
"${pip[@]}" install torch torchvision
# sam2 is built from source and needs torch for it: in an isolated build pip would fetch all of torch a second time.
SAM2_BUILD_CUDA=0 "${pip[@]}" install --no-build-isolation sam2
"${pip[@]}" install --editable '.[all,dev]'
say "Ready in $venv"
