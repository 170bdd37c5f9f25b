"""The embedded detectors: what ``ssdcam`` does the minute it is installed, without ``-m`` and without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ssdcam import load
from ssdcam.checkpoints import resolve
from ssdcam.checkpoints.labels import COCO, VOC
from ssdcam.checkpoints.resolve import EMBEDDED, open_checkpoint
from ssdcam.cli import console
from ssdcam.detection import openvino_engine, openvino_networks
from ssdcam.errors import UnavailableError
from ssdcam.notes import NOTE

from . import pictures
from .cli.running import INSTALLED, records, run

ROOT = Path(__file__).parents[1]
MEGABYTES_AT_MOST = 12
OFFLINE = [shutil.which("unshare") or "", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def offline():
    """How to run ssdcam where there is no network, not even by mistake."""
    tried = subprocess.run([*OFFLINE, "true"], capture_output=True, check=False) if OFFLINE[0] else None
    if not tried or tried.returncode:
        pytest.skip("this system lets nobody make a network namespace: unshare --map-root-user --net true")
    return [*OFFLINE, *INSTALLED]


@pytest.mark.parametrize(("name", "labels"), [("voc", VOC), ("coco", COCO)])
def test_what_is_embedded(name, labels):
    checkpoint = open_checkpoint(name)
    assert set(checkpoint.spec.labels) == set(labels)
    assert {array.dtype for array in checkpoint.weights.values()} == {np.dtype(np.float16)}
    assert sum(array.nbytes for array in checkpoint.weights.values()) < MEGABYTES_AT_MOST * 1e6
    provenance = checkpoint.spec.provenance
    assert provenance["source"] == "trained by ssdcam train"
    assert provenance["licence"] == "Apache-2.0"
    assert "detect.tflite" in provenance["start"]
    assert "photos)" in provenance["data"]


def test_cats_and_dogs(cats_photo, offline):
    done = run("image", cats_photo, "--json", "--score", 0.4, command=offline)
    assert done.returncode == 0
    assert all("preparing this network" in line for line in done.stderr.splitlines()), done.stderr
    [record] = records(done.stdout)
    assert {found["label"] for found in record["detections"]} == {"cat", "dog"}


def test_a_picture_a_video_and_a_stream_without_a_model_or_network(tmp_path, offline):
    """On noise, which shows nothing: the point is that everything starts and ends as it should."""
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.jpg"), rng.integers(0, 255, (120, 160, 3), np.uint8))
    with av.open(tmp_path / "in.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(5):
            picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        file.mux(stream.encode(None))

    run("image", "a.jpg", "-q", command=offline, cwd=tmp_path)  # which may prepare the network
    image = run("image", "a.jpg", "--json", command=offline, cwd=tmp_path)
    assert (image.returncode, image.stderr) == (0, "")
    assert len(records(image.stdout)) == 1
    video = run("video", "in.mp4", "-o", "out.mp4", "-q", command=offline, cwd=tmp_path)
    assert (video.returncode, video.stderr) == (0, "")
    with av.open(tmp_path / "out.mp4") as file:
        assert sum(1 for _ in file.decode(video=0)) == 5
    stats = ["--stats", "stats.json", "-q"]
    webcam = run("webcam", "in.mp4", "--json", "--no-window", *stats, command=offline, cwd=tmp_path)
    assert (webcam.returncode, webcam.stderr) == (0, "")
    assert records(webcam.stdout)
    assert json.loads((tmp_path / "stats.json").read_text())["model"] == EMBEDDED[0]


class TestInt8:
    """With the ranges that they come with, in OpenVINO."""

    FILES = Path(resolve.embedded_folder() / "int8")

    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        """An empty cache, and a CPU that has the instructions."""
        pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'ssdcam[openvino]'")
        monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(openvino_engine, "computes_int8", lambda: True)
        monkeypatch.setattr(console.log, "propagate", True)
        return tmp_path / "home"

    @pytest.fixture
    def own_files(self, tmp_path, monkeypatch):
        """A copy of the package's folder, to be damaged."""
        copy = tmp_path / "weights"
        shutil.copytree(self.FILES, copy / "int8")
        monkeypatch.setattr(openvino_networks, "embedded_folder", lambda: copy)
        return copy / "int8"

    @pytest.mark.parametrize("name", EMBEDDED)
    @pytest.mark.parametrize("engine", ["auto", "openvino"])
    def test_auto_takes_it_where_the_cpu_has_instructions_for_it(self, name, engine, monkeypatch):
        assert load(name, engine=engine, device="cpu").engine.precision == "int8"
        assert load(name, engine=engine, device="cpu", precision="fp32").engine.precision == "fp32"
        monkeypatch.setattr(openvino_engine, "computes_int8", lambda: False)
        assert load(name, engine=engine, device="cpu").engine.precision != "int8"

    def test_other_weights_have_none(self, tiny_checkpoint):
        assert openvino_engine.OpenVinoEngine(tiny_checkpoint).precision != "int8"

    def test_no_file_is_left_over(self):
        """Each is named by the weights that it was made from: after training, it has to be made again."""
        names = {openvino_networks.network_name(open_checkpoint(name)) for name in EMBEDDED}
        assert {path.name for path in self.FILES.iterdir()} == {f"{n}{end}" for n in names for end in (".xml", ".bin")}
        told = (ROOT / "weights" / "README.md").read_text("utf-8")
        assert names == set(re.findall(r"`([0-9a-f]{32})`", told))

    def test_every_convolution_has_weights_for_which_there_is_8_bit_arithmetic(self):
        """Bytes, and a scale for each output channel: depthwise ones had scales for columns of their kernels, too."""
        for description in self.FILES.glob("*.xml"):
            nodes = openvino_engine.openvino_core().read_model(description).get_ops()
            convolutions = [node for node in nodes if node.get_type_name() in ("Convolution", "GroupConvolution")]
            assert {node.get_type_name() for node in convolutions} == {"Convolution", "GroupConvolution"}
            for convolution in convolutions:
                scaled = convolution.input_value(1).get_node()
                stored, scale = (scaled.input_value(place).get_node() for place in range(2))
                assert (scaled.get_type_name(), stored.get_type_name()) == ("Multiply", "Convert")
                assert stored.input_value(0).get_element_type().get_type_name() == "i8"
                shape = list(scaled.get_output_shape(0))
                channels = 1 if convolution.get_type_name() == "Convolution" else 2
                assert list(scale.get_output_shape(0)) == [*shape[:channels], *[1] * (len(shape) - channels)]

    def test_at_once(self, tmp_path, home):
        """Neither pictures nor torch nor NNCF are needed, and the package's own folder is left as it is."""
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((90, 120, 3), np.uint8))
        before = sorted(self.FILES.iterdir())
        code = (
            "import sys\n"
            "from ssdcam.cli.main import main\n"
            "try: main()\n"
            "finally: print(*sorted({'torch', 'nncf'} & sys.modules.keys()))"
        )
        options = ["--engine", "openvino", "--precision", "int8", "--json"]
        for start in ("first", "second"):
            done = run("image", tmp_path / "a.png", *options, command=[sys.executable, "-c", code])
            assert (done.returncode, done.stdout.splitlines()[1:]) == (0, [""])
            assert ("preparing this network" in done.stderr, len(done.stderr.splitlines())) == (
                (True, 1) if start == "first" else (False, 0)
            )
        assert [path.suffix for path in (home / "openvino").iterdir()] == [".blob"]
        assert sorted(self.FILES.iterdir()) == before

    def test_a_cache_that_cannot_be_written_does_no_harm(self, home, caplog):
        home.touch()
        caplog.set_level(NOTE, console.log.name)
        detector = load(device="cpu")
        assert detector.engine.precision == "int8"
        preparing, not_kept = (record.message for record in caplog.records)
        assert preparing.startswith("openvino: preparing this network, to be kept in ")
        folder = home / "openvino"
        assert not_kept.startswith(f"openvino: it cannot be kept in {folder} (Not a directory), and will be prepared")
        assert len(detector.infer(detector.prepare([pictures.noise(90, 120, 1)] * 3))[0]) == 3
        assert len(caplog.records) == 3  # another plan, for batches, is not kept either

    def test_what_was_kept_and_damaged_is_made_again(self, home):
        photos = [pictures.noise(90, 120, 1)]
        detector = load(engine="openvino")
        expected = detector.infer(detector.prepare(photos))[1]
        [blob] = (home / "openvino").iterdir()
        size = blob.stat().st_size
        blob.write_bytes(blob.read_bytes()[:-7])
        np.testing.assert_array_equal(load(engine="openvino").infer(detector.prepare(photos))[1], expected)
        assert blob.stat().st_size == size

    @pytest.mark.parametrize("suffix", [".xml", ".bin"])
    @pytest.mark.parametrize("damage", [b"", b"<?xml", None])
    def test_package_data_that_is_damaged(self, suffix, damage, own_files, caplog):
        """The next precision runs, and whoever insists is told what to do."""
        for path in own_files.glob(f"*{suffix}"):
            path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
        caplog.set_level(NOTE, console.log.name)
        engine = load(device="cpu").engine
        assert engine.name == "openvino"
        assert engine.precision in ("bf16", "fp16", "fp32")
        assert f"{engine.precision} runs instead" in caplog.text
        with pytest.raises(UnavailableError, match="is damaged; install ssdcam again"):
            load(engine="openvino", precision="int8")

    def test_a_network_that_does_not_compile(self, monkeypatch, caplog):
        core = openvino_engine.openvino_core()

        class Refusing:
            """As OpenVINO does what its settings of the environment forbid."""

            def __getattr__(self, name):
                return getattr(core, name)

            def compile_model(self, model, device, settings):
                if "INFERENCE_PRECISION_HINT" not in settings:  # int8
                    raise RuntimeError("Exception from core.cpp:117:\nobject is not initialized\n\n")
                return core.compile_model(model, device, settings)

        monkeypatch.setattr(openvino_engine, "openvino_core", Refusing)
        caplog.set_level(NOTE, console.log.name)
        engine = load(engine="openvino").engine
        assert engine.precision != "int8"
        complaint = "precision int8: OpenVINO cannot compile this network for this CPU (object is not initialized)"
        assert f"openvino: {complaint}; {engine.precision} runs instead" in caplog.text
        with pytest.raises(UnavailableError, match=re.escape(complaint)):
            load(engine="openvino", precision="int8")

    def test_ranges_of_ones_own_pictures_come_first_but_not_by_themselves(self, home, caplog):
        pytest.importorskip("nncf", reason="needs NNCF: pip install 'ssdcam[int8]'")
        photos = [pictures.noise(300, 300, seed) for seed in range(2)]

        def raw(**how):
            detector = load(engine="openvino", **how)
            assert detector.engine.precision == "int8"
            return detector.infer(detector.prepare(photos))[1]

        embedded = raw()
        np.testing.assert_array_equal(raw(precision="int8"), embedded)
        own = raw(precision="int8", calibrate=photos)
        assert not np.array_equal(own, embedded)
        np.testing.assert_array_equal(raw(precision="int8"), own)
        np.testing.assert_array_equal(raw(), embedded)

        for path in (home / "openvino").glob("*.xml"):
            path.unlink()
        caplog.set_level(NOTE, console.log.name)
        np.testing.assert_array_equal(raw(precision="int8"), embedded)
        assert "the ranges of your pictures are gone: the detector's own are used" in caplog.text

    @pytest.mark.parametrize("name", EMBEDDED)
    def test_nearly_the_same_numbers(self, name):
        """As in fp32, whatever else is in the batch."""
        photos = [cv2.imread(str(path)) for path in sorted((ROOT / "docs/pictures").glob("*.jpg"))]
        exact, ours = (load(name, engine="openvino", precision=how) for how in ("fp32", "int8"))
        batch = exact.prepare(photos)
        for k, (expected, found) in enumerate(zip(exact.infer(batch), ours.infer(batch), strict=True)):
            assert 0 < np.abs(found - expected).mean() < 0.15 * expected.std()
            np.testing.assert_array_equal(ours.infer(batch[3:4])[k][0], found[3])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "data", "metric"), [("voc", "voc", "voc07"), ("coco", "voc", "voc07"), ("coco", "coco", "coco")]
    )
    def test_accuracy(self, name, data, metric, shared):
        """As the model card says."""
        found = {}
        for precision in ("fp32", "int8"):
            how = ["-m", name, "--engine", "openvino", "--precision", precision]
            done = run("eval", shared / "data" / data, "--metric", metric, "--json", *how, command=INSTALLED)
            found[precision] = json.loads(done.stdout)["map"]
        assert found["int8"] == pytest.approx(found["fp32"], abs=0.006)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "metric", "expected"),
    [("voc", "voc", "voc07", 0.6013), ("coco", "voc", "voc07", 0.5591), ("coco", "coco", "coco", 0.1573)],
)
def test_accuracy(name, data, metric, expected, shared):
    """On photos that were not trained on, as the model card says; the start has .5505 and .1568 by the same rules."""
    model = ["-m", name, "--engine", "torch", "--precision", "fp32"]
    done = run("eval", shared / "data" / data, "--metric", metric, "--json", *model, command=INSTALLED)
    assert json.loads(done.stdout)["map"] == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("name", EMBEDDED)
def test_python_in_a_clone_finds_them_beside_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the folder ``ssdcam`` hides the installed package, whose part the weights are."""

    def hidden(package: str) -> None:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(resolve.resources, "files", hidden)
    assert resolve.open_checkpoint(name).weights
