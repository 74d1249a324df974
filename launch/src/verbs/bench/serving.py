"""The Python way of serving an encoder, for `foresee bench serve --python`: OpenCV and onnxruntime, one request a line.

serving.py MODEL INPUT THREADS HEIGHT WIDTH [INT8_MODEL]: `chain` and `serve` answer with microseconds; `quantise` writes
INT8_MODEL by onnxruntime's dynamic quantisation.
"""
import sys
import time

import cv2
import numpy as np
import onnxruntime as ort

model, name, threads, height, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
cv2.setNumThreads(threads)
options = ort.SessionOptions()
options.intra_op_num_threads = threads
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
mean = np.array([0.485, 0.456, 0.406], np.float32)
std = np.array([0.229, 0.224, 0.225], np.float32)


def chain():
    image = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32)
    image = cv2.multiply(image, (1 / 255,) * 4)
    image = cv2.divide(cv2.subtract(image, (*map(float, mean), 0)), (*map(float, std), 1))
    return np.stack(cv2.split(image))[None]


def micros(work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


chain()
print("ready", cv2.__version__, ort.__version__, flush=True)
for line in sys.stdin:
    request = line.strip()
    if request == "chain":
        print(min(micros(chain) for _ in range(5)), flush=True)
    elif request == "serve":
        print(micros(lambda: session.run(None, {name: chain()})), flush=True)
    elif request == "quantise":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(model, sys.argv[6], weight_type=QuantType.QInt8, per_channel=True)
        print(0, flush=True)
