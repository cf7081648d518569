# The habits; every recipe is a script or one cargo command.

# list the recipes
default:
    @just --list

# everything that CI runs
test:
    scripts/test.sh

# the main job: 1000 processes, one record, before and after; arguments are passed on
torture *args:
    scripts/torture.sh {{ args }}

# faults of every kind, and what they leave; arguments are passed on (--long, --bite, a check's name)
prove *args:
    scripts/prove.sh {{ args }}

# the benchmarks
bench *args:
    cargo run --release --locked -p commonhold-bench -- {{ args }}

# clippy, and what may come into the tree
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo deny check bans licenses sources

# the documentation, with every warning an error
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked

# format the tree
fmt:
    cargo fmt --all
