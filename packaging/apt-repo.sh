#!/usr/bin/env bash
# Puts packages into a signed APT repository in a folder that any web server (or an S3 bucket) can serve:
#   packaging/apt-repo.sh FOLDER target/debian/hr-gatewayd_*.deb
# The key is made on the first run and kept in ~/.gnupg, which whoever signs must back up: gateways trust it alone.
# Run it again with a later package to add that. It closes with what a gateway needs.
set -euo pipefail
suite=stable
name="hr-gatewayd packages"

if [ $# -lt 2 ]; then
    sed -n 's/^#   //p' "$0" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(readlink -f "$1")
shift
packages=()
for package in "$@"; do
    dpkg-deb --field "$package" Package Version Architecture >/dev/null || exit 2
    packages+=("$(readlink -f "$package")")
done
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh
command -v apt-ftparchive >/dev/null && command -v gpg >/dev/null || install_packages apt-utils gpg

if ! gpg --list-secret-keys "$name" >/dev/null 2>&1; then
    gpg --batch --quiet --passphrase '' --quick-generate-key "$name" ed25519 sign 5y
fi
install -d "$folder/pool" "$folder/dists/$suite/main"
install -m 644 "${packages[@]}" "$folder/pool/"
gpg --batch --yes --output "$folder/hr-gatewayd.gpg" --export "$name"

cd "$folder"
# All of them, so that an older one can be gone back to.
architectures=()
for arch in $(for package in pool/*.deb; do dpkg-deb --field "$package" Architecture; done | sort -u); do
    architectures+=("$arch")
    mkdir -p "dists/$suite/main/binary-$arch"
    apt-ftparchive --arch "$arch" packages pool >"dists/$suite/main/binary-$arch/Packages"
    gzip -9nkf "dists/$suite/main/binary-$arch/Packages"
    # Under its hash too, which stays: who has read the former list of hashes finds the former file.
    mkdir -p "dists/$suite/main/binary-$arch/by-hash/SHA256"
    for index in "dists/$suite/main/binary-$arch"/Packages*; do
        cp "$index" "dists/$suite/main/binary-$arch/by-hash/SHA256/$(sha256sum "$index" | cut -d ' ' -f 1)"
    done
done
release=$(mktemp)
trap 'rm -f "$release"' EXIT
apt-ftparchive -o "APT::FTPArchive::Release::Origin=$name" -o "APT::FTPArchive::Release::Label=$name" \
    -o "APT::FTPArchive::Release::Suite=$suite" -o "APT::FTPArchive::Release::Codename=$suite" \
    -o "APT::FTPArchive::Release::Components=main" -o "APT::FTPArchive::Release::Acquire-By-Hash=yes" \
    -o "APT::FTPArchive::Release::Architectures=${architectures[*]}" release "dists/$suite" >"$release"
# The signed one takes the former's place when it is whole: a gateway that asks meanwhile finds one or the other.
gpg --batch --yes --local-user "$name" --clearsign --output "dists/$suite/InRelease.new" "$release"
mv "dists/$suite/InRelease.new" "dists/$suite/InRelease"

cat <<END
$folder is the repository. Served at https://EXAMPLE/apt, on each gateway, as root:
    curl -fsSo /usr/share/keyrings/hr-gatewayd.gpg https://EXAMPLE/apt/hr-gatewayd.gpg
    echo 'deb [signed-by=/usr/share/keyrings/hr-gatewayd.gpg] https://EXAMPLE/apt $suite main' >/etc/apt/sources.list.d/hr-gatewayd.list
    apt update && apt install hr-gatewayd
unattended-upgrades takes new versions by itself with, in /etc/apt/apt.conf.d/51hr-gatewayd:
    Unattended-Upgrade::Origins-Pattern { "origin=$name"; };
END
