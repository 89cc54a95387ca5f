#!/usr/bin/env bash
# How the cloud side is, on one screen: each line ends with OK or with what to do.
#
#   packaging/cloud/bin/status.sh
#
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# Reads only. Exit status: 0 all is well, 1 a person is needed.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/checks.sh
. "$cloud/lib/checks.sh"

while [ $# -gt 0 ]; do
    common_option "$@" || usage "unknown option \"$1\""
    shift "$TAKEN"
done
# check_others: the stacks by choice, under whatever name: they tell the lake's topic of their alarms. Adds to `alarms`.
check_others() {
    local stack
    ask stacks cloudformation describe-stacks \
        --query "Stacks[?Parameters[?ParameterKey=='TopicArn' && ParameterValue=='$topic']].StackName" || return 0
    for stack in $ANSWER; do
        [[ " ${alarms[*]} None " != *" $stack "* ]] || continue
        check_stack "$stack"
        alarms+=("$stack")
    done
}

connect
need_lake
echo "account $ACCOUNT, region $AWS_REGION"
check_stack "$STACK"
check_stream "${OUTPUT[StreamArn]##*/}"
check_delivery "${OUTPUT[DeliveryName]}"
[ "${PARAMETER[RawDelivery]:-no}" = no ] || check_delivery "${OUTPUT[DeliveryName]}_raw"
check_errors "${OUTPUT[Bucket]}" "${OUTPUT[DeliveryName]}" "${OUTPUT[Prefix]:-}"
check_budget "$STACK"
check_listeners "${OUTPUT[Topic]}"
alarms=("$STACK")
topic=${OUTPUT[Topic]}
check_stack "$STACK-curated"
if load_stack "$STACK-curated"; then
    alarms+=("$STACK-curated")
    check_merge "${OUTPUT[StateMachineArn]:-}"
fi
check_stack "$STACK-streaming"
if load_stack "$STACK-streaming"; then
    alarms+=("$STACK-streaming")
    check_application "$STACK-streaming"
fi
check_stack "$STACK-live"
if load_stack "$STACK-live"; then
    alarms+=("$STACK-live")
    check_indexer "${OUTPUT[IndexerName]:-}" "$STACK-live"
    check_queue "${OUTPUT[FailureQueueUrl]:-}"
    check_domain "${OUTPUT[DomainArn]:-}" "${PARAMETER[NodeCount]:-1}"
fi
check_others
check_alarms "${alarms[@]}"
check_measurements
exit "$NEEDED"
