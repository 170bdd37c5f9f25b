"""``ssdcam`` with other published checkpoints: ``python published_here.py TABLE.json ARGUMENTS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ssdcam.checkpoints.published import PUBLISHED, Facts, Published
from ssdcam.cli import main

if __name__ == "__main__":
    for name, url, sha256, megabytes in json.loads(Path(sys.argv.pop(1)).read_text()):
        facts = Facts("face", 0.5, "WIDER FACE val", "MIT")
        PUBLISHED[name] = Published(name, url, facts, "a test", "ultralight-faces", sha256, megabytes)
    main()
