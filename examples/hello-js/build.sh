#!/bin/sh
# Builds plugin.wasm beside plugin.toml. Needs Node.js 20.19 or later and npm.
set -eu
cd "$(dirname "$0")"

# The interfaces of WASI, in the version that this tool's engine was built for:
# those of the same series are alike.
mkdir -p wit/deps
wasi=../../host/adapters/wit/deps
for package in cli clocks filesystem http io random sockets; do
    sed 's/0\.2\.12/0.2.10/' "$wasi/$package.wit" > "wit/deps/$package.wit"
done
cp -R "$wasi/keyvalue-draft2" wit/deps/

npm ci --no-audit --no-fund

# Written aside and moved, so that nobody finds half a file.
npx --no-install componentize-js src/hello.js --wit wit --world-name hello-js --out plugin.wasm.new
mv plugin.wasm.new plugin.wasm
