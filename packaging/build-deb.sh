#!/usr/bin/env bash
# Builds the Debian package; installs what that takes. Prints the package's path last.
#   packaging/build-deb.sh [amd64|arm64|armhf]     the default is this machine's architecture
# The same commit, built with the same Rust and Debian release, gives the same bytes in any folder.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh

native=$(dpkg --print-architecture)
arch=${1:-$native}
case $arch in
    amd64) target=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu qemu=x86_64 ;;
    arm64) target=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu qemu=aarch64 ;;
    armhf) target=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf qemu=arm ;;
    *)
        sed -n 's/^#   //p' "$0" >&2
        exit 2
        ;;
esac
out=target/debian
stage=$out/stage-$arch
sysroot=$out/sysroot-$arch
binary=target/$target/release/hr-gatewayd

prepare_build
install_packages debhelper

# The changelog and Cargo.toml agree on the version, or there is no package.
version=$(dpkg-parsechangelog --file packaging/debian/changelog --show-field Version)
grep -qxF "version = \"$version\"" Cargo.toml || {
    echo "packaging/debian/changelog is at $version, Cargo.toml is not" >&2
    exit 1
}
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --file packaging/debian/changelog --show-field Timestamp)
export SOURCE_DATE_EPOCH

# prepare_cross: a compiler for the other architecture, its libdbus, and a Rust that has its standard
# library. Nothing of that architecture is installed here, where it would have to match this machine's
# packages to the last digit: it is unpacked into a folder.
prepare_cross() {
    install_packages "gcc-${gnu//_/-}" "libc6-dev-$arch-cross" mmdebstrap qemu-user-static
    local packages=libdbus-1-dev
    # The release as it first was: what is linked against that runs with every update.
    local suites=(--setup-hook='sed -i "/ bookworm main/!d" "$1/etc/apt/sources.list"')
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
        # Debian's, whichever comes first in PATH, and of one version: that may be an update.
        install_packages rustc-web cargo-web
        PATH=/usr/bin:$PATH
        packages+=,libstd-rust-web-dev=$(dpkg-query -W -f '${Version}' rustc-web)
        suites=()
        rust_sysroot=$PWD/$sysroot/usr
    fi
    [ "$(cat "$sysroot/packages" 2>/dev/null)" = "$packages" ] && return
    mkdir -p "$out"
    as_root rm -rf "$sysroot"
    as_root mmdebstrap --quiet --variant=extract --architectures="$arch" --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/*' "${suites[@]}" bookworm "$sysroot" >&2
    # Absolute as packaged, which leads out of the folder.
    as_root ln -sf "../../../lib/$gnu/libdbus-1.so.3" "$sysroot/usr/lib/$gnu/libdbus-1.so"
    echo "$packages" | as_root tee "$sysroot/packages" >/dev/null
}

# build_binary: no path of this machine stays in it, so that every machine builds the same.
build_binary() {
    local crates flags=("--remap-path-prefix=$PWD=.") linker=CARGO_TARGET_${target^^}_LINKER
    cargo fetch --quiet --locked --target "$target"
    for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=("--remap-path-prefix=$crates=crates")
    done
    # Half a megabyte less; binutils knows it for this architecture only. glibc 2.36 (Debian 12) reads it.
    [ "$arch" != amd64 ] || flags+=("-Clink-arg=-Wl,-z,pack-relative-relocs")
    if [ "$arch" != "$native" ]; then
        export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$PWD/$sysroot
        export PKG_CONFIG_LIBDIR=$PKG_CONFIG_SYSROOT_DIR/usr/lib/$gnu/pkgconfig
        export "${linker//-/_}=$gnu-gcc"
        flags+=("-Clink-arg=-Wl,-rpath-link,$PWD/$sysroot/lib/$gnu:$PWD/$sysroot/usr/lib/$gnu")
        [ -z "${rust_sysroot:-}" ] || flags+=("--sysroot=$rust_sysroot")
    fi
    # For the target alone, as a target is named; not for what runs while building.
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo -n "${flags[*]}") \
        cargo build --locked --release --target "$target" >&2
}

# run_binary ARGUMENT...: also one for another architecture.
run_binary() {
    if [ "$arch" = "$native" ]; then
        "$binary" "$@"
    else
        "qemu-$qemu-static" -L "$sysroot" "$binary" "$@"
    fi
}

# list_crates: what is compiled in and under which licences, and the notices that come with it.
list_crates() {
    local crates name number file
    crates=$(cargo tree --locked --edges normal --prefix none --format '{p} {l}' --target "$target" |
        sed 's/ (\*)$//; s/ (proc-macro)//; /^hr-gatewayd /d' | LC_ALL=C sort -u)
    printf 'Compiled into hr-gatewayd: crate, version, licence. Their notices follow.\n\n%s\n' "$crates"
    while read -r name number _; do
        find "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-${number#v}" -maxdepth 1 -type f \
            -iregex '.*/\(licen[cs]e\|unlicense\|copying\|copyright\|notice\)[^/]*' | LC_ALL=C sort
    done <<<"$crates" | while read -r file; do
        # The Apache licence is on every Debian system.
        grep -q 'TERMS AND CONDITIONS FOR USE, REPRODUCTION' "$file" || sha256sum "$file"
    done | awk '!seen[$1]++ { print substr($0, 67) }' | while read -r file; do
        printf '\n---- %s\n' "$(basename "$(dirname "$file")")"
        cat "$file"
    done
}

# stage_package: what debian/ and *.install name, as build_binary and the repository have it.
stage_package() {
    rm -rf "$stage"
    mkdir -p "$stage/completions"
    cp -r packaging/debian "$stage/debian"
    cp systemd/hr-gatewayd.service "$stage/debian/"
    cp packaging/debian/config.toml "$binary" "$stage/"
    run_binary completions bash >"$stage/completions/hr-gatewayd"
    run_binary completions zsh >"$stage/completions/_hr-gatewayd"
    run_binary completions fish >"$stage/completions/hr-gatewayd.fish"
    list_crates >"$stage/crates.txt"
}

# build_package: debhelper's part.
build_package() (
    QUEUE_FORMAT=$(sed -n 's/^const FORMAT: u8 = \([0-9]*\);$/\1/p' src/queue/durable/layout.rs)
    [ -n "$QUEUE_FORMAT" ] || {
        echo "src/queue/durable/layout.rs does not say its FORMAT" >&2
        exit 1
    }
    if [ "$arch" != "$native" ]; then
        # No package list tells whose the libraries in the sysroot are.
        cp packaging/debian/shlibs.cross "$stage/debian/shlibs.local"
        export LIBRARY_FOLDERS="../sysroot-$arch/lib/$gnu ../sysroot-$arch/usr/lib/$gnu"
    fi
    export QUEUE_FORMAT
    cd "$stage"
    dpkg-buildpackage --build=binary --host-arch "$arch" --no-sign --no-check-builddeps >&2
)

[ "$arch" = "$native" ] || prepare_cross
build_binary
stage_package
build_package
echo "$out/hr-gatewayd_${version}_$arch.deb"
