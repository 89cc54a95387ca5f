#!/usr/bin/env bash
# Builds the guest: target/vm/ARCH/{root.ext4,vmlinuz,initrd.gz}, a Debian 12 with its own kernel, bluetoothd and systemd.
#   tests/vm/build-image.sh [amd64|arm64]
# Nothing is done when the inputs have not changed. Needs root, mmdebstrap, e2fsprogs, kmod and busybox-static; for
# arm64 also qemu-user-static, binfmt-support and arch-test.
set -euo pipefail

arch=${1:-amd64}
case $arch in
    amd64) kernel_arch=x86 ;;
    arm64) kernel_arch=arm64 ;;
    *)
        sed -n 's/^#   /usage: /p' "$0" >&2
        exit 2
        ;;
esac
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$here/../../target/vm/$arch"
cd "$here/../../target/vm/$arch"

suite=bookworm
# What a gateway has, and what the harness needs in it (busybox for the initrd, e2fsprogs for small disks).
packages=adduser,bluez,busybox-static,ca-certificates,dbus,e2fsprogs,iproute2,kmod,libdbus-1-3,libnss-systemd,procps
packages+=,systemd-sysv,systemd-timesyncd,udev

stamp=$(cat "$here/build-image.sh" $(find "$here/guest" -type f | sort) | sha256sum)
if [ -f root.ext4 ] && [ "$(cat stamp 2>/dev/null)" = "$stamp" ]; then
    exit
fi
rm -f stamp
echo "building the $arch guest in $PWD" >&2

# The machine's own Debian mirror serves the guest too.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v security | sort | uniq -c |
    sort -rn | awk 'NR == 1 { print $2 }')

# Debian's user land; takes a minute, so it is kept by its package list.
tar=root-$(printf '%s %s' "$suite" "$packages" | sha256sum | cut -c 1-12).tar
if [ ! -f "$tar" ]; then
    [ "$arch" = "$(dpkg --print-architecture)" ] || update-binfmts --enable >&2
    rm -f root-*.tar
    mmdebstrap --quiet --format=tar --arch="$arch" --variant=minbase --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' "$suite" "$tar.new" "$mirror"
    mv "$tar.new" "$tar"
fi

# Its kernel: downloaded and unpacked, never installed. (The cloud kernel has no Bluetooth.)
if [ ! -d kernel ]; then
    rm -rf apt && mkdir -p apt/lists/partial apt/archives/partial apt/download
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >apt/sources.list
    : >apt/status
    options=(-qq -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::Etc::sourcelist=$PWD/apt/sources.list"
        -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$PWD/apt/lists" -o "Dir::State::status=$PWD/apt/status"
        -o "Dir::Cache=$PWD/apt" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    package=$(apt-cache "${options[@]}" depends "linux-image-$arch" | sed -n 's/^ *Depends: \([^:]*\).*/\1/p')
    (cd apt/download && apt-get "${options[@]}" download "$package")
    dpkg-deb -x apt/download/*.deb kernel.new
    rm -rf apt
    mv kernel.new kernel
fi
version=$(ls kernel/lib/modules)

rm -rf rootfs initrd
mkdir -p rootfs initrd/{bin,dev,proc,sys,root,modules}
trap 'rm -rf rootfs initrd' EXIT
tar -xpf "$tar" -C rootfs

modules=lib/modules/$version
mkdir -p "rootfs/$modules"
cp "kernel/$modules"/modules.{builtin,builtin.modinfo,order} "rootfs/$modules/"
for part in crypto lib "arch/$kernel_arch/crypto" net/bluetooth net/rfkill net/9p net/core/failover.ko \
    drivers/bluetooth drivers/virtio drivers/char/hw_random drivers/tty/serial drivers/hid/hid.ko \
    drivers/hid/uhid.ko drivers/block/virtio_blk.ko drivers/block/loop.ko drivers/net/virtio_net.ko \
    drivers/net/net_failover.ko fs/9p fs/autofs fs/ext4 fs/fscache fs/jbd2 fs/mbcache.ko fs/netfs fs/overlayfs; do
    [ -e "kernel/$modules/kernel/$part" ] || continue
    mkdir -p "rootfs/$modules/kernel/$(dirname "$part")"
    cp -r "kernel/$modules/kernel/$part" "rootfs/$modules/kernel/$part"
done
depmod -b "$PWD/rootfs" "$version"

cp -r "$here/guest/files/." rootfs/
chown -R root:root rootfs/etc/systemd rootfs/etc/modules-load.d rootfs/opt
echo gateway >rootfs/etc/hostname
echo '127.0.0.1 localhost gateway' >rootfs/etc/hosts
echo '/dev/vda / ext4 rw,relatime 0 0' >rootfs/etc/fstab
# Fixed, so that a boot is no first boot, and all guests are one gateway.
echo 5e1f0000000000000000000000000001 >rootfs/etc/machine-id
rm -f rootfs/etc/resolv.conf
mkdir -p rootfs/var/log/journal rootfs/mnt/share
units=rootfs/etc/systemd/system
mkdir -p $units/multi-user.target.wants
ln -sf /lib/systemd/system/systemd-networkd.service $units/multi-user.target.wants/
ln -sf ../console-agent.service $units/multi-user.target.wants/
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer getty@tty1.service serial-getty@ttyS0.service serial-getty@ttyAMA0.service; do
    ln -sf /dev/null $units/$unit
done

# With a journal, as on a gateway's card: the whole root is what a power cut hits.
rm -f root.ext4
truncate -s 1500M root.ext4
mke2fs -q -t ext4 -d rootfs -L root -E root_owner=0:0 root.ext4

cp rootfs/bin/busybox initrd/bin/
install -m 755 "$here/guest/initrd-init" initrd/init
for module in virtio_pci virtio_blk ext4 crc32c_generic; do
    modprobe -d "$PWD/rootfs" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r path; do
    cp "$path" initrd/modules/
    basename "$path" >>initrd/modules/order
done
(cd initrd && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >initrd.gz
cp "kernel/boot/vmlinuz-$version" vmlinuz
echo "$stamp" >stamp
