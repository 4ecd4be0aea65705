#!/usr/bin/env bash
# ci.sh [STAGE...] - the checks of this project; people and CI run the same ones.
#
#   quick         fmt, clippy, docs, scripts, test            (the default)
#   all           quick and every stage against real clients: what CI runs
#   full          all with the long settings, and the fuzzers
#   or any stage by name: see the functions stage_* below
#
# Each stage runs under a time limit, but for some by itself; one that fails does not stop the next. The last line is
# "N passed, N failed, N skipped": the tests and checks of a stage where they are known, else the stage.
# A stage that cannot run here ends with status 77; that is a failure too, unless MAY_SKIP names it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

QUICK=(fmt clippy docs scripts test)
ALL=(build "${QUICK[@]}" counters clients rpc sight recorder conformance sg3 vm package book durability nvme idle spdk)
# Those of tests are stage test's too, with fewer seeds and without optimisation.
FULL=("${ALL[@]}" no_alloc generic mirror sim hostile walk mutants fuzz)

# Those of all and full that leave a core idle run beside others. Neighbours in ALL that have a lane run at once, those of the same lane one
# after another; what is built runs beside those of quick. What they say comes when all of them have ended.
declare -A LANE=([build]=1 [counters]=1 [clients]=1 [rpc]=1 [sight]=1 [recorder]=1 [conformance]=2 [sg3]=3 [durability]=1 [nvme]=2)

# Stages that may say "cannot run here", each with the reason. All others must run.
declare -A MAY_SKIP=([spdk]="no SPDK that pkg-config or SPDK_DIR leads to: it has no Debian package, and nothing here builds it")

# Seconds a stage may take before it is killed and counts as failed; 900 where nothing is said.
declare -A LIMIT=([build]=3600 [clippy]=2700 [docs]=1800 [fmt]=300 [scripts]=300 [test]=3600 [conformance]=2700 [idle]=900 [package]=2400 [sg3]=2400 [vm]=2400 [walk]=1800 [generic]=2400 [mirror]=1800 [sim]=1800 [durability]=3600 [nvme]=5400 [hostile]=2400 [spdk]=2400 [mutants]=7200 [fuzz]=14400)

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} PYTHONDONTWRITEBYTECODE=1
export CI_LEVEL=${CI_LEVEL:-single} # single, quick, all or full: how long the long stages are
export CI_PROFILE=${CI_PROFILE:-release} # cargo's, of the program that clients meet: all and full take what packages and counters take
OUT=${CI_OUT:-target/ci}            # logs and tables that outlive the run

# --- stages ---------------------------------------------------------------------------------------

stage_build() { # what most stages use; from here to the end of this run it is not built again
  # In one go: each by itself would be built with other features of what both use.
  cargo build --locked --profile "$CI_PROFILE" -p lunette -p lunette-counters --bins
  install "target/$CI_PROFILE/lunette" "$OUT/lunette"
  guest_image
}

stage_fmt() { cargo fmt --all --check; }

stage_clippy() { # in full once more without the default features
  cargo clippy --locked --workspace --all-targets -- -D warnings
  [[ $CI_LEVEL != full ]] || cargo clippy --locked --no-default-features -- -D warnings
}

stage_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }

stage_scripts() { # the scripts themselves: they parse, and what judges others can be shown to say no
  local file
  for file in .ci/run scripts/*.sh scripts/rpc/*.sh scripts/lab/*.sh scripts/lab/guest/* scripts/lab/labs/*.sh packaging/debian/{postinst,prerm,postrm} packaging/kubernetes/*.sh; do bash -n "$file"; done
  python3 -c 'import ast, sys
for name in sys.argv[1:]: ast.parse(open(name).read(), name)' scripts/*.py scripts/lab/*.py scripts/lab/labs/*.py
  checks python3 scripts/conformance.py --self-test
  checks python3 scripts/counters.py --self-test
  checks python3 scripts/compliance.py --self-test
  checks python3 scripts/mutate.py --self-test
  checks python3 scripts/book.py --self-test
  checks python3 scripts/compliance.py
}

stage_test() { # and that every test which docs/compliance.md cites was among them
  [[ $CI_LEVEL != all && $CI_LEVEL != full ]] || { packages tgt istgt open-isns-server open-isns-utils; export LUNETTE_PEERS=1 LUNETTE_HOSTILE_SECONDS=5; } # targets and servers to compare with
  tests --workspace
  checks python3 scripts/compliance.py --ran "$TESTS_LOG"
}

stage_tidy() { tests --test it tidy::; }

stage_no_alloc() { tests --release --test no_alloc; }

stage_counters() { # instructions, copies, allocations, … per command, against bench/counters.toml
  packages valgrind binutils
  checks python3 scripts/counters.py
}

stage_sim() { # seeds of the simulator
  local seeds=300
  [[ $CI_LEVEL != full ]] || seeds=10000
  LUNETTE_SIM_SEEDS=$seeds LUNETTE_NVME_SEEDS=$((seeds / 4)) tests --release --test it sim:: -- --show-output
}

stage_hostile() { # every kind of bad input with a verifying client beside it
  LUNETTE_HOSTILE_SECONDS=${LUNETTE_HOSTILE_SECONDS:-60} tests --release --test it hostile::
}

stage_mutants() { # code that docs/rfc7143.toml cites, broken: does the test it cites notice? MUTANTS for another number, SEED for that of another run
  checks python3 scripts/mutate.py --count "${MUTANTS:-20}" ${SEED:+--seed "$SEED"}
}

stage_fuzz() { # 10 million executions of every target, as many targets at once as there are cores; FUZZ_RUNS for fewer
  local target passed=0 failed=0
  command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
  cargo fuzz build -s none
  mkdir -p "$OUT/fuzz"
  cargo fuzz list | xargs -P "$(nproc)" -I TARGET sh -c 'cargo fuzz run -s none TARGET -- "-runs=$1" -max_len=256 -print_final_stats=1 \
    >"$2/TARGET.log" 2>&1 && touch "$2/TARGET.clean"' fuzz "${FUZZ_RUNS:-10000000}" "$OUT/fuzz" || true
  for target in $(cargo fuzz list); do
    echo "-- fuzz $target"
    tail -12 "$OUT/fuzz/$target.log"
    if rm "$OUT/fuzz/$target.clean"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  done
  count "$passed" "$failed" 0
  ((failed == 0 && passed > 0))
}

stage_clients() { # iscsi-ls, iscsi-inq, qemu-img and their like; the commands as they are typed
  release_binary; host_packages
  checks python3 scripts/clients.py
  checks python3 scripts/cli.py
}

stage_rpc() { # SPDK's own clients, spdk-rpc and spdk-cli, drive the JSON-RPC socket
  local venv=$OUT/spdk
  release_binary; host_packages
  [[ -x $venv/bin/spdk-cli ]] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q spdk==26.9 configshell-fb==2.0.3; }
  checks python3 scripts/spdk_rpc.py --bin "$venv/bin"
}

stage_sight() { # what is shown: Prometheus at the metrics, Chromium at the status page, whose pictures are for looking at
  release_binary; host_packages; packages prometheus chromium
  checks python3 scripts/sight.py --out "$OUT/sight"
}

stage_recorder() { # recordings as Wireshark reads them, events, doctor, top in tmux
  release_binary; host_packages; packages tshark tmux
  checks python3 scripts/recorder.py
}

stage_conformance() { # libiscsi's suite against lunette, compared with conformance.toml, and tgt beside it
  local runs=8
  [[ $CI_LEVEL != all ]] || runs=3
  release_binary; host_packages
  checks python3 scripts/conformance.py --runs "$runs" --out "$OUT/conformance"
}

stage_idle() { # CPU, memory and wake-up of a target that has nothing to do
  release_binary; host_packages
  checks python3 scripts/idle.py
}

stage_spdk() { # the feature spdk, where SPDK is installed: unit tests, the contract suite, real clients at its bdevs
  PKG_CONFIG_PATH=${SPDK_DIR:+$SPDK_DIR/lib/pkgconfig:}${PKG_CONFIG_PATH:-} pkg-config --exists spdk_event_bdev || return 77
  cargo clippy --locked --all-targets --features spdk -- -D warnings
  tests --features spdk --lib bdev::spdk
  tests --features spdk --test it docs::
  host_packages
  cargo build --locked --features spdk --bin lunette
  LUNETTE=$PWD/target/debug/lunette checks python3 scripts/spdk.py --out "$OUT/spdk-disks"
  # SPDK's driver at QEMU's controller, which needs hugepages and a device of its own.
  release_binary; guest_image
  SPDK_CONTRACT=$(library_tests --features spdk) GUEST=nvmespdk OUT=$OUT/nvmespdk checks scripts/lab/labs/nvme.sh iommu48
}

stage_nvme() { # the NVMe driver in a guest, at QEMU's controllers with IOMMUs and without; and over TCP at the kernel's target
  local calls=1000 seconds=5 points=60 more= contract perf=${SPDK_NVME_PERF:-${SPDK_DIR:+$SPDK_DIR/bin/spdk_nvme_perf}}
  [[ $CI_LEVEL != full ]] || calls=10000 seconds=60 points=200 more=nvme_planted
  release_binary; guest_image
  contract=$(library_tests)
  OUT=$OUT/nvme checks scripts/lab/labs/nvme.sh iommu39 bare
  CONTRACT=$contract CALLS=$calls GUEST=nvmeserve OUT=$OUT/nvmeserve LIMIT=1500 checks scripts/lab/labs/nvme.sh iommu48
  OUT=$OUT/nvmet checks scripts/lab/labs/nvmet.sh "$contract" nvmet_
  OUT=$OUT/fabric checks scripts/lab/labs/target.sh fabric
  durability_binaries
  LOG_SECONDS=$seconds POINTS=$points checks scripts/lab/labs/durability.sh nvme ${more:+"$more"}
  if [[ $CI_LEVEL != all ]]; then # what CI has no time for
    OUT=$OUT/nvme checks scripts/lab/labs/nvme.sh iommu48
    CONTRACT=$contract GUEST=nvmeserve OUT=$OUT/nvmeserve-bare LIMIT=800 checks scripts/lab/labs/nvme.sh bare
    CONFORM=1 GUEST=nvmeserve OUT=$OUT/conform LIMIT=1200 checks scripts/lab/labs/nvme.sh iommu39
  fi
  # Beside SPDK's driver, where one is named or installed with SPDK_DIR.
  [[ -z ${SPDK_NVME_PERF:-} && ! -x $perf ]] || SPDK_NVME_PERF=$perf GUEST=nvmeperf OUT=$OUT/nvmeperf checks scripts/lab/labs/nvme.sh iommu48
}

stage_vm() { # the Linux kernel's initiator in a guest, with others at the same LUN; disks that grow, come, go and fail; fio's jobs
  local rounds=1
  [[ $CI_LEVEL != full ]] || rounds=10
  release_binary; guest_image
  CHAP=1 DIGESTS=1 OUT=$OUT/vm scripts/lab/labs/initiator-lunette.sh
  count 1 0 0
  ROUNDS=$rounds OUT=$OUT/disks checks scripts/lab/labs/target.sh disks
  OUT=$OUT/multipath checks scripts/lab/labs/target.sh multipath
  OUT=$OUT/cut checks scripts/lab/labs/target.sh cut
  OUT=$OUT/fight checks scripts/lab/labs/target.sh fight
  OUT=$OUT/fio checks scripts/lab/labs/target.sh fio
}

stage_generic() { # in a guest with the generic kernel: its ALUA handler under dm-multipath, which Debian's cloud kernel lacks; and LIO by targetcli
  export LAB_DIR=${LAB_DIR:-$HOME/.cache/guest-lab}-amd64 LAB_FLAVOUR=amd64
  release_binary; CI_BUILT= guest_image
  HANDLER=1 OUT=$OUT/alua checks scripts/lab/labs/target.sh multipath
  OUT=$OUT/lio checks scripts/lab/labs/target.sh lio
}

stage_package() { # what is installed: the .deb by lintian and in a guest with systemd, the unit, the static program and its container
  local long=1
  [[ $CI_LEVEL != all ]] || long=
  packages lintian dpkg-dev python3-yaml binutils
  release_binary; host_packages
  # The static program is built with all that it needs: quickly, as how it is linked is what is looked at.
  BINARY=$LUNETTE PROFILE=dev scripts/package.sh deb static
  checks python3 scripts/package.py
  BINARY=$LUNETTE LONG=$long OUT=$OUT/package checks scripts/lab/labs/package.sh package
}

stage_walk() { # somebody who moves from tgt to lunette in a guest, from dpkg -i to config rollback: what each step said is in $OUT/walk/walk.txt
  packages dpkg-dev tshark
  release_binary; host_packages
  BINARY=$LUNETTE OUT=$OUT/walk LIMIT=900 checks scripts/lab/labs/package.sh walk
}

stage_book() { # docs/: its links, and every command in it that can be run here
  release_binary; host_packages
  checks python3 scripts/book.py
}

stage_sg3() { # sg3_utils, a CD-ROM drive, and devices passed through, at the Linux kernel's initiator
  release_binary; guest_image
  OUT=$OUT/sg3 checks scripts/lab/labs/target.sh sg3 cdrom protect pass
  checks scripts/lab/labs/cdboot.sh
}

stage_durability() { # lunette killed, power cut, QEMU killed; and all of it found to fail without flush or FUA
  local rounds=2 kills=3 seconds=10 points=100 more=
  [[ $CI_LEVEL != full ]] || rounds=20 kills=10 seconds=60 points=200 more=planted_more
  release_binary; guest_image; durability_binaries
  ROUNDS=$rounds KILLS=$kills LOG_SECONDS=$seconds POINTS=$points checks scripts/lab/labs/durability.sh restart log kill planted ${more:+"$more"}
}

stage_mirror() { # RAID 1 in a guest: disks pulled under IO, blocks that cannot be read, power cut; and planted bugs that this has to find
  release_binary; guest_image; durability_binaries
  checks scripts/lab/labs/mirror.sh
}

# --- what stages use ------------------------------------------------------------------------------

count() { echo "$1 $2 $3" >>"$CI_COUNTS"; } # PASSED FAILED SKIPPED

tests() { # cargo test with these arguments; counts its tests, and fails when there was none; its log stays as $TESTS_LOG
  local log rc=0 sums
  log=$(mktemp "$CI_WORK/tests.XXXXXX")
  TESTS_LOG=$log
  cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || rc=1
  sums=$(awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1)
    if ($i ~ /^ignored/) s += $(i-1) } } END { print p + 0, f + 0, s + 0 }' "$log")
  # shellcheck disable=SC2086 # three words
  count $sums
  [[ ${sums%% *} != 0 ]] || { echo "ci: no test ran: cargo test $*" >&2; rc=1; }
  return "$rc"
}

checks() { # a script that ends with "checks: N passed, N failed, N skipped"
  local log rc=0 sums
  log=$(mktemp "$CI_WORK/checks.XXXXXX")
  "$@" 2>&1 | tee "$log" || rc=1
  sums=$(sed -nE 's/^checks: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" | tail -1)
  # shellcheck disable=SC2086 # three words
  if [[ -n $sums ]]; then count $sums; else echo "ci: no count from $*" >&2; rc=1; fi
  return "$rc"
}

durability_binaries() { # what cuts the power, and a daemon that bugs can be planted in
  cargo build --locked -p lunette-initiator --example recorder
  # With the features of all tests, so that it is the one that stage test has made: any small test brings the daemon along.
  cargo test --locked --workspace --test port --no-run
}

library_tests() { # [OPTION...]: the binary of the library's own tests, built; of the whole workspace, so that it is stage test's
  (($#)) || set -- --workspace
  cargo test --locked --lib --no-run --message-format=json "$@" | sed -nE 's/.*"name":"lunette".*"executable":"([^"]+)".*/\1/p' | tail -1
}

release_binary() { # as $LUNETTE: where cargo puts it, `cargo test --release` puts one with the feature sim
  export LUNETTE=$OUT/lunette
  [[ -z ${CI_BUILT:-} ]] || return 0
  cargo build --locked --profile "$CI_PROFILE" --bin lunette
  install "target/$CI_PROFILE/lunette" "$LUNETTE"
}

apt() { # as root, or through sudo; one at a time
  local sudo=()
  [[ $(id -u) = 0 ]] || sudo=(sudo -n)
  flock "$CI_WORK" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >"$CI_WORK/apt.log" 2>&1 ||
    { tail -20 "$CI_WORK/apt.log" >&2; return 1; }
}

apt_lists() { # fetched once in a run
  [[ -e $CI_WORK/lists ]] || { apt update && touch "$CI_WORK/lists"; }
}

missing() { # PACKAGE...: whether any of these Debian packages is not there
  local package rc=1
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) = installed ]] || { echo "ci: missing $package"; rc=0; }
  done
  return "$rc"
}

packages() { # PACKAGE...: those that are not there yet
  missing "$@" || return 0
  apt_lists
  apt install -y --no-install-recommends "$@"
}

host_packages() { # what real clients need
  missing qemu-system-x86 qemu-utils qemu-block-extra libiscsi-bin tgt e2fsprogs bc strace python3 || return 0
  apt_lists
  # In one line these conflict where a backport of qemu-utils is installed: the first line takes that away.
  apt install -y --no-install-recommends qemu-system-x86
  apt install -y --no-install-recommends qemu-utils qemu-block-extra
  apt install -y --no-install-recommends libiscsi-bin tgt e2fsprogs bc strace python3
}

guest_image() { # for scripts/lab
  [[ -z ${CI_BUILT:-} ]] || return 0
  host_packages
  # Package lists that are missing or too old for the mirror: fetch them and try again.
  scripts/lab/build-guest.sh || { apt_lists && scripts/lab/build-guest.sh; }
}

# --- the runner -----------------------------------------------------------------------------------

if [[ ${1:-} = --inner ]]; then # one stage, in a process of its own
  set -e
  "stage_$2"
  exit
fi

stages=()
for name in "${@:-quick}"; do
  case $name in
    quick) stages+=("${QUICK[@]}"); CI_LEVEL=quick ;;
    all) stages+=("${ALL[@]}"); CI_LEVEL=all CI_PROFILE=dist ;;
    full) stages+=("${FULL[@]}"); CI_LEVEL=full CI_PROFILE=dist ;;
    *)
      declare -F "stage_$name" >/dev/null ||
        { echo "ci: no stage '$name'; there are: quick all full $(declare -F | sed -n 's/.* stage_//p' | paste -sd' ')" >&2; exit 2; }
      stages+=("$name") ;;
  esac
done

run() { # STAGE: it runs to its end; what came of it is in $CI_WORK/STAGE.end: PASSED FAILED SKIPPED SECONDS CPU-SECONDS WORD
  local name=$1 limit=${LIMIT[$1]:-900} rc p f s real user system word=ok
  echo "=== $name"
  export CI_COUNTS=$CI_WORK/$name.counts; : >"$CI_COUNTS"
  nice -n "$nicely" timeout -k 15 "$limit" "$0" --inner "$name" </dev/null &
  { TIMEFORMAT='%1R %U %S'; time wait $!; } 2>"$CI_WORK/$name.time"; rc=$?
  read -r real user system < <(tail -1 "$CI_WORK/$name.time")
  read -r p f s < <(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$CI_COUNTS")
  if ((rc == 77)) && [[ -n ${MAY_SKIP[$name]:-} ]]; then
    word="skipped: ${MAY_SKIP[$name]}" s=$((s + 1))
  elif ((rc != 0)); then
    word="FAILED"
    ((rc != 124 && rc != 137)) || word="FAILED: over its $limit s"
    ((f > 0)) || f=1
  elif ((p + f + s == 0)); then
    p=1
  fi
  echo "$p $f $s $real $(awk -v u="$user" -v s="$system" 'BEGIN { printf "%.0f", u + s }') $word" >"$CI_WORK/$name.end"
  echo "--- $name: $real s, $word"
}

settle() { # those that run beside others have ended
  local name
  wait "${running[@]}"
  for name in "${beside[@]}"; do
    cat "$CI_WORK/$name.log"
    [[ $name != build || $(<"$CI_WORK/build.end") != *" ok" ]] || export CI_BUILT=1
  done
  running=() beside=()
}

start_lanes() { # of the stages in $next
  local name lane nicely=0
  ((${#next[@]})) || return 0
  settle
  for lane in 1 2 3; do
    { trap 'end_jobs; exit 130' TERM
      for name in "${next[@]}"; do [[ ${LANE[$name]} != "$lane" ]] || run "$name" >"$CI_WORK/$name.log" 2>&1; done; } &
    running+=($!)
  done
  beside=("${next[@]}") next=()
}

end_jobs() { # what runs
  # shellcheck disable=SC2046 # words
  kill $(jobs -p) 2>/dev/null
  wait
}

mkdir -p "$OUT"
OUT=$(realpath "$OUT"); export CI_OUT=$OUT
CI_WORK=$(mktemp -d) && export CI_WORK || exit 1
trap 'rm -rf "$CI_WORK"' EXIT
trap 'end_jobs; exit 130' INT TERM
nicely=0 # how much the next stage leaves to others
running=() beside=() next=()
for name in "${stages[@]}"; do
  if [[ -n ${LANE[$name]:-} && $CI_LEVEL =~ ^(all|full)$ ]]; then
    next+=("$name")
    continue
  fi
  start_lanes
  [[ " ${QUICK[*]} " = *" $name "* ]] || settle
  # What is built beside it is what the others wait for.
  nicely=$((${#running[@]} ? 5 : 0))
  run "$name"
done
start_lanes
settle

passed=0 failed=0 skipped=0
printf '\n'
for name in "${stages[@]}"; do
  read -r p f s real cpu word <"$CI_WORK/$name.end" || read -r p f s real cpu word <<<"0 1 0 0 0 FAILED: it did not run"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  printf '%-12s %7s s %6s s of CPU %5d passed %3d failed %3d skipped  %s\n' "$name" "$real" "$cpu" "$p" "$f" "$s" "$word"
done
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
