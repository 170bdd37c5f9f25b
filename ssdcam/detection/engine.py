"""What the detector asks of an engine, so that it need not know which one runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssdcam.ssd.host import PackedBoxes
from ssdcam.ssd.spec import Selection


class Engine(Protocol):
    """Runs one network on one device.

    Attributes:
        name: such as ``torch``.
        device: where it runs, such as ``cpu`` or ``cuda:0``.
        precision: of its arithmetic: ``fp32``, ``fp16``, ``bf16``, ``int8``.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def device(self) -> str: ...  # noqa: D102

    @property
    def precision(self) -> str: ...  # noqa: D102

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Any, Any]:
        """Run the network.

        Args:
            batch: ``(B, H, W, 3)``, BGR, of the network's input size; normalisation is the engine's.

        Returns:
            Locations ``(B, N, 4)`` and raw scores ``(B, N, columns)``, wherever the engine has them.
        """

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Any, Any]]:
        """Start the network and, where the engine can, do not wait for it.

        Args:
            batch: as of :meth:`infer`; not to be changed before the result is there.

        Returns:
            What waits, if need be, and gives the result of :meth:`infer`; to be called once.
        """

    def decode(self, locations: Any, raw_scores: Any, selection: Selection) -> PackedBoxes:
        """Boxes on the host from what :meth:`infer` returned, decoded where that lies."""
