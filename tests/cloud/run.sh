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

# A real OpenSearch, once: about 110 MB. The modules' jars come without the two files that a server looks for beside them.
opensearch() {
    local from=tests/cloud/opensearch to=target/cloud-opensearch module
    cmp -s $from/pom.xml $to/pom.xml && return
    rm -rf $to
    mvn --batch-mode --quiet --file $from/pom.xml process-resources
    for module in lang-painless reindex; do
        cp $from/$module/plugin-* $to/opensearch-*/modules/$module
    done
    cp $from/pom.xml $to/pom.xml
}

# What draws the dashboard's panels, once: about 50 MB.
vega() {
    cmp -s tests/cloud/vega/package-lock.json target/cloud-vega/package-lock.json && return
    command -v npm >/dev/null || install_packages nodejs npm
    rm -rf target/cloud-vega
    mkdir -p target/cloud-vega
    cp tests/cloud/vega/package.json tests/cloud/vega/package-lock.json target/cloud-vega
    npm --prefix target/cloud-vega ci --no-audit --no-fund --loglevel error
}

prepare_build
install_packages binutils curl maven mosquitto openssl python3 python3-venv qemu-user-static shellcheck
command -v javac >/dev/null || install_packages default-jdk-headless
make_venv target/cloud-venv tests/cloud/requirements.txt
trino_jars
opensearch
vega
case ${1:-} in
    --measure) exec target/cloud-venv/bin/python -B tests/cloud/measure.py ;;
    # Two at a time: each file's tests stay together, as they share what they started.
    *) exec target/cloud-venv/bin/python -B -m pytest -q -p no:cacheprovider -n 2 --dist loadfile tests/cloud "$@" ;;
esac
