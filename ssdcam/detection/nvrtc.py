"""CUDA kernels of our own, compiled at run time by NVRTC, which torch brings along: nobody needs CUDA's toolkit.

torch.cuda has the like of it, which asks for the toolkit. What is called here is in NVRTC's manual and in the driver's.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import torch


class Kernels:
    """The kernels of a source, ready to be launched on one device.

    Args:
        source: CUDA C++; kernels are ``extern "C"``.
        device: a CUDA device.
        options: of the compiler.

    Raises:
        OSError: there is no NVRTC, or no driver.
        RuntimeError: the source does not compile, or the device does not take it.
    """

    def __init__(self, source: str, device: torch.device, *options: str) -> None:
        with torch.cuda.device(device):
            torch.cuda.synchronize()  # the driver knows the device only once something has been done there
            major, minor = torch.cuda.get_device_capability()
            code = _compiled(source, f"--gpu-architecture=sm_{major}{minor}", *options)
            self._module = ctypes.c_void_p()
            _check(_driver().cuModuleLoadData(ctypes.byref(self._module), code))
        self._functions: dict[str, ctypes.c_void_p] = {}

    def launch(self, name: str, grid: tuple[int, int, int], threads: int, *arguments: Any) -> None:
        """Launch a kernel on the current stream of the current device, which has to be this one.

        Args:
            name: the kernel's.
            grid: blocks.
            threads: of a block.
            arguments: ctypes' objects, as the kernel has them.

        Raises:
            RuntimeError: the device does not take it.
        """
        function = self._functions.get(name)
        if function is None:
            function = ctypes.c_void_p()
            _check(_driver().cuModuleGetFunction(ctypes.byref(function), self._module, name.encode()))
            self._functions[name] = function
        places = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        _check(_driver().cuLaunchKernel(function, *grid, threads, 1, 1, 0, stream, places, None))


def _compiled(source: str, *options: str) -> bytes:
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    _check_nvrtc(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"ssdcam.cu", 0, None, None))
    try:
        chosen = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failure = nvrtc.nvrtcCompileProgram(program, len(options), chosen)
        if failure:
            raise RuntimeError(_text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode())
        return _text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(program: ctypes.c_void_p, measure: Any, copy: Any) -> bytes:
    size = ctypes.c_size_t()
    _check_nvrtc(measure(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check_nvrtc(copy(program, buffer))
    return buffer.raw


@cache
def _nvrtc() -> ctypes.CDLL:
    """The one of the CUDA that torch was built for, which torch has loaded."""
    major = str(torch.version.cuda).partition(".")[0]
    return ctypes.CDLL(f"nvrtc64_{major}0_0.dll" if sys.platform == "win32" else f"libnvrtc.so.{major}")


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _check_nvrtc(failure: int) -> None:
    if failure:
        raise RuntimeError(f"NVRTC: error {failure}")


def _check(failure: int) -> None:
    if failure:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(failure, ctypes.byref(text))
        raise RuntimeError(f"CUDA: {(text.value or b'unknown error').decode()}")
