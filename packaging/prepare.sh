# shellcheck shell=bash
# Sourced by the scripts beside it: installs what is missing, from the distribution's packages.
# Works as root, or as a user who may sudo.

# What the AWS SDK asks for, as in Cargo.toml.
RUST_MINIMUM=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: those that are not there yet.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "installing ${missing[*]}" >&2
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >&2
}

rust_is_new_enough() {
    local found
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    command -v cargo >/dev/null || return 1
    [ -n "$found" ] && [ "$(printf '%s\n' "$RUST_MINIMUM" "$found" | sort -V | head -n 1)" = "$RUST_MINIMUM" ]
}

# What it takes to build. Debian keeps a recent Rust as rustc-web; its rustc is too old.
prepare_build() {
    install_packages ca-certificates gcc libc6-dev libdbus-1-dev pkg-config
    rust_is_new_enough && return
    install_packages rustc-web cargo-web
    hash -r
    rust_is_new_enough || {
        echo "Rust $RUST_MINIMUM or newer is needed; found: $(rustc --version 2>&1)" >&2
        exit 1
    }
}

# The counterparts of the tests: a D-Bus daemon, and a Python with moto and dbus-fast.
prepare_tests() {
    install_packages curl dbus-daemon iproute2 procps python3 python3-venv
    make_venv target/test-venv tests/requirements.txt
}

# What checks a package: its rules, and its life in a bare Debian.
prepare_package_tests() {
    install_packages lintian mandoc piuparts systemd
}

# The machines with a real BlueZ, and the straps on the other side of their radio.
prepare_machines() {
    install_packages busybox-static debian-archive-keyring e2fsprogs iproute2 kmod mmdebstrap python3 python3-venv \
        qemu-system-arm qemu-system-data qemu-system-x86 qemu-utils seabios arch-test binfmt-support qemu-user-static
    make_venv target/vm-venv tests/vm/requirements.txt
}

# The recorded power cuts, whose disk is a file that a program of ours serves, and libFuzzer.
prepare_evidence() {
    prepare_tests
    install_packages e2fsprogs g++ kmod
    # Of most kernels they are parts already.
    as_root modprobe --quiet --all fuse loop ext4 || true
    local device
    for device in /dev/fuse /dev/loop-control; do
        [ -e "$device" ] || {
            echo "the power cuts need $device, which this kernel does not have" >&2
            exit 1
        }
    done
}

# make_venv FOLDER REQUIREMENTS: unless it is there with just these.
make_venv() {
    cmp -s "$2" "$1/requirements.txt" && return
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
    cp "$2" "$1/requirements.txt"
}
