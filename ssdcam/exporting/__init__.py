"""Detectors as files for other programs: ONNX, OpenVINO IR, TorchScript; each checked against torch when written."""
