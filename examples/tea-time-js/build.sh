#!/bin/sh
# Builds plugin.wasm beside plugin.toml. Needs Node.js 20.19 or later and npm.
set -eu
cd "$(dirname "$0")"

# The tool looks for contracts of others in `deps`: a link cannot grow old as a
# copy would.
ln -sfn ../../../wit wit/deps

npm ci --no-audit --no-fund

# What JavaScript usually gets from WASI is switched off: nothing of it is used,
# and a component without it needs no adapters. Written aside and moved, so that
# nobody finds half a file.
npx --no-install componentize-js src/tea-time.js \
    --wit wit --world-name tea-time-js \
    --disable random stdio clocks http fetch-event \
    --out plugin.wasm.new
mv plugin.wasm.new plugin.wasm
