"""OpenVINO on several threads: compiled graphs, and micro-batches of one size that the threads take in turn.

A sample's result does not depend on the batch that it is in: every micro-batch is full, filled up with zeros.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.openvino_import import openvino

Array = NDArray[np.generic]
Floats = NDArray[np.float32]
Run = Callable[[Sequence[Array]], list[Array]]


class Stage:
    """One compiled graph of fixed shapes."""

    def __init__(self, core: openvino.Core, graph: openvino.Model, *, threads: int, bf16: bool = False) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            # Where ranks share a machine, the scheduler places threads better than a fixed pin.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(graph, "CPU", settings)

    def request(self) -> Run:
        """A function with memory of its own that runs this graph; one for every thread."""
        request = self._compiled.create_infer_request()

        def run(inputs: Sequence[Array]) -> list[Array]:
            result = request.infer(list(inputs), share_inputs=True, share_outputs=True)
            return [result[place] for place in range(len(result))]

        return run


class Lanes:
    """Threads, one for each of `runs`, that compute micro-batches of `size` samples: inputs → rows [size, width]."""

    def __init__(self, runs: Sequence[Callable[[Sequence[Array]], Floats]], size: int, width: int) -> None:
        self._runs, self._size, self._width = runs, size, width
        self._pool = ThreadPoolExecutor(len(runs), thread_name_prefix="skyfan-openvino")

    def compute(self, inputs: Sequence[Array]) -> Floats:
        """Outputs [B, width] of inputs [B, …]."""
        out = np.empty((len(inputs[0]), self._width), np.float32)
        starts = range(0, len(out), self._size)
        # Lanes take the next micro-batch when they are free: on a busy machine no lane waits for a slower one's share.
        # (`next` of a range's iterator is one step of the interpreter, so that lanes can share it.)
        shared = iter(starts)
        if len(self._runs) == 1 or len(starts) == 1:  # no other thread is woken for what one does alone
            self._lane(self._runs[0], shared, inputs, out)
            return out
        work = [self._pool.submit(self._lane, run, shared, inputs, out) for run in self._runs[: len(starts)]]
        wait(work)  # all of them: a lane that goes on would hold its request beyond this call
        for part in work:
            part.result()
        return out

    def _lane(
        self, run: Callable[[Sequence[Array]], Floats], starts: Iterator[int], inputs: Sequence[Array], out: Floats
    ) -> None:
        for start in starts:
            rows = out[start : start + self._size]
            rows[:] = run([self._padded(tensor[start : start + self._size]) for tensor in inputs])[: len(rows)]

    def _padded(self, values: Array) -> Array:
        """A micro-batch that is not full, filled up with zeros."""
        if len(values) == self._size:
            return values
        full = np.zeros((self._size, *values.shape[1:]), values.dtype)
        full[: len(values)] = values
        return full
