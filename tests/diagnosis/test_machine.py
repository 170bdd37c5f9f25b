"""What the checks make of facts about a machine: other machines' files, and made-up graphics cards and cameras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from ssdcam.detection import detector as detector_module
from ssdcam.diagnosis import cameras, checks, compute, installation, pictures, system, video
from ssdcam.diagnosis.compute import Graphics, judge
from ssdcam.diagnosis.finding import Finding
from ssdcam.diagnosis.installation import Requirement
from ssdcam.media import containers
from ssdcam.media.sources.devices import Camera, Mode

from ..cli.commands import unprivileged


def only(findings: object) -> Finding:
    [finding] = findings  # type: ignore[misc]
    return finding


@pytest.mark.parametrize(
    ("graphics", "status", "text", "remedy"),
    [
        (Graphics("", None, False), "ok", "no NVIDIA card; the CPU is used (torch for CPUs)", ""),
        (Graphics("13.0", None, False), "ok", "(torch for CUDA 13.0)", ""),
        (Graphics("", None, True), "warning", "no driver", "NVIDIA's driver"),
        (Graphics("", (12, 4), True), "warning", "this torch has no CUDA", "CUDA 12.4 or older"),
        (Graphics("13.0", (12, 4), True), "problem", "built for CUDA 13.0, and the driver knows 12.4", "update the NV"),
        (Graphics("12.6", (12, 8), True), "problem", "torch sees no card", "nvidia-smi"),
        (Graphics("12.6", (12, 8), True, hidden=""), "warning", "CUDA_VISIBLE_DEVICES=''", "unset"),
        (Graphics("12.6", (12, 8), True, ("cuda:0 A, 8 GiB",)), "ok", "cuda:0 A, 8 GiB (torch for CUDA 12.6", ""),
        (
            Graphics("12.6", (12, 8), True, ("cuda:0 A, 8 GiB",), ("cuda:0: no kernel image",)),
            "problem",
            "no kernel image",
            "--device cpu",
        ),
    ],
)
def test_graphics(graphics: Graphics, status: str, text: str, remedy: str) -> None:
    finding = judge(graphics)
    assert finding.status == status
    assert text in finding.text
    assert remedy in finding.remedy
    assert bool(finding.remedy) == (status != "ok")
    assert not finding.necessary  # the CPU does, too


def test_a_card_on_the_bus(tmp_path: Path) -> None:
    assert not compute.has_card(tmp_path / "nosuch")
    for place, (vendor, kind) in enumerate([("0x8086", "0x030000"), ("0x10de", "0x040300"), ("0x10de", "0x030000")]):
        assert not compute.has_card(tmp_path)
        device = tmp_path / f"0000:0{place}:00.0"
        device.mkdir()
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert compute.has_card(tmp_path)


class TestDetector:
    def test_sees_the_drawing(self) -> None:
        finding = only(compute.check_detector())
        assert finding.status == "ok"
        assert re.search(r"\((torch|openvino|onnxruntime) on \w+ in \w+", finding.text)

    def test_sees_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load = detector_module.load
        monkeypatch.setattr(detector_module, "load", lambda **given: load(**{**given, "score": 1.0}))
        finding = only(compute.check_detector())
        assert (finding.status, finding.necessary) == ("problem", True)
        assert "sees nothing" in finding.text
        assert only(compute.check_engine("torch")).status == "problem"

    def test_with_another_engine(self) -> None:
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
        assert "on cpu in " in only(compute.check_engine("openvino")).text


class TestCPU:
    INTEL = "processor : 0\nflags\t\t: fpu sse2 avx2 avx512_vnni amx_bf16 amx_int8 avx512_fp16\n\nprocessor : 1\n"

    @pytest.mark.parametrize(
        ("cpuinfo", "text"),
        [
            (INTEL, "bf16 (AMX), fp16 (AVX-512), int8 (AMX)"),
            ("Features\t: fp asimd asimdhp asimddp i8mm bf16\n", "bf16 (Arm), fp16 (Arm), int8 (Arm)"),
            ("flags : sse2 avx avx2\n", "it computes in fp32 alone"),
            ("hardware : unknown\n", "core"),
        ],
    )
    def test_precisions(self, cpuinfo: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "x86_64" if "avx2" in cpuinfo else "aarch64")
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        finding = only(system.check_cpu(tmp_path / "cpuinfo", [tmp_path]))
        assert text in finding.text
        assert finding.status == "ok"

    def test_an_old_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        (tmp_path / "cpuinfo").write_text("flags : sse2\n")
        assert only(system.check_cpu(tmp_path / "cpuinfo", [tmp_path])).status == "warning"

    def test_part_of_a_core(self, tmp_path: Path) -> None:
        (tmp_path / "cpuinfo").write_text("flags : avx2\n")
        (tmp_path / "cpu.max").write_text("50000 100000\n")
        assert only(system.check_cpu(tmp_path / "cpuinfo", [tmp_path])).text.startswith("0.5 cores, ")


class TestMemory:
    MEMINFO = "MemTotal:        8388608 kB\nMemFree:          100 kB\nMemAvailable:    4194304 kB\n"

    def check(self, folder: Path) -> Finding:
        return only(system.check_memory(folder / "meminfo", [folder]))

    def test_enough(self, tmp_path: Path) -> None:
        (tmp_path / "meminfo").write_text(self.MEMINFO)
        assert self.check(tmp_path).text == "4.0 of 8.0 GiB are free"

    def test_a_container_with_less(self, tmp_path: Path) -> None:
        (tmp_path / "meminfo").write_text(self.MEMINFO)
        (tmp_path / "memory.max").write_text(str(2**30))
        (tmp_path / "memory.current").write_text(str(2**29))
        finding = self.check(tmp_path)
        assert (finding.status, finding.text) == ("warning", "0.5 of 1.0 GiB are free")

    def test_a_system_that_does_not_tell(self, tmp_path: Path) -> None:
        assert self.check(tmp_path).status == "ok"


class TestCache:
    def test_a_folder_that_is_not_there_yet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "a" / "b"))
        assert only(system.check_cache()).status in ("ok", "warning")  # warning: where the disk is nearly full
        assert list(tmp_path.iterdir()) == []

    def test_how_large_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
        for name, tenths in (("openvino/a.bin", 3), ("weights/b.pth", 9), ("holidays/c.mp4", 20)):
            path = tmp_path / name
            path.parent.mkdir()
            with path.open("wb") as file:
                file.truncate(tenths * 2**30 // 10)  # takes no room
        assert f"{tmp_path} holds 1.2 GiB, " in only(system.check_cache()).text

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
        monkeypatch.setattr(system, "_ENOUGH_DISK", 2**30)
        finding = only(system.check_cache())
        assert finding.status == "warning"
        assert "empty it" in finding.remedy

    @pytest.mark.parametrize("home", ["{}/file/cache", "/proc/ssdcam", "/dev/null", "{}/" + "x" * 300])
    def test_one_that_cannot_be_written(self, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("SSDCAM_HOME", home.format(tmp_path))
        finding = only(system.check_cache())
        assert finding.status == "problem"
        assert home.format(tmp_path) in finding.text
        assert "SSDCAM_HOME" in finding.remedy


@pytest.mark.parametrize(("value", "text"), [("1", "SSDCAM_OFFLINE is set"), ("", "needs none"), ("0", "needs none")])
def test_network(value: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSDCAM_OFFLINE", value)
    assert text in only(system.check_network()).text


class TestCameras:
    MJPG, YUYV = Mode("MJPG", 1280, 720, (30.0,)), Mode("YUYV", 1920, 1080, (5.0,))

    def check(self, *there: Camera, busy: bool = False) -> Finding:
        return only(cameras.check_cameras(lambda: there, lambda device: busy))

    def test_none(self) -> None:
        finding = self.check()
        assert (finding.status, finding.text) == ("warning", "no camera is there")
        assert finding.remedy

    def test_a_good_one(self, tmp_path: Path) -> None:
        (tmp_path / "video0").touch()
        finding = self.check(Camera(str(tmp_path / "video0"), "Cam", (self.YUYV, self.MJPG)))
        assert finding.status == "ok"
        assert finding.text == "Cam: free, YUYV, MJPG, up to 1280x720 in MJPG"

    def test_without_mjpg(self, tmp_path: Path) -> None:
        (tmp_path / "video0").touch()
        finding = self.check(Camera(str(tmp_path / "video0"), "Cam", (self.YUYV,)))
        assert finding.status == "warning"
        assert "5 to 10 large pictures a second" in finding.text

    def test_a_system_that_tells_no_modes(self) -> None:
        assert self.check(Camera("0", "camera 0", ())).status == "ok"

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
    def test_one_that_another_program_uses(self, tmp_path: Path) -> None:
        device = tmp_path / "video0"
        device.touch()
        script = f"file = open({str(device)!r}); print('open', flush=True); input()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as user:
            assert user.stdout
            assert user.stdout.readline() == "open\n"
            finding = self.check(Camera(str(device), "Cam", (self.MJPG,)), busy=True)
            assert finding.status == "problem"
            assert f"process {user.pid})" in finding.text
            assert f"fuser -v {device}" in finding.remedy
            user.communicate("\n")

    def test_one_that_is_not_this_users(self, tmp_path: Path) -> None:
        prefix = unprivileged()
        if prefix is None:
            pytest.skip("root cannot give up its power here")
        device = tmp_path / "video0"
        device.touch()
        device.chmod(0)
        script = f"""
import json, dataclasses
from ssdcam.diagnosis.cameras import check_cameras
from ssdcam.media.sources.devices import Camera
[finding] = check_cameras(lambda: [Camera({str(device)!r}, "Cam", ())])
print(json.dumps(dataclasses.asdict(finding)))
"""
        done = subprocess.run([*prefix, sys.executable, "-c", script], capture_output=True, text=True, check=True)
        finding = Finding(**json.loads(done.stdout))
        assert finding.status == "problem"
        assert finding.text == f"Cam: not allowed to use {device}"
        assert "usermod -aG video" in finding.remedy


class TestVideo:
    def test_h264(self) -> None:
        finding = only(video.check_video())
        assert finding.status == "ok"
        assert finding.text.endswith("H.264 is written and read")

    def test_a_build_without_some_encoders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codecs = {name: containers.CODECS[name] for name in ("h264", "vp9", "mpeg4")}
        codecs |= {name: replace(codecs[name], encoder="libnosuch") for name in ("h264", "vp9")}
        monkeypatch.setattr(containers, "CODECS", codecs)
        assert only(video.check_video()).necessary
        good, bad = video.check_codecs()
        assert good.text.startswith("mpeg4, aac, ")
        assert (bad.name, bad.status) == ("codec vp9", "warning")
        assert "this PyAV was built without libnosuch" in bad.text


class TestInstallation:
    @pytest.mark.parametrize(
        ("line", "requirement"),
        [
            ("av>=18", Requirement("av", "18", "")),
            ("opencv-python>=4.10", Requirement("opencv-python", "4.10", "")),
            ("safetensors (>=0.4.5)", Requirement("safetensors", "0.4.5", "")),
            ('tflite>=2.10; extra == "all"', Requirement("tflite", "2.10", "all")),
            ("openvino<2027,>=2025.0; extra == 'openvino'", Requirement("openvino", "0", "openvino")),
            ("click", Requirement("click", "0", "")),
        ],
    )
    def test_requirements(self, line: str, requirement: Requirement, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.metadata.requires", lambda name: [line])
        assert installation.requirements() == [requirement]

    def test_what_is_lacking(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = ["numpy>=999.1", "nosuch-package>=1", "click>=8.1", 'nosuch-extra>=2; extra == "more"']
        monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
        lacking = next(f for f in installation.check_installation() if f.name == "packages")
        assert (lacking.status, lacking.necessary) == ("problem", True)
        assert "is older than 999.1, nosuch-package is not installed" in lacking.text
        assert lacking.remedy == "pip install 'numpy>=999.1' 'nosuch-package>=1'"
        assert only(installation.check_extras()).remedy.endswith("pip install 'ssdcam[more]'")
        assert list(installation.check_extras("more")) == []

    def test_any_opencv_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.metadata.requires", lambda name: ["opencv-python>=4.10"])
        versions = {"opencv-python-headless": "4.12.0.88", "ssdcam": "0.1.0"}

        def version(name: str) -> str:
            if name not in versions:
                raise installation.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr("importlib.metadata.version", version)
        packages = next(f for f in installation.check_installation() if f.name == "packages")
        assert packages.text == "opencv-python 4.12.0.88"

    def test_not_on_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nosuch")
        command = next(f for f in installation.check_installation() if f.name == "command")
        assert (command.status, command.text) == ("warning", "ssdcam is not on the PATH")
        assert "python -m ssdcam" in command.remedy


class Cards:
    """A torch that sees two graphics cards, of which it may not be able to use each, and computes so much."""

    __version__ = "2.11.0"
    version = SimpleNamespace(cuda="13.0")

    def __init__(self, fails: str = "", total: float = 4 * 14 * 14 * 27) -> None:
        self.cuda = SimpleNamespace(
            is_available=lambda: True,
            device_count=lambda: 2,
            get_device_properties=lambda index: SimpleNamespace(name=f"Card {index}", total_memory=8 * 2**30),
        )
        self.nn = SimpleNamespace(
            functional=SimpleNamespace(conv2d=lambda pixels, kernel: SimpleNamespace(sum=lambda: total))
        )
        self.fails = fails

    def get_num_threads(self) -> int:
        return 2

    def ones(self, *sides: int, device: str) -> None:
        if device == self.fails:
            raise RuntimeError("CUDA error: no kernel image is available\nmore of it")


class TestTorch:
    def test_cards_that_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", Cards())
        monkeypatch.setattr(compute, "cuda_of_driver", lambda: (13, 0))
        torch, gpu = list(compute.check_torch())[:2]
        assert (torch.status, torch.text) == ("ok", "2.11.0, 2 CPU threads")
        assert gpu.status == "ok"
        assert gpu.text == "cuda:0 Card 0, 8 GiB; cuda:1 Card 1, 8 GiB (torch for CUDA 13.0, driver for 13.0)"

    def test_a_card_that_this_torch_is_not_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", Cards(fails="cuda:1"))
        gpu = list(compute.check_torch())[1]
        assert (gpu.status, gpu.text) == ("problem", "cuda:1: CUDA error: no kernel image is available")

    def test_one_that_computes_wrongly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", Cards(total=7))
        with pytest.raises(ArithmeticError, match="a convolution on cpu gives 7, not 21168"):
            list(compute.check_torch())

    @pytest.mark.parametrize(("system", "remedy"), [("win32", "Visual C++"), ("linux", "--force-reinstall torch")])
    def test_the_remedy(self, system: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", system)
        assert remedy in compute._torch_remedy()


class TestWhichSsdcam:
    def findings(self) -> dict[str, Finding]:
        return {finding.name: finding for finding in installation.check_installation()}

    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody(name: str) -> str:
            raise installation.metadata.PackageNotFoundError(name)

        monkeypatch.setattr("importlib.metadata.version", nobody)
        monkeypatch.setattr("importlib.metadata.requires", nobody)
        found = self.findings()
        assert found["ssdcam"].status == "warning"
        assert "not installed by pip" in found["ssdcam"].text
        assert list(installation.check_extras()) == []

    def test_another_one_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
        monkeypatch.setattr("importlib.metadata.requires", lambda name: ["click>=0"])
        found = self.findings()
        assert found["ssdcam"].status == "warning"
        assert found["ssdcam"].text.endswith("is used, but 0.0.1 is installed")
        assert found["packages"].text == "click 0.0.1"

    def test_32_bits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation, "sys", SimpleNamespace(maxsize=2**31 - 1, executable="python"))
        python = self.findings()["Python"]
        assert (python.status, python.necessary) == ("problem", True)
        assert ", 32 bits, " in python.text


class TestOpenCV:
    def test_pictures_that_do_not_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decode = cv2.imdecode
        monkeypatch.setattr(cv2, "imdecode", lambda data, flags: 255 - decode(data, flags))
        finding = only(pictures.check_opencv())
        assert (finding.status, finding.necessary) == ("problem", True)
        assert finding.text == f"{cv2.__version__}: a jpg picture does not come back as it was written"

    def test_letters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cv2, "__version__", "4.10.0")
        assert [finding.name for finding in pictures.check_opencv()] == ["OpenCV", "labels"]
        monkeypatch.setattr(cv2, "__version__", "5.0.0")
        assert [finding.name for finding in pictures.check_opencv()] == ["OpenCV"]

    def test_one_without_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object) -> None:
            raise cv2.error("The function is not implemented. Rebuild the library with Windows, GTK+ 2.x")

        monkeypatch.setattr("ssdcam.media.window.why_no_display", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", refuse)
        finding = only(pictures.check_display())
        assert finding.status == "warning"
        assert "this OpenCV has no windows" in finding.text


def test_a_cards_encoders_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "cuda_of_driver", lambda: (12, 4))
    monkeypatch.setattr(video, "_trouble", lambda codec, suffix: None)
    found = {finding.name: finding for finding in video.check_codecs()}
    cards = {name for name, codec in containers.CODECS.items() if codec.encoder.endswith("_nvenc")}
    assert cards
    for name in cards:
        assert found[f"codec {name}"].status == "ok"
        assert found[f"codec {name}"].text.startswith("works") or "it works without" in found[f"codec {name}"].text


@pytest.mark.parametrize(
    ("system", "release", "docker", "where"),
    [
        ("linux", "6.1", True, "docker run --device"),
        ("linux", "5.15-Microsoft-standard-WSL2", False, "do not reach WSL"),
        ("darwin", "23", False, "Privacy & Security, Camera"),
        ("win32", "10", False, "Let desktop apps access your camera"),
        ("linux", "6.1", False, "takes rtsp:// and http:// addresses"),
    ],
)
def test_where_a_camera_may_hide(
    system: str, release: str, docker: bool, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.release", lambda: release)
    monkeypatch.setattr(cameras, "_DOCKER", tmp_path if docker else tmp_path / "nosuch")
    assert where in cameras._search()


@pytest.mark.parametrize(
    ("code", "text"),
    [(-11, "SIGSEGV"), (-200, "signal 200"), (3, "exit code 3"), (0xC0000005, "exit code 0xc0000005")],
)
def test_how_a_process_ended(code: int, text: str) -> None:
    assert checks._how(code) == text
