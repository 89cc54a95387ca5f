#!/usr/bin/env bash
# Makes the certificate authority that gateways identify themselves with (IAM Roles Anywhere), in a new folder.
#
#   packaging/cloud/bin/ca.sh DIR
#
#   DIR/ca.pem    its certificate, for ten years: deploy.sh --ca DIR hands it to AWS
#   DIR/ca.key    its key. Whoever has it can make gateways: keep the folder where only you can read it,
#                 best on a disk that is not always plugged in
#
# Needs openssl. Talks to nobody. Refuses a folder that has a CA already.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/certificates.sh
. "$cloud/lib/certificates.sh"

case ${1:-} in -h | --help)
    show_help
    exit 0
    ;;
esac
[[ $# -eq 1 && $1 != -* ]] || usage "give the folder to make"
need openssl "apt-get install openssl"
make_ca "$1"
echo "made: $1/ca.pem and $1/ca.key. Next: $cloud/bin/deploy.sh --ca $1"
