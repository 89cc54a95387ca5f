# shellcheck shell=bash
# Sourced by the scripts beside it, after prepare.sh: builds for this architecture or for another one.
# Variables for whoever sources it:
#   native arch target gnu         this machine's and the chosen architecture, by Debian's, Rust's and GNU's names
#   sysroot                        for another architecture, the folder with its libraries
# shellcheck disable=SC2034

# choose_target ARCH: fails if it is none that is built for.
choose_target() {
    native=$(dpkg --print-architecture)
    arch=$1
    case $arch in
        amd64) target=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
        arm64) target=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
        armhf) target=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf ;;
        *) return 1 ;;
    esac
    sysroot=target/debian/sysroot-$arch
}

# prepare_cross: a compiler for the other architecture, its libdbus, and a Rust that has its standard
# library. Nothing of that architecture is installed here, where it would have to match this machine's
# packages to the last digit: it is unpacked into a folder.
prepare_cross() {
    install_packages "gcc-${gnu//_/-}" "libc6-dev-$arch-cross" mmdebstrap qemu-user-static
    local packages=libdbus-1-dev
    # The release as it first was: what is linked against that runs with every update.
    # shellcheck disable=SC2016 # For mmdebstrap's shell.
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
    mkdir -p "$(dirname "$sysroot")"
    as_root rm -rf "$sysroot"
    as_root mmdebstrap --quiet --variant=extract --architectures="$arch" --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/*' "${suites[@]}" bookworm "$sysroot" >&2
    # Absolute as packaged, which leads out of the folder.
    as_root ln -sf "../../../lib/$gnu/libdbus-1.so.3" "$sysroot/usr/lib/$gnu/libdbus-1.so"
    echo "$packages" | as_root tee "$sysroot/packages" >/dev/null
}

# links_with OPTION: whether the linker knows it.
links_with() {
    local probe
    probe=$(mktemp)
    echo 'fn main() {}' | rustc --target "$target" "-Clink-arg=-Wl,$1" -o "$probe" - 2>/dev/null
    local status=$?
    rm -f "$probe"
    return $status
}

# build_binary ARGUMENT...: a release, of the package that the arguments for `cargo build` name. No path of this machine
# stays in it, so that every machine builds the same.
build_binary() {
    # With frame pointers the tables for unwinding, which hold a line for each push without them, are a quarter
    # smaller: 250 KB.
    local crates flags=("--remap-path-prefix=$PWD=." "-Cforce-frame-pointers=yes") linker=CARGO_TARGET_${target^^}_LINKER
    cargo fetch --quiet --locked --target "$target"
    for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=("--remap-path-prefix=$crates=crates")
    done
    # Half a megabyte less; binutils knows it for this architecture only. glibc 2.36 (Debian 12) reads it.
    [ "$arch" != amd64 ] || flags+=("-Clink-arg=-Wl,-z,pack-relative-relocs")
    # Functions of the same bytes are one: 90 KB less. LLVM's linker can, which rustup's Rust brings along for this
    # architecture; binutils', which Debian's uses, cannot.
    [ "$arch" != amd64 ] || ! links_with --icf=all || flags+=("-Clink-arg=-Wl,--icf=all")
    if [ "$arch" != "$native" ]; then
        export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$PWD/$sysroot
        export PKG_CONFIG_LIBDIR=$PKG_CONFIG_SYSROOT_DIR/usr/lib/$gnu/pkgconfig
        export "${linker//-/_}=$gnu-gcc"
        flags+=("-Clink-arg=-Wl,-rpath-link,$PWD/$sysroot/lib/$gnu:$PWD/$sysroot/usr/lib/$gnu")
        [ -z "${rust_sysroot:-}" ] || flags+=("--sysroot=$rust_sysroot")
    fi
    # For the target alone, as a target is named; not for what runs while building.
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo -n "${flags[*]}") \
        cargo build --locked --release --target "$target" "$@" >&2
}
