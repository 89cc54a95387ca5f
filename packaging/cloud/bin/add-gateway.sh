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
#                    What is wrong in it is said before anything is made. A certificate that ends within 60 days is
#                    made anew for the key that is in its folder: gateway.pem alone is to be taken to the gateway then
#   --remove         certificate: it is revoked, and AWS is told; access key: the gateway's user is deleted. The hour for
#                    which AWS has let the gateway in already still passes
#   --dry-run        say what would be made
#   --yes            with --remove: do not ask
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# NAME is the gateway's id: 1 to 64 letters, digits, ".", "_" or "-". A certificate is valid for a year. A gateway with an
# access key is an IAM user of its own, STACK-NAME.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/certificates.sh
. "$cloud/lib/certificates.sh"

KEYS_MAX=2             # IAM: access keys of one user.
USER_CHARACTERS_MAX=64 # IAM: of its name.
RENEW_DAYS=60

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
declare -A sensors=() # Of each gateway, its blocks of the configuration.
gateways=()

# read_csv FILE: fills these two, or is the end.
read_csv() {
    local gateway sensor address number=0
    local -A known=()
    [ -r "$1" ] || usage "there is no file $1 that could be read"
    while IFS=, read -r gateway sensor address || [ -n "$gateway" ]; do
        number=$((number + 1))
        address=${address%$'\r'}
        case $gateway,$sensor,$address in gateway,sensor,address | ,,) continue ;; esac
        is_name "$gateway" || usage "$1, line $number: \"$gateway\" is no name of a gateway"
        [ -n "${sensors[$gateway]+there}" ] || gateways+=("$gateway")
        sensors[$gateway]+=
        [ -n "$sensor$address" ] || continue
        is_name "$sensor" || usage "$1, line $number: \"$sensor\" is no name of a sensor"
        [[ $address =~ ^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$ ]] ||
            usage "$1, line $number: \"$address\" is no Bluetooth address, such as D4:4A:C4:B0:24:03"
        [ -z "${known[$gateway/$sensor]-}" ] || usage "$1, line $number: $gateway has a sensor $sensor already"
        known[$gateway/$sensor]=yes
        sensors[$gateway]+=$'\n[[sensor]]\nid = "'$sensor$'"\naddress = "'$address$'"\n'
    done <"$1"
    [ ${#gateways[@]} -gt 0 ] || usage "$1 names no gateway"
}

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

write_config() {
    cat >"$folder/config.toml" <<EOF
[gateway]
id = "$name"
$(sensor_blocks)

[kinesis]
stream = "${OUTPUT[StreamArn]##*/}"
region = "$AWS_REGION"
EOF
}

# A folder that exists holds an earlier key.
make_folder() {
    [ ! -e "$folder" ] || die "$folder exists already: move it away, or give --output FOLDER. Nothing was made"
    umask 077
    mkdir -p "$folder"
}

make_certificate() {
    make_folder
    issue "$ca" "$name" "$folder"
    write_config
    cat >"$folder/aws-config" <<EOF
[default]
credential_process = /usr/local/bin/aws_signing_helper credential-process --certificate /etc/hr-gatewayd/gateway.pem --private-key /etc/hr-gatewayd/gateway.key --trust-anchor-arn ${OUTPUT[TrustAnchorArn]} --profile-arn ${OUTPUT[ProfileArn]} --role-arn ${OUTPUT[GatewayRoleArn]}
EOF
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

# Sets USER_NAME.
name_user() {
    USER_NAME=$STACK-$name
    [ ${#USER_NAME} -le $USER_CHARACTERS_MAX ] ||
        usage "the IAM user would be $USER_NAME, which is longer than $USER_CHARACTERS_MAX characters: a shorter name, or certificates (ca.sh)"
}

user_exists() {
    aws iam get-user --user-name "$USER_NAME" >/dev/null 2>"$WORK/error" && return
    grep -q NoSuchEntity "$WORK/error" || die "cannot look for the user $USER_NAME: $(cat "$WORK/error")"
    return 1
}

# A user of its own: a key that is taken away, or found in the wrong place, is one gateway's.
make_access_key() {
    local keys=()
    name_user
    if user_exists; then
        lines_of keys access_keys "$USER_NAME"
        [ ${#keys[@]} -lt $KEYS_MAX ] ||
            die "the user $USER_NAME has ${#keys[@]} access keys, and IAM allows no more: $0 --remove $name, then this again"
        make_folder
    else
        make_folder
        aws iam create-user --path "/$STACK/" --user-name "$USER_NAME" --tags "Key=$STACK_TAG,Value=$STACK" --output json >/dev/null
    fi
    aws iam add-user-to-group --group-name "${OUTPUT[GatewayGroupName]}" --user-name "$USER_NAME"
    write_config
    aws iam create-access-key --user-name "$USER_NAME" --output text --query 'AccessKey.[AccessKeyId,SecretAccessKey]' |
        awk -F '\t' '{ printf "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", $1, $2 }' >"$folder/aws-credentials"
    [ -s "$folder/aws-credentials" ] || die "no access key came back: aws iam list-access-keys --user-name $USER_NAME"
}

add_by_user() {
    name_user
    [ -z "$DRY_RUN" ] || {
        echo "would make $folder with an access key of the user $USER_NAME, and the configuration"
        return
    }
    make_access_key
    print_steps "aws-credentials (the secret key: it is shown nowhere else)" "
    sudo install -m 0600 aws-credentials /etc/hr-gatewayd/"
    echo "The key does not expire. To take it away again: $0 --remove $name"
}

# add_all MAKE: each gateway of the file, by make_certificate or make_access_key.
add_all() {
    local made=0 renewed=0 left=0
    for name in "${gateways[@]}"; do
        folder=$folders/$name
        if [ ! -e "$folder" ]; then
            [ -n "$DRY_RUN" ] || "$1"
            made=$((made + 1))
            echo "${DRY_RUN:+would be }made: $folder"
        elif [ "$1" = make_certificate ] && ends_soon "$folder/gateway.pem"; then
            [ -n "$DRY_RUN" ] || renew "$ca" "$name" "$folder"
            renewed=$((renewed + 1))
            echo "${DRY_RUN:+would be }renewed: $folder/gateway.pem"
        else
            left=$((left + 1))
        fi
    done
    echo "$made made, $renewed renewed, $left left as they were, in $folders. How they get to the gateways: docs/fleet.md"
}

ends_soon() {
    [ -r "$1" ] || die "there is no $1: put back what was in its folder, or move that away"
    ! openssl x509 -in "$1" -noout -checkend $((RENEW_DAYS * 86400)) >/dev/null
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
    name_user
    user_exists || die "there is no user $USER_NAME. Those that are there: aws iam get-group --group-name ${OUTPUT[GatewayGroupName]}"
    [ -z "$DRY_RUN" ] || {
        echo "would delete the user $USER_NAME and its access keys"
        return
    }
    confirm "$name" "The access keys of $name will be refused."
    delete_gateway_user "$USER_NAME" "${OUTPUT[GatewayGroupName]}"
    echo "deleted: the user $USER_NAME and its access keys"
}

connect
need_lake
case ${PARAMETER[GatewayIdentity]:-none} in
    roles-anywhere)
        if [ -n "$csv" ]; then
            check_ca
            add_all make_certificate
        elif [ -n "$remove" ]; then
            remove_certificate
        else
            add_by_certificate
        fi
        ;;
    user)
        if [ -n "$csv" ]; then
            for name in "${gateways[@]}"; do name_user; done
            add_all make_access_key
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
