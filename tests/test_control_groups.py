"""What a container or a service may take: other machines' files, and groups of this one's kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssdcam import control_groups
from ssdcam.cpu import threads_of_a_share, usable_cores, usable_threads
from ssdcam.memory import memory


def made(folder: Path, **files: str) -> Path:
    """A group's folder; ``cpu_max`` is the file ``cpu.max``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        ("0::/\n", ["."]),
        ("0::/a/b\n", ["a/b", "a", "."]),
        ("0::/docker/of-the-host\n", ["."]),
        ("0::/../elsewhere\n", ["."]),
        ("12:cpu,cpuacct:/a\n3:cpuset:/a/b\n1:name=systemd:/a/b\n", ["cpu,cpuacct/a", "cpu,cpuacct"]),
        ("12:cpu,cpuacct:/docker/of-the-host\n", ["cpu,cpuacct"]),
        ("3:cpuset:/\n", []),
        ("", []),
    ],
)
def test_folders(membership: str, expected: list[str], tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    for folder in ("a/b", "cpu,cpuacct/a", "cpuset/a/b"):
        (groups / folder).mkdir(parents=True)
    (tmp_path / "membership").write_text(membership)
    found = list(control_groups.folders("cpu", tmp_path / "membership", groups))
    assert found == [groups / name for name in expected]


def test_where_there_are_none(tmp_path: Path) -> None:
    assert list(control_groups.folders("cpu", tmp_path / "nosuch", tmp_path)) == []


def test_the_smallest_share_counts(tmp_path: Path) -> None:
    outer = made(tmp_path, cpu_max="50000 100000")
    inner = made(tmp_path / "inner", cpu_max="max 100000")
    old = made(tmp_path / "old", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert control_groups.cores([inner, old, tmp_path / "nosuch"]) is None
    assert control_groups.cores([inner, outer]) == 0.5
    made(old, cpu_cfs_quota_us="25000")
    assert control_groups.cores([inner, old, outer]) == 0.25


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are not bound to cores here")
def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    group = made(tmp_path, cpu_max="150000 100000")
    assert usable_cores([group]) == 1.5
    assert usable_threads([group]) == threads_of_a_share([group]) == 2
    made(tmp_path, cpu_max="1000 100000")
    assert usable_threads([group]) == threads_of_a_share([group]) == 1
    for more in ("1600000 100000", "6400000 100000", "max 100000"):
        made(tmp_path, cpu_max=more)
        assert usable_threads([group]) == usable_cores([group]) == 16
        assert threads_of_a_share([group]) is None  # libraries know best


def test_memory_that_the_system_would_forget_is_free(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\n")
    stat = f"anon 1\ninactive_file {2**28}\nactive_file 5"
    new = made(tmp_path / "new", memory_max=str(2**30), memory_current=str(2**29), memory_stat=stat)
    there = memory(info, [new])
    assert there
    assert (there.total, there.free) == (2**30, 2**29 + 2**28)
    stat = f"inactive_file 1\ntotal_inactive_file {2**28}"
    old = made(tmp_path / "old", memory_limit_in_bytes=str(2**29), memory_usage_in_bytes=str(2**30), memory_stat=stat)
    there = memory(info, [new, old])
    assert there
    assert (there.total, there.free) == (2**29, 0)
    # The kernel counts both at different moments.
    made(new, memory_current=str(2**27))
    there = memory(info, [new])
    assert there
    assert there.free == there.total


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([(2**63 - 4096, 2**63 - 4096)], 2**33),  # what version 1 says where nothing is limited
        ([(2**30, 2**63 - 4096)], 2**33),
        ([(2**30, 2**30)], 0),
        ([(2**30, 2**31)], 2**30),
        ([(2**30, 2**63 - 4096), (2**31, 2**31)], 2**30),  # the inner group may take all that the outer one does
    ],
)
def test_version_1_limits_swap_and_memory_in_one_figure(
    limits: list[tuple[int, int]], expected: int, tmp_path: Path
) -> None:
    info = tmp_path / "meminfo"
    info.write_text(f"MemTotal: {2**23} kB\nMemAvailable: {2**23} kB\nSwapTotal: {2**23} kB\n")
    groups = []
    for number, (alone, with_swap) in enumerate(limits):
        files = {"memory_limit_in_bytes": alone, "memory_memsw.limit_in_bytes": with_swap, "memory_usage_in_bytes": 0}
        groups.append(made(tmp_path / str(number), **{name: str(value) for name, value in files.items()}))
    there = memory(info, groups)
    assert there
    assert there.swap == expected


Enter = Callable[[str], list[Path]]


@pytest.fixture
def group() -> Iterator[Enter]:
    """Makes a group of the kernel's with a limit, ``cpu`` half a core, ``memory`` 2 GiB; gives what joins it."""
    made_here: list[Path] = []

    def enter(controller: str) -> list[Path]:
        old = {"cpu": ("cpu.cfs_quota_us", "50000"), "memory": ("memory.limit_in_bytes", str(2**31))}
        new = {"cpu": ("cpu.max", "50000 100000"), "memory": ("memory.max", str(2**31))}
        try:
            around = list(control_groups.folders(controller))
            folder = around[0] / f"ssdcam-test-{os.getpid()}-{controller}"
            folder.mkdir()
            made_here.append(folder)
            name, value = next(pair for pair in (old[controller], new[controller]) if (folder / pair[0]).exists())
            (folder / name).write_text(value)
        except (OSError, IndexError, StopIteration) as error:
            pytest.skip(f"no control group for {controller} can be made here ({error or 'none is there'})")
        return [folder / "cgroup.procs"]

    yield enter
    for folder in made_here:
        folder.rmdir()


def run_in(joins: list[Path], code: str) -> dict[str, object]:
    """Run Python in a group; what it prints as JSON."""
    join = f"import os\nfor file in {list(map(str, joins))!r}:\n    open(file, 'w').write(str(os.getpid()))\n"
    done = subprocess.run([sys.executable, "-c", join + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_half_a_core_of_this_machine(group: Enter) -> None:
    """Every engine has one thread then, and OpenCV and the encoder."""
    code = """
import json, cv2, torch, ssdcam
from ssdcam.cpu import usable_cores, usable_threads
detectors = {name: ssdcam.load(engine=name, precision="fp32", device="cpu") for name in ("openvino", "torch")}
plan = detectors["openvino"].engine._plans["LATENCY"]
print(json.dumps({
    "cores": usable_cores(), "threads": usable_threads(), "cv2": cv2.getNumThreads(), "torch": torch.get_num_threads(),
    "openvino": plan.compiled.get_property("INFERENCE_NUM_THREADS"),
}))
"""
    pytest.importorskip("openvino")
    found = run_in(group("cpu"), code)
    assert found == {"cores": 0.5, "threads": 1, "cv2": 1, "torch": 1, "openvino": 1}


def test_memory_of_this_machine(group: Enter) -> None:
    code = "import json; from ssdcam.memory import memory; print(json.dumps({'total': memory().total}))"
    assert run_in(group("memory"), code) == {"total": 2**31}
