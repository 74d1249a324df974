"""Steps others' environments for foresee bench sim: stepping.py PEER TASK ENVIRONMENTS THREADS

Says on the first line what it is, or what is missing, as JSON. Then answers each line "STEPS SEED" on standard input by
that many control steps of every environment after a reset that is not counted, with what they took: {"cpu", "wall"}. The
actions are those of the Rust side. PEER: dm_control, metaworld, gymnasium, envpool-sync, envpool-async, mujoco.Renderer (TASK is then
TASK:CAMERA:PIXELS:QUALITY, and a step is an image).
"""

import importlib.metadata
import json
import math
import os
import sys
import time

ACTION_ROWS = 64


def actions(length):
    import numpy

    rows = numpy.arange(ACTION_ROWS)[:, None]
    return numpy.sin((rows * 5 + numpy.arange(length)[None] * 3) * 0.7)


def timed(work):
    # The threads of this process, and those that have ended, all count.
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def dm_control(task, _environments, _threads):
    from dm_control import suite

    domain, name = task.removeprefix("dmc/").split("-", 1)
    state = {}

    def reset(seed):
        state["environment"] = suite.load(domain, name, task_kwargs={"random": seed})
        state["environment"].reset()

    reset(0)
    environment = state["environment"]
    rows = actions(environment.action_spec().shape[0])
    substeps = round(environment.control_timestep() / environment.physics.timestep())

    def step(steps):
        environment, over = state["environment"], False
        for index in range(steps):
            if over:
                environment.reset()
                over = False
            else:
                over = environment.step(rows[index % ACTION_ROWS]).last()

    return "dm_control", substeps, reset, step


def metaworld(task, _environments, _threads):
    import metaworld

    name = task.removeprefix("metaworld/") + "-v3"
    benchmark = metaworld.MT1(name, seed=0)
    environment = benchmark.train_classes[name]()
    rows = actions(4)

    def reset(seed):
        environment.set_task(benchmark.train_tasks[seed % 50])
        environment.reset()

    def step(steps):
        over = False
        for index in range(steps):
            if over:
                environment.reset()
                over = False
            else:
                _, _, terminated, truncated, _ = environment.step(rows[index % ACTION_ROWS])
                over = terminated or truncated

    return "metaworld", environment.frame_skip, reset, step


def gymnasium(task, _environments, _threads):
    import gymnasium
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    names = {"kitchen/all": "FrankaKitchen-v1", "adroit/pen": "AdroitHandPen-v1", "adroit/door": "AdroitHandDoor-v1"}
    environment = gymnasium.make(names[task])
    inner = environment.unwrapped
    rows = actions(environment.action_space.shape[0])
    robot = getattr(inner, "robot_env", inner)

    def step(steps):
        over = False
        for index in range(steps):
            if over:
                environment.reset()
                over = False
            else:
                _, _, terminated, truncated, _ = environment.step(rows[index % ACTION_ROWS])
                over = terminated or truncated

    return "gymnasium-robotics", robot.frame_skip, lambda seed: environment.reset(seed=seed), step


def envpool(task, environments, threads, batch):
    import envpool
    import numpy

    domain, name = task.removeprefix("dmc/").split("-", 1)
    pool = envpool.make(
        f"{domain.title()}{name.title()}-v1", env_type="gymnasium", num_envs=environments, batch_size=batch,
        num_threads=threads, seed=0,
    )
    rows = actions(pool.action_space.shape[0])
    substeps = {"dmc/walker-walk": 10, "dmc/walker-run": 10, "dmc/walker-stand": 10, "dmc/cheetah-run": 1}[task]

    def reset(_seed):
        if batch == environments:
            pool.reset()

    def step(steps):
        if batch == environments:
            for index in range(steps):
                pool.step(numpy.tile(rows[index % ACTION_ROWS], (environments, 1)))
            return
        for index in range(math.ceil(steps * environments / batch)):
            ids = pool.recv()[4]["env_id"]
            pool.send(numpy.tile(rows[index % ACTION_ROWS], (batch, 1)), ids)

    if batch != environments:
        pool.async_reset()
    return "envpool", substeps, reset, step


def renderer(task, _environments, _threads):
    import mujoco
    from dm_control import suite

    task, camera, pixels, quality = task.split(":")
    domain, name = task.removeprefix("dmc/").split("-", 1)
    environment = suite.load(domain, name, task_kwargs={"random": 0})
    environment.reset()
    model, data = environment.physics.model.ptr, environment.physics.data.ptr
    if quality == "fast":
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        model.mat_reflectance[:] = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = int(pixels)
    drawing = mujoco.Renderer(model, int(pixels), int(pixels))
    rows = actions(environment.action_spec().shape[0])
    begin = data.qpos.copy(), data.qvel.copy()

    def draw():
        drawing.update_scene(data, camera)
        drawing.render()

    def step(steps):
        # A new state for each image, as on the Rust side; the physics is not counted.
        took = {"cpu": 0.0, "wall": 0.0}
        for index in range(steps):
            environment.step(rows[index % ACTION_ROWS])
            for name, seconds in timed(draw).items():
                took[name] += seconds
        return took

    def reset(_seed):
        data.qpos[:], data.qvel[:] = begin
        mujoco.mj_forward(model, data)

    step(1)
    return "mujoco", 1, reset, step


def main():
    peer, task, environments, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    os.environ.setdefault("MUJOCO_GL", "egl")
    # What packages print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    makers = {
        "dm_control": dm_control,
        "metaworld": metaworld,
        "gymnasium": gymnasium,
        "envpool-sync": lambda *given: envpool(*given, given[1]),
        "envpool-async": lambda *given: envpool(*given, max(given[1] // 2, 1)),
        "mujoco.Renderer": renderer,
    }
    try:
        package, substeps, reset, step = makers[peer](task, environments, threads)
        reset(0)
        step(8)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    version = importlib.metadata.version(package)
    print(json.dumps({"version": f"{package} {version}", "substeps": int(substeps)}), file=answers, flush=True)
    for line in sys.stdin:
        steps, seed = map(int, line.split())
        reset(seed)
        # Who counts by himself says so.
        own = {}
        took = timed(lambda: own.update(step(steps) or {}))
        print(json.dumps({**took, **own}), file=answers, flush=True)


if __name__ == "__main__":
    main()
