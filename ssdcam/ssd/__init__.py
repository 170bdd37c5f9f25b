"""The paper (Liu et al., arXiv 1512.02325), free of I/O.

``default_boxes``, ``spec`` and ``host`` need numpy only; the rest needs torch. Import the modules you use.
"""
