#!/bin/sh
# Builds plugin.wasm beside plugin.toml. Needs Python 3.10 or later with venv.
set -eu
cd "$(dirname "$0")"

# The tool looks for interfaces of others in `deps`.
mkdir -p wit/deps
cp -R ../../host/adapters/wit/deps/*.wit ../../host/adapters/wit/deps/keyvalue-draft2 wit/deps/

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt

# Written aside and moved, so that nobody finds half a file.
.venv/bin/componentize-py --wit-path wit --world hello-py componentize app --output plugin.wasm.new
mv plugin.wasm.new plugin.wasm
