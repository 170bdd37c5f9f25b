"""Backbones: modules that turn a normalised image into the feature maps that SSD predicts from.

Each has ``channels``, the number of channels of every feature map, and ``forward(images) -> list of feature maps``.
Layers carry the names of the first publication of the network, which every converter maps to.
"""
