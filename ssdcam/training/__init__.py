"""Training SSD: matching, the MultiBox loss, the paper's augmentation, and the trainer (paper, section 2.2).

Import the modules you use. Only the command line stands on this package.
"""
