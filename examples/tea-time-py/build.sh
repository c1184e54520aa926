#!/bin/sh
# Builds plugin.wasm beside plugin.toml. Needs Python 3.10 or later with venv.
set -eu
cd "$(dirname "$0")"

# The tool looks for contracts of others in `deps`: a link cannot grow old as a
# copy would.
ln -sfn ../../../wit wit/deps

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt

# What Python usually gets from WASI is stubbed: nothing of it is used, and a
# component without it needs no adapters. Written aside and moved, so that nobody
# finds half a file.
.venv/bin/componentize-py --wit-path wit --world tea-time-py \
    componentize --stub-wasi app --output plugin.wasm.new
mv plugin.wasm.new plugin.wasm
