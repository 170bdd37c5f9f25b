"""From torch's networks to OpenVINO's; for the engine, and for files that are exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.no_reports import import_quietly

if TYPE_CHECKING:
    import openvino
    import torch

T = TypeVar("T")

_one_at_a_time = Lock()


def convert(checkpoint: Checkpoint, *, by_winograd: bool = False) -> openvino.Model:
    """The network with its normalisation, for one picture ``(1, H, W, 3)``, uint8, BGR; by torch.

    Args:
        checkpoint: the spec and weights.
        by_winograd: whether large convolutions are to take fewer products, which suits fp32 and bf16.
    """
    import torch

    from ssdcam.detection import fusing
    from ssdcam.detection.pixel_network import PixelNetwork

    network: torch.nn.Module = PixelNetwork(checkpoint)
    if by_winograd:
        network = fusing.by_winograd(network)
    return from_torch(network, torch.zeros(1, *checkpoint.spec.input_size, 3, dtype=torch.uint8))


def from_torch(network: torch.nn.Module, *examples: torch.Tensor, shape: Sequence[int] | None = None) -> openvino.Model:
    """Trace a network; by OpenVINO's frontend itself, whose usual wrapper reports to its makers.

    Weights are constants as they stand: the frontend leaves those of depthwise convolutions behind an operator that
    gives them another shape, and NNCF, which looks for the output channels in the shape before it, chooses scales that
    OpenVINO has no 8-bit convolution for.

    Args:
        network: in evaluation mode.
        examples: of its inputs.
        shape: of the inputs to come, -1 is any; as the examples' if not given.
    """
    import warnings

    import torch

    frontends = import_quietly("openvino.frontend").FrontEndManager()
    decoder = import_quietly("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
    frontend = frontends.load_by_framework("pytorch")

    def converted() -> openvino.Model:
        with _one_at_a_time, torch.inference_mode():  # torch traces one network at a time
            decoded = decoder(network, example_input=examples)  # nothing else holds it while it is read
            return frontend.convert(frontend.load(decoded))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants, as they should
        model: openvino.Model = _beside(converted)
    model.reshape({place: list(shape or example.shape) for place, example in enumerate(examples)})
    passes = import_quietly("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    _round_plainly(model)
    _turn_kernels(model)
    return model


def _beside(work: Callable[[], T]) -> T:
    """Do it in a thread of its own, while this one waits.

    What is written in C++ and calls Python makes an error of its own of a Ctrl-C that comes meanwhile, which is then
    taken for one that another engine may not have. Python raises it in the main thread only.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # the caller's, as everything that is raised here
            done.set_exception(error)

    # No daemon: Python waits for it at its end, where one that is in C++ would be a crash.
    Thread(target=run, name="ssdcam-openvino").start()
    return done.result()


def _round_plainly(model: openvino.Model) -> None:
    """Say ``ceil`` where torch's own rounding is just that: OpenVINO computes what follows torch's not in int8.

    They differ where a last window would begin behind the picture, which torch leaves out. Height and width are fixed.
    """
    for pool in (node for node in model.get_ops() if node.get_type_name() == "MaxPool"):
        how = pool.get_attributes()
        sizes = [size.get_length() for size in list(pool.input(0).get_partial_shape())[2:]]
        layout = zip(sizes, how["pads_begin"], how["pads_end"], how["kernel"], how["strides"], strict=True)
        if how["rounding_type"] == "ceil_torch" and all(
            -(-(size + begin + end - kernel) // stride) * stride < size + begin
            for size, begin, end, kernel, stride in layout
        ):
            pool.set_attribute("rounding_type", "ceil")


def _turn_kernels(model: openvino.Model) -> None:
    """Store constants that many matrices are multiplied by, ``winograd``'s, as OpenVINO's library takes them.

    Turned round when it is compiled, they would stay in memory in both ways.
    """
    openvino = import_quietly("openvino")
    for product in (node for node in model.get_ops() if node.get_type_name() == "MatMul"):
        kernels = product.input_value(1).get_node()
        if kernels.get_type_name() == "Constant" and len(kernels.shape) == 3:
            turned = openvino.op.Constant(np.ascontiguousarray(kernels.data.transpose(0, 2, 1)))
            product.input(1).replace_source_output(turned.output(0))
            product.set_attribute("transpose_b", True)
    model.validate_nodes_and_infer_types()
