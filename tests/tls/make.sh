#!/bin/sh -e
# Makes the certificates of tests/gateway/network.rs anew. They guard nothing: the authority's own key is
# thrown away, and the servers' key is here for everybody to read.
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; }
authority=$(mktemp -d)
trap 'rm -rf "$authority"' EXIT
cd "$authority"
key > ca.key
key > server.key
cat > openssl.cnf <<END
[ca]
default_ca = here
[here]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
END
touch index
echo 01 > serial
openssl req -new -key ca.key -subj "/CN=Authority of the gateway's tests" -out ca.csr
openssl ca -batch -notext -config openssl.cnf -extensions authority -selfsign -keyfile ca.key -in ca.csr \
    -startdate 20200101000000Z -enddate 21200101000000Z -out ca.pem 2> /dev/null
issue() { # file, names, from, until
    printf '[server]\nsubjectAltName = %s\nextendedKeyUsage = serverAuth\n' "$2" > server.cnf
    openssl req -new -key server.key -subj "/CN=$1" -out "$1.csr"
    openssl ca -batch -notext -config openssl.cnf -extfile server.cnf -extensions server -cert ca.pem \
        -keyfile ca.key -in "$1.csr" -startdate "$3" -enddate "$4" -out "$1.pem" 2> /dev/null
}
ours=DNS:localhost,DNS:kinesis.test,IP:127.0.0.1
issue valid "$ours" 20200101000000Z 21190101000000Z
issue expired "$ours" 20200101000000Z 20210101000000Z
issue future "$ours" 21000101000000Z 21190101000000Z
issue other-name DNS:portal.example 20200101000000Z 21190101000000Z
cp ca.pem valid.pem expired.pem future.pem other-name.pem server.key "$OLDPWD"
