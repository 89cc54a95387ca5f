#!/usr/bin/env bash
# The cloud side's tests; installs what they need. The last line is pytest's count. Arguments go to pytest.
#   tests/cloud/run.sh                 all of them
#   tests/cloud/run.sh -k template     the template without the lake
#   tests/cloud/run.sh --measure       the table of packaging/cloud/README.md
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=packaging/prepare.sh
. packaging/prepare.sh

# The jars of a real Trino, once: about 330 MB.
trino_jars() {
    cmp -s tests/cloud/pom.xml target/cloud-trino/pom.xml && return
    rm -rf target/cloud-trino
    mvn --batch-mode --quiet --file tests/cloud/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$PWD/target/cloud-trino"
    cp tests/cloud/pom.xml target/cloud-trino/pom.xml
}

install_packages maven python3 python3-venv
command -v javac >/dev/null || install_packages default-jdk-headless
make_venv target/cloud-venv tests/cloud/requirements.txt
trino_jars
case ${1:-} in
    --measure) exec target/cloud-venv/bin/python -B tests/cloud/measure.py ;;
    *) exec target/cloud-venv/bin/python -B -m pytest -q -p no:cacheprovider tests/cloud "$@" ;;
esac
