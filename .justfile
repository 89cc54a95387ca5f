# `just NAME`, for those who have it; each is a command of docs/CONTRIBUTING.md.

demo:
    packaging/demo.sh

test:
    packaging/test.sh

all:
    packaging/test.sh all

lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

bench *LOADS:
    cargo bench --locked --bench gateway -- {{LOADS}}

deb ARCH="amd64":
    packaging/build-deb.sh {{ARCH}}
