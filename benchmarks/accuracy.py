"""Score one detector with each engine and precision: faster arithmetic must not cost accuracy.

    python benchmarks/accuracy.py DATA [-m MODEL] [--split val] [--metric voc07] [--calibrate DIR]
                                  [--with torch:fp32,torch:bf16,...] [-o FILE.json]

DATA as ``ssdcam eval`` takes it. The first of ``--with`` is what the others are compared with. What does not run here
is named with its reason. int8 chooses its ranges on the pictures of ``--calibrate``, which should not be those of DATA.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import report

DEFAULT = "torch:fp32,torch:bf16,openvino:fp32,openvino:bf16,openvino:int8,onnxruntime:fp32,onnxruntime:int8"


def score(data: Path, engine: str, precision: str, calibrate: list[str], more: list[str]) -> dict[str, Any]:
    """What ``ssdcam eval --json`` says, or why it does not."""
    if precision == "int8":
        more = [*more, *calibrate]
    command = ["eval", str(data), "--json", "-q", "--engine", engine, "--precision", precision, *more]
    print(f"{engine} {precision}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "ssdcam", *command], capture_output=True, text=True, check=False)
    if not done.stdout:
        return {"engine": engine, "precision": precision, "reason": done.stderr.strip()}
    result = json.loads(done.stdout)
    return {"engine": engine, "precision": precision, "map": result["map"], "images": result["images"]}


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model")
    parser.add_argument("--split", default="val")
    parser.add_argument("--metric", default="voc07")
    parser.add_argument("--calibrate", metavar="DIR")
    parser.add_argument("--with", dest="combinations", default=DEFAULT, metavar="ENGINE:PRECISION,...")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    more = ["--split", given.split, "--metric", given.metric, *(["-m", given.model] if given.model else [])]
    calibrate = ["--calibrate", given.calibrate] if given.calibrate else []
    rows = [score(given.data, *one.split(":"), calibrate, more) for one in given.combinations.split(",")]
    first = rows[0]
    if "map" not in first:
        sys.exit(f"{first['engine']} {first['precision']}: {first['reason']}")
    for row in rows:
        if "map" in row:
            row["difference"] = round(row["map"] - first["map"], 6)
        what = f"{row['map']:.4f}  {row['difference']:+.4f}" if "map" in row else row["reason"]
        print(f"{row['engine']:12} {row['precision']:5} {what}", file=sys.stderr)
    figures = {"data": given.data.name, "model": given.model or "the embedded one", "metric": given.metric}
    report("accuracy", {**figures, "rows": rows}, given.output)


if __name__ == "__main__":
    main()
