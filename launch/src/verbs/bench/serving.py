"""The Python way of serving an encoder, for `foresee bench serve --python`: OpenCV and onnxruntime, one request a line.

serving.py MODEL INPUT THREADS HEIGHT WIDTH: `chain` and `serve` answer with microseconds; `dynamic FILE`, `static FILE` and
`blocks FILE` write the model in 8 bits, and answer 0 or what is wrong.
"""
import contextlib
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


class Frames:
    """Four noisy frames to scale activations on."""

    def __init__(self):
        self.left = 4

    def get_next(self):
        if self.left == 0:
            return None
        self.left -= 1
        frame[:] = np.random.default_rng(self.left).integers(0, 256, frame.shape, dtype=np.uint8)
        return {name: chain()}


def quantise(how, path):
    from onnxruntime import quantization

    weights = {"weight_type": quantization.QuantType.QInt8, "per_channel": True}
    if how == "dynamic":
        quantization.quantize_dynamic(model, path, **weights)
    elif how == "static":
        options = {"MatMulConstBOnly": True}
        quantization.quantize_static(
            model, path, Frames(), op_types_to_quantize=["MatMul"], extra_options=options, **weights
        )
    elif how == "blocks":
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            onnx.load(model), bits=8, block_size=32, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        quantizer.model.save_model_to_file(path)


chain()
print("ready", cv2.__version__, ort.__version__, flush=True)
for line in sys.stdin:
    request, _, path = line.strip().partition(" ")
    if request == "chain":
        print(min(micros(chain) for _ in range(5)), flush=True)
    elif request == "serve":
        print(micros(lambda: session.run(None, {name: chain()})), flush=True)
    else:
        try:
            # Answers alone go to standard output.
            with contextlib.redirect_stdout(sys.stderr):
                quantise(request, path)
            print(0, flush=True)
        except Exception as error:
            print(" ".join(f"{type(error).__name__}: {error}".split()), flush=True)
