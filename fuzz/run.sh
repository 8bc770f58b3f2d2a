#!/usr/bin/env bash
# Fuzzes every target for SECONDS each (default 20) on the stable toolchain: fuzz/run.sh [SECONDS] [TARGET...]
#
# Coverage comes from rustc's own -C flags, which stable has; cargo-fuzz and nightly are not needed. libFuzzer
# itself is compiled from the crate libfuzzer-sys by the C++ compiler.
set -euo pipefail
cd "$(dirname "$0")"
seconds="${1:-20}"
[ $# -gt 0 ] && shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  targets=(number json normalised marks mirror complement ids venue_book kalshi polymarket)
fi
command -v c++ > /dev/null || { echo "fuzz: a C++ compiler is needed (package g++)" >&2; exit 1; }
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# A target given explicitly keeps the flags away from build scripts.
host="$(rustc -vV | sed -n 's/^host: //p')"
cargo build --release --locked --target "$host" --bins

# One target: libFuzzer is single-threaded, so that as many run side by side as there are cores.
fuzz_one() {
  local target="$1" found="target/found/$1"
  # New inputs go to a scratch folder: the committed corpus grows by decision, not by running.
  mkdir -p "$found" "corpus/$target" artifacts
  local options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="artifacts/$target-")
  local dictionary=(); [ -f "dictionary.txt" ] && dictionary=(-dict=dictionary.txt)
  "target/$host/release/$target" "${options[@]}" "${dictionary[@]}" "$found" "corpus/$target" > "target/$target.log" 2>&1 || {
    tail -n 40 "target/$target.log"
    echo "fuzz: $target FAILED, see fuzz/artifacts/" >&2
    return 1
  }
  awk -v target="$target" '/stat::number_of_executed_units/ {runs=$2} /cov: [0-9]+ ft/ {for (i=1;i<=NF;i++) if ($i=="cov:") cov=$(i+1)}
    END {printf "fuzz: %-12s ok, %d runs, %d edges\n", target, runs, cov}' "target/$target.log"
}
export -f fuzz_one
export seconds host
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz_one "$1"' fuzz {}
