"""Unpacks native libraries and simulation assets out of pinned wheels: launch/native.py NATIVE_DIR

Each entry of PACKAGES becomes NATIVE_DIR/<folder>, complete or absent: it is unpacked beside and renamed. A stamp of
this file and of wheels.txt makes the next call return at once.
"""

import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
WHEELS = HERE / "wheels.txt"

# folder, wheel's name, [(member prefix in the wheel, place in the folder)], {link: target}
PACKAGES = [
    (
        "mujoco",
        "mujoco",
        [
            ("mujoco/libmujoco.so", "lib/libmujoco.so"),
            ("mujoco/plugin/", "plugin/"),
            ("mujoco-3.17.0.dist-info/licenses/", "licenses/"),
        ],
        {"lib/libmujoco.so": "libmujoco.so.3.17.0"},
    ),
    (
        "onnxruntime",
        "onnxruntime",
        [
            ("onnxruntime/capi/libonnxruntime", "lib/libonnxruntime"),
            ("onnxruntime/LICENSE", "licenses/LICENSE"),
            ("onnxruntime/ThirdPartyNotices.txt", "licenses/ThirdPartyNotices.txt"),
        ],
        {"lib/libonnxruntime.so": "libonnxruntime.so.1.31.1"},
    ),
    (
        "dm_control",
        "dm_control",
        [("dm_control/suite/", "suite/"), ("dm_control-1.0.50.dist-info/licenses/", "licenses/")],
        {},
    ),
    (
        "metaworld",
        "metaworld",
        [("metaworld/assets/", "assets/"), ("metaworld-3.1.1.dist-info/licenses/", "licenses/")],
        {},
    ),
    (
        "gymnasium_robotics",
        "gymnasium_robotics",
        [
            ("gymnasium_robotics/envs/assets/adroit_hand/", "assets/adroit_hand/"),
            ("gymnasium_robotics/envs/assets/kitchen_franka/", "assets/kitchen_franka/"),
            ("gymnasium_robotics/envs/assets/LICENSE.md", "licenses/ASSETS.md"),
            ("gymnasium_robotics-1.4.2.dist-info/licenses/", "licenses/"),
        ],
        {},
    ),
]


def main(native: pathlib.Path) -> None:
    stamp = hashlib.sha256(WHEELS.read_bytes() + pathlib.Path(__file__).read_bytes()).hexdigest()
    stamp_file = native / "stamp"
    folders = [native / folder for folder, *_ in PACKAGES]
    if stamp_file.is_file() and stamp_file.read_text() == stamp and all(folder.is_dir() for folder in folders):
        return
    native.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=native, prefix=".unpack-") as scratch:
        wheels = pathlib.Path(scratch) / "wheels"
        print("setup: native libraries and assets out of pinned wheels (about 190 MB)", file=sys.stderr)
        download(wheels)
        for folder, wheel, members, links in PACKAGES:
            found = list(wheels.glob(f"{wheel}-*.whl"))
            if len(found) != 1:
                sys.exit(f"setup: wheel {wheel}: found {len(found)} files, wanted 1; run ./launch/setup again")
            fresh = pathlib.Path(scratch) / folder
            unpack(found[0], fresh, members)
            for link, target in links.items():
                (fresh / link).symlink_to(target)
            place = native / folder
            if place.exists():
                shutil.rmtree(place)
            fresh.rename(place)
    stamp_file.write_text(stamp)


def download(wheels: pathlib.Path) -> None:
    """The wheels of this processor, whatever Python runs here: the libraries inside need no Python."""
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64"):
        sys.exit(f"setup: processor {machine}: wheels are pinned for x86_64 and aarch64 only")
    platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in (28, 27, 17)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", *platforms, "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
    command += ["--require-hashes", "--requirement", str(WHEELS), "--dest", str(wheels)]
    if subprocess.run(command).returncode != 0:
        sys.exit("setup: the wheels of launch/wheels.txt could not be had; is the Python package index reachable?")


def unpack(wheel: pathlib.Path, folder: pathlib.Path, members: list) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            for prefix, place in members:
                if info.filename.startswith(prefix) and not info.is_dir():
                    target = folder / (place + info.filename[len(prefix) :])
                    if folder not in pathlib.Path(os.path.normpath(target)).parents:
                        sys.exit(f"setup: {wheel.name}: member {info.filename} would leave its folder")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as source, open(target, "wb") as sink:
                        shutil.copyfileobj(source, sink)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: launch/native.py NATIVE_DIR")
    main(pathlib.Path(sys.argv[1]).resolve())
