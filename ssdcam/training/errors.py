"""What goes wrong in training that a user can act on."""

from __future__ import annotations

from ssdcam.errors import SsdcamError


class TrainingError(SsdcamError):
    """Training that cannot start, cannot go on, or cannot be resumed."""
