#!/usr/bin/env bash
# mujoco 3.17.0: with actuation disabled, a forward pass computes actuator_length and leaves actuator_velocity at zero.
#
# The documentation says that the flag disables the computations of actuator forces. A slide joint at 0.2 m moves at 1.5 m/s, and an
# actuator with gear 3 is on it. Seen, in this order: length and velocity of the actuator, its velocity sensor, velocity of the joint.
#   actuation enabled    0.6 4.5 4.5 1.5
#   actuation disabled   0.6 0.0 0.0 1.5
# A program that disables actuation to measure a state, as dm_control does at a reset, reads velocity zero of an actuator that moves.
# Fails when this changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mujoco==3.17.0
"$folder/venv/bin/python" - <<'PYTHON'
import mujoco

MODEL = """
<mujoco>
  <worldbody>
    <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><velocity name="drive" joint="slide" kv="2" gear="3"/></actuator>
  <sensor><actuatorvel actuator="drive"/></sensor>
</mujoco>
"""


def seen(disable_flags):
    model = mujoco.MjModel.from_xml_string(MODEL)
    model.opt.disableflags = disable_flags
    data = mujoco.MjData(model)
    data.qpos[0], data.qvel[0] = 0.2, 1.5
    mujoco.mj_forward(model, data)
    values = data.actuator_length[0], data.actuator_velocity[0], data.sensordata[0], data.qvel[0]
    return [round(float(value), 9) for value in values]


enabled, disabled = seen(0), seen(int(mujoco.mjtDisableBit.mjDSBL_ACTUATION))
print("mujoco", mujoco.__version__)
print("actuation enabled ", *enabled)
print("actuation disabled", *disabled)
assert enabled == [0.6, 4.5, 4.5, 1.5], enabled
assert disabled == [0.6, 0.0, 0.0, 1.5], disabled
PYTHON
