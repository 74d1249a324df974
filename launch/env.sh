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
  (cd "$root" && cargo build --release --locked "${args[@]}")
}
