#!/usr/bin/env bash
# What the cloud side costs a month, from the templates' own choices and a dated file of list prices.
#
#   packaging/cloud/bin/estimate.sh --sensors 1 --live
#   packaging/cloud/bin/estimate.sh --sensors 200 --gateways 40 --hours 12 --parameter StreamMode=ON_DEMAND
#
#   --sensors N      watches and straps
#   --gateways M     default: 1
#   --hz R           readings a second of each; default 1
#   --hours H        of each day in which it measures; default 24
#   --lines L        readings that a record carries; default 1, as they are sent at once; drain.linger = "10s" makes it 10
#   --months K       for how long readings have been collected already: what lies in S3; default 12
#   --live           with Lambda and OpenSearch, on a domain that holds it until the retention takes it away
#   --windows flink  with windows by Managed Service for Apache Flink
#   --no-curated     without the curated table
#   --parameter KEY=VALUE   a template's parameter that is not at its default. May be repeated
#   --region NAME    a region of the price file; default AWS_REGION, or us-east-1
#   --prices FILE    another price file
#
# Talks to nobody. Left out: your own queries, data transfer out, taxes, free tiers.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
case " $* " in *" --help "* | *" -h "*)
    show_help
    exit 0
    ;;
esac
need python3 "apt-get install python3"
exec "$cloud/lib/estimate.py" "$@"
