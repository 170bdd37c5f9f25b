"""The command line: wiring only, one module a command."""

from ssdcam.cli.main import main

__all__ = ["main"]
