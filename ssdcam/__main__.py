"""``python -m ssdcam`` is ``ssdcam``."""

from ssdcam.cli import main

main()
