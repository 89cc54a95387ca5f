# shellcheck shell=bash disable=SC2034  # Variables are for the scripts that source it.
# Sourced by the scripts beside it: their common options, how they reach AWS, what they ask and how they fail.
# What must hold: a script that ends well did what it says; one that fails says what to do next; region, profile and
# endpoint are those that the AWS CLI itself would take; nothing secret is an argument of a process.

# A Mac's own is of 2007.
if [ "${BASH_VERSINFO[0]}" -lt 4 ]; then
    echo "$(basename "$0"): bash 4 or newer is needed: brew install bash" >&2
    exit 1
fi
LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
STACK=hr-gatewayd
STACK_TAG=hr-gatewayd:stack # On all that a stack makes; what outlives the stack is found again by it.
PROFILE=
DRY_RUN=
YES=
WORK= # A folder for this run, where only its owner may look.

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

usage() {
    printf '%s: %s; see --help\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# The script's own header, from its second line on.
show_help() {
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
}

# common_option "$@": true if the first word is an option that every script has. TAKEN is how many words it was.
common_option() {
    TAKEN=1
    case $1 in
        -h | --help)
            show_help
            exit 0
            ;;
        --dry-run) DRY_RUN=yes ;;
        --yes) YES=yes ;;
        --stack | --region | --profile)
            value_of "$@"
            case $1 in
                --stack) STACK=$2 ;;
                --region) export AWS_REGION=$2 AWS_DEFAULT_REGION=$2 ;;
                --profile) PROFILE=$2 ;;
            esac
            TAKEN=2
            ;;
        *) return 1 ;;
    esac
}

# value_of OPTION VALUE...: fails if the value is missing.
value_of() {
    [ $# -ge 2 ] || usage "$1 needs a value"
}

# need COMMAND HOW: fails, saying how to get it, if the command is missing.
need() {
    command -v "$1" >/dev/null || die "$1 is missing: $2"
}

# Makes sure that there is a CLI, a region and credentials, and says which account it will be: ACCOUNT.
connect() {
    [[ $STACK =~ ^[A-Za-z][A-Za-z0-9-]{0,99}$ ]] || usage "--stack takes letters, digits and -, a letter first: \"$STACK\""
    need aws "install the AWS CLI, 1.29 or 2.13 or later (https://aws.amazon.com/cli/)"
    need python3 "apt-get install python3"
    make_work
    export AWS_PAGER='' PYTHONDONTWRITEBYTECODE=1
    if [ -n "$PROFILE" ]; then
        # As the CLI does with its own --profile: keys in the environment do not outdo it.
        unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
        export AWS_PROFILE=$PROFILE
    fi
    local region
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region 2>/dev/null || true)}}
    [ -n "$region" ] || die "no region is set: give --region ap-south-1 (or yours), or set AWS_REGION, or run: aws configure"
    # Version 2 of the CLI reads the first, version 1 the second.
    export AWS_REGION=$region AWS_DEFAULT_REGION=$region
    ACCOUNT=$(aws sts get-caller-identity --query Account --output text 2>"$WORK/error") || {
        sed 's/^/    /' "$WORK/error" >&2
        die "AWS does not know who asks: give --profile NAME, or run: aws configure (keys) or aws sso login (single sign-on)"
    }
}

# WORK is gone when the script is.
make_work() {
    [ -z "$WORK" ] || return 0
    umask 077
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
}

# confirm WORD SENTENCE: goes on only if WORD is typed, or with --yes.
confirm() {
    [ -z "$YES" ] || return 0
    local typed
    [ -t 0 ] || die "$2 Nobody is there to ask: --yes says it in advance."
    printf '%s\nType %s to go on: ' "$2" "$1"
    read -r typed
    [ "$typed" = "$1" ] || die "nothing was done: \"$typed\" is not \"$1\""
}

# stack_status NAME: its state, or NONE.
stack_status() {
    local answer
    if answer=$(aws cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].StackStatus' --output text 2>&1); then
        echo "$answer"
    elif [[ $answer == *"does not exist"* ]]; then
        echo NONE
    else
        die "cannot look at the stack $1: $answer"
    fi
}

declare -A OUTPUT PARAMETER

# load_stack NAME: its outputs into OUTPUT and its parameters into PARAMETER. False if there is no such stack.
load_stack() {
    local key value status
    OUTPUT=() PARAMETER=()
    status=$(stack_status "$1") || exit 1
    [ "$status" != NONE ] || return 1
    aws cloudformation describe-stacks --stack-name "$1" --output json >"$WORK/stack.json" || exit 1
    while IFS=$'\t' read -r key value; do OUTPUT[$key]=$value; done < <(stack_pairs Output)
    while IFS=$'\t' read -r key value; do PARAMETER[$key]=$value; done < <(stack_pairs Parameter)
}

# Values of one line only: the CA's certificate is not among them.
stack_pairs() {
    python3 -c '
import json, sys
path, kind = sys.argv[1:]
for pair in json.load(open(path))["Stacks"][0].get(kind + "s") or []:
    value = pair.get(kind + "Value") or ""
    if "\n" not in value:
        print(pair[kind + "Key"], value, sep="\t")' "$WORK/stack.json" "$1"
}

# need_lake: the lake's outputs, or the end.
need_lake() {
    load_stack "$STACK" ||
        die "there is no stack $STACK in $AWS_REGION of account $ACCOUNT: run deploy.sh, or give --stack, --region, --profile"
    [ -n "${OUTPUT[Bucket]:-}" ] || die "the stack $STACK has no outputs: its creation did not finish; run deploy.sh again"
}

# resources STACK TYPE: the physical names of the stack's resources of this type.
resources() {
    aws cloudformation describe-stack-resources --stack-name "$1" --output text \
        --query "StackResources[?ResourceType=='$2'].[PhysicalResourceId]" | sed '/^None$/d'
}

# master_credentials: the domain's OPENSEARCH_USER and OPENSEARCH_PASSWORD into the environment, from the loaded live
# stack's secret. False if the domain is not the stack's and they are not in the environment already.
master_credentials() {
    local secret
    if [ -n "${OUTPUT[MasterSecretArn]:-}" ]; then
        aws secretsmanager get-secret-value --secret-id "${OUTPUT[MasterSecretArn]}" --query SecretString --output text \
            >"$WORK/secret" || exit 1
        secret=$(python3 -c 'import json, sys
print(*map(json.load(open(sys.argv[1])).get, ("username", "password")), sep="\t")' "$WORK/secret") || exit 1
        IFS=$'\t' read -r OPENSEARCH_USER OPENSEARCH_PASSWORD <<<"$secret"
    fi
    export OPENSEARCH_USER OPENSEARCH_PASSWORD
    [[ -n ${OPENSEARCH_USER:-} && -n ${OPENSEARCH_PASSWORD:-} ]]
}

# lines_of NAME COMMAND...: the command's lines into the array NAME. Its failure is ours.
lines_of() {
    local text
    text=$("${@:2}")
    mapfile -t "$1" < <([ -z "$text" ] || printf '%s\n' "$text")
}
