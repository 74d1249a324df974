"""Counts what Meta-World's own scripted experts solve in Meta-World itself: metaworld_experts.py > metaworld_experts.csv

Needs metaworld 3.1.1 (with packaging). Each task's first 50 layouts of MT1 with seed 0, 500 control steps each. Prints
task, episodes, those solved at some step, those in the state of success at their last step.
"""

import sys

import metaworld
import numpy
from metaworld.policies import ENV_POLICY_MAP

EPISODES = 50
STEPS = 500


def count(name):
    benchmark = metaworld.MT1(name, seed=0)
    environment = benchmark.train_classes[name]()
    policy = ENV_POLICY_MAP[name]()
    solved = solved_at_end = 0
    for task in benchmark.train_tasks[:EPISODES]:
        environment.set_task(task)
        observation, _ = environment.reset()
        was_solved = False
        for _ in range(STEPS):
            action = numpy.clip(policy.get_action(observation), -1, 1)
            observation, _, _, _, info = environment.step(action)
            was_solved |= bool(info["success"])
        solved += was_solved
        solved_at_end += bool(info["success"])
    return solved, solved_at_end


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(ENV_POLICY_MAP):
        solved, solved_at_end = count(name)
        print(f"metaworld/{name.removesuffix('-v3')},{EPISODES},{solved},{solved_at_end}", flush=True)
