#!/usr/bin/env bash
# Gives a gateway the right to put readings on the stream, and prints what to configure and install there.
# Installs nothing: the files and commands are for you to take to the gateway.
#
#   packaging/cloud/bin/add-gateway.sh living-room --ca DIR    with a certificate (the stack was deployed with --ca DIR)
#   packaging/cloud/bin/add-gateway.sh living-room             with an access key (GatewayIdentity=user, a first try)
#   packaging/cloud/bin/add-gateway.sh --csv FILE --ca DIR     many at once; run again, it makes what is new and renews
#   packaging/cloud/bin/add-gateway.sh --remove living-room --ca DIR    takes the right away again
#
#   --output FOLDER  where key, certificate and configuration go; default ./hr-gateway-NAME, with --csv a folder for each
#                    gateway in ./hr-gateways
#   --csv FILE       lines of gateway,sensor,address; a gateway has as many lines as sensors, and at least one: "gym,,".
#                    What is wrong in it is said before anything is made. A certificate that ends within 60 days, or is of
#                    another CA, is made anew for the key that is in its folder: gateway.pem alone is to be taken to the
#                    gateway then. The exit status is 1 if a gateway could not be enrolled; the others are
#   --remove         certificate: it is revoked, and AWS is told; access key: the gateway's user is deleted. The hour for
#                    which AWS has let the gateway in already still passes
#   --dry-run        say what would be made
#   --yes            with --remove: do not ask
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# NAME is the gateway's id: 1 to 64 letters, digits, ".", "_" or "-". A certificate is valid for a year. A gateway with an
# access key is an IAM user of its own, STACK.NAME.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/certificates.sh
. "$cloud/lib/certificates.sh"
# shellcheck source=packaging/cloud/lib/gateway_users.sh
. "$cloud/lib/gateway_users.sh"
# shellcheck source=packaging/cloud/lib/enrolment.sh
. "$cloud/lib/enrolment.sh"

# As src/reading.rs has it.
is_name() {
    [[ $1 =~ ^[A-Za-z0-9._-]{1,64}$ && $1 != . && $1 != .. ]]
}

name='' ca='' remove='' folder='' csv=''
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --remove) remove=yes ;;
        --ca | --output | --csv)
            value_of "$@"
            case $1 in --ca) ca=$2 ;; --output) folder=$2 ;; --csv) csv=$2 ;; esac
            shift
            ;;
        -*) usage "unknown option \"$1\"" ;;
        *)
            [ -z "$name" ] || usage "one gateway at a time"
            name=$1
            ;;
    esac
    shift
done
if [ -n "$csv" ]; then
    [ -z "$name$remove" ] || usage "--csv adds all gateways of the file: no NAME and no --remove beside it"
    read_csv "$csv"
    folders=${folder:-hr-gateways}
else
    is_name "$name" || usage "\"$name\" is no name: use 1 to 64 letters, digits, \".\", \"_\" or \"-\""
    folder=${folder:-hr-gateway-$name}
fi

# The CA in --ca is the one that the stack trusts, or every certificate would be refused.
check_ca() {
    [ -n "$ca" ] || usage "the stack identifies gateways by certificates: give --ca DIR, the folder that ca.sh made"
    need openssl "apt-get install openssl"
    [[ -r $ca/ca.key && -r $ca/openssl.cnf ]] || die "$ca has no CA of ca.sh, or you may not read it"
    aws cloudformation describe-stacks --stack-name "$STACK" --output json \
        --query "Stacks[0].Parameters[?ParameterKey=='CaCertificate'].ParameterValue" |
        python3 -c 'import json, sys
trusted, own = json.load(sys.stdin)[0], open(sys.argv[1]).read()
sys.exit("".join(trusted.split()) != "".join(own.split()))' "$ca/ca.pem" ||
        die "the stack $STACK trusts another CA than the one in $ca: give that one's folder, or run deploy.sh --ca $ca"
}

# The sensors of the file, or how to put some in.
sensor_blocks() {
    if [ -n "${sensors[$name]-}" ]; then
        printf %s "${sensors[$name]}"
    else
        cat <<'EOF'

# One block for each watch or strap: `hr-gatewayd scan` prints it for each that is nearby, by its address.
#[[sensor]]
#id = "my-watch"
#address = "D4:4A:C4:B0:24:03"
EOF
    fi
}

config() {
    cat <<EOF
[gateway]
id = "$name"
$(sensor_blocks)

[kinesis]
stream = "${OUTPUT[StreamArn]##*/}"
region = "$AWS_REGION"
EOF
}

# make_folder MAKE: with what MAKE puts into it. It is there when all of it is; one that exists holds an earlier key.
make_folder() {
    local whole=$folder
    [ ! -e "$whole" ] || die "$whole exists already: move it away, or give --output FOLDER. Nothing was made"
    folder=$whole.part
    rm -rf "$folder"
    umask 077
    mkdir -p "$folder"
    config >"$folder/config.toml"
    "$1"
    mv "$folder" "$whole"
    folder=$whole
}

certificate() {
    cat >"$folder/aws-config" <<EOF
[default]
credential_process = /usr/local/bin/aws_signing_helper credential-process --certificate /etc/hr-gatewayd/gateway.pem --private-key /etc/hr-gatewayd/gateway.key --trust-anchor-arn ${OUTPUT[TrustAnchorArn]} --profile-arn ${OUTPUT[ProfileArn]} --role-arn ${OUTPUT[GatewayRoleArn]}
EOF
    issue "$ca" "$name" "$folder"
}

make_certificate() {
    make_folder certificate
}

add_by_certificate() {
    check_ca
    [ -z "$DRY_RUN" ] || {
        echo "would make $folder with a key, a certificate for $GATEWAY_DAYS days signed by $ca, and the configuration"
        return
    }
    make_certificate
    print_steps "gateway.pem gateway.key aws-config" "
    # the helper of IAM Roles Anywhere, for the gateway's processor: docs.aws.amazon.com, \"Get temporary security
    # credentials from IAM Roles Anywhere\"; put it at /usr/local/bin/aws_signing_helper
    sudo install -m 0644 gateway.pem aws-config /etc/hr-gatewayd/
    sudo install -m 0640 -g hr-gatewayd gateway.key /etc/hr-gatewayd/"
    echo "Valid until $(openssl x509 -in "$folder/gateway.pem" -noout -enddate | cut -d = -f 2). It can be revoked: $0 --remove $name --ca $ca"
}

access_key() {
    aws iam create-access-key --user-name "$USER_NAME" --output text --query 'AccessKey.[AccessKeyId,SecretAccessKey]' |
        awk -F '\t' '{ printf "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", $1, $2 }' >"$folder/aws-credentials"
    [ -s "$folder/aws-credentials" ] || die "no access key came back: aws iam list-access-keys --user-name $USER_NAME"
}

# A user of its own: a key that is taken away, or found in the wrong place, is one gateway's.
make_access_key() {
    local keys=()
    name_user "$name"
    [ ! -e "$folder" ] || die "$folder exists already: move it away, or give --output FOLDER. Nothing was made"
    if user_exists; then
        lines_of keys access_keys "$USER_NAME"
        [ ${#keys[@]} -lt $KEYS_MAX ] ||
            die "the user $USER_NAME has ${#keys[@]} access keys, and IAM allows no more: $0 --remove $name, then this again"
    fi
    make_user "${OUTPUT[GatewayGroupName]}"
    make_folder access_key
}

add_by_user() {
    name_user "$name"
    [ -z "$DRY_RUN" ] || {
        echo "would make $folder with an access key of the user $USER_NAME, and the configuration"
        return
    }
    make_access_key
    print_steps "aws-credentials (the secret key: it is shown nowhere else)" "
    sudo install -m 0600 aws-credentials /etc/hr-gatewayd/"
    echo "The key does not expire. To take it away again: $0 --remove $name"
}

# print_steps FILES COMMANDS
print_steps() {
    cat <<EOF
In $folder: $1, and config.toml:

$(sed 's/^/    /' "$folder/config.toml")

Put your sensors in. Then take the folder to the gateway, and there:
$2
    sudo install -m 0640 -g hr-gatewayd config.toml /etc/hr-gatewayd/
    sudo hr-gatewayd check --online
    sudo systemctl restart hr-gatewayd
Then delete the folder here and there.

EOF
}

remove_certificate() {
    local serials
    check_ca
    serials=$(valid_serials "$ca" "$name")
    [ -n "$serials" ] || echo "$ca knows no valid certificate of $name; AWS is told the list as it is"
    [ -z "$DRY_RUN" ] || {
        echo "would revoke: ${serials:-nothing}"
        return
    }
    [ -z "$serials" ] || confirm "$name" "The gateway $name will be refused."
    revoke "$ca" "$name"
    publish_revoked "$ca"
    echo "revoked: $name. AWS gives it no new keys; those it has end within the hour"
}

remove_user() {
    name_user "$name"
    user_exists || die "there is no user $USER_NAME. Those that are there: aws iam list-users --path-prefix /$STACK/"
    [ -z "$DRY_RUN" ] || {
        echo "would delete the user $USER_NAME and its access keys"
        return
    }
    confirm "$name" "The access keys of $name will be refused."
    delete_user "$USER_NAME"
    echo "deleted: the user $USER_NAME and its access keys"
}

connect
need_lake
case ${PARAMETER[GatewayIdentity]:-none} in
    roles-anywhere)
        if [ -n "$csv" ]; then
            check_ca
            enrol_all make_certificate look_at_certificate
        elif [ -n "$remove" ]; then
            remove_certificate
        else
            add_by_certificate
        fi
        ;;
    user)
        if [ -n "$csv" ]; then
            for name in "${gateways[@]}"; do name_user "$name"; done
            enrol_all make_access_key look_at_access_key
        elif [ -n "$remove" ]; then
            remove_user
        else
            add_by_user
        fi
        ;;
    *)
        die "the stack $STACK lets no gateway in. For certificates: $cloud/bin/ca.sh DIR, then deploy.sh --ca DIR;
    for a first try: deploy.sh --parameter GatewayIdentity=user"
        ;;
esac
