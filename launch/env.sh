# Sourced by the scripts of launch/: where things lie, and how to build.
# Sets: root (the checkout), target (build products, outside the checkout), native (unpacked wheels).

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${FORESEE_TARGET:-${XDG_CACHE_HOME:-$HOME/.cache}/foresee/target}"
mkdir -p "$target"
target="$(cd "$target" && pwd -P)"
if [ ! -e "$root/target" ]; then ln -sfn "$target" "$root/target"; fi
target="$(cd "$root/target" && pwd -P)"
native="$target/native"

export MUJOCO_DYNAMIC_LINK_DIR="$native/mujoco/lib"
export FORESEE_NATIVE="$native"
export FORESEE_ZOO="$root/models/zoo"

say() { printf '%s\n' "$*" >&2; }

# build demo|full: the robot with the simulator, or everything. Once everything was built, everything is built.
build() {
  local what=$1 args=(-p foresee --no-default-features --features robot,sim)
  if [ "$what" = full ]; then : >"$target/full"; fi
  if [ -e "$target/full" ]; then args=(--workspace); fi
  claim
  (cd "$root" && cargo build --release --locked "${args[@]}")
}

# The build directory is shared by every checkout, and cargo tells whether our crates are fresh by file times alone: after
# another checkout built there, our own crates (not their dependencies) are built anew.
claim() {
  local owner="$target/checkout"
  if [ "$(cat "$owner" 2>/dev/null)" = "$root" ]; then return; fi
  if [ -e "$owner" ]; then
    (cd "$root" && cargo clean --quiet --release --locked -p foresee -p foresee-firmware-config -p foresee-models \
      -p foresee-policies -p foresee-runtime -p foresee-sim -p foresee-tests)
  fi
  printf '%s\n' "$root" >"$owner"
}
