"""Published networks as functions, written in their own names and order, independent of ours.

Each takes layers and a normalised input, and gives locations ``(B, N, 4)`` in the order x, y, w, h and scores ``(B, N,
columns)`` with the background first, whatever order it publishes them in.
"""

import torch
import torch.nn.functional as F

from .layers import box_major

PER_CELL = {6: (4, 6, 6, 6, 4, 4), 7: (4, 6, 6, 6, 6, 4, 4)}
EXTRAS300 = [(256, 1, 1, 0), (512, 3, 2, 1), (128, 1, 1, 0), (256, 3, 2, 1)] + [(128, 1, 1, 0), (256, 3, 1, 0)] * 2
EXTRAS512 = [(256, 1, 1, 0), (512, 3, 2, 1)] + [(128, 1, 1, 0), (256, 3, 2, 1)] * 3 + [(128, 1, 1, 0), (256, 4, 1, 1)]


def run_vgg(net, x, names, extras, extra_names, source):
    """VGG-16 with SSD's extra layers, from the list of its layers' names."""
    names = iter(names)
    maps = []
    for depth, (channels, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for _ in range(count):
            x = net.conv(next(names), x, channels, 3, 1, 1).relu()
        if depth == 3:
            maps.append(source(x))
        x = F.max_pool2d(x, 3, 1, 1) if depth == 4 else F.max_pool2d(x, 2, 2, ceil_mode=True)
    x = net.conv(next(names), x, 1024, 3, 1, 6, dilation=6).relu()
    x = net.conv(next(names), x, 1024).relu()
    maps.append(x)
    for number, (name, (channels, kernel, stride, padding)) in enumerate(zip(extra_names, extras, strict=True)):
        x = net.conv(name, x, channels, kernel, stride, padding).relu()
        if number % 2:
            maps.append(x)
    return maps


def run_heads(net, maps, loc, conf, columns, per_cell):
    """Plain 3x3 predictors: raw outputs of each map."""
    sources = list(zip(maps, per_cell, strict=True))
    return [
        [net.conv(name.format(k), x, n * values, 3, 1, 1, gain=1e-3) for k, (x, n) in enumerate(sources)]
        for name, values in ((loc, 4), (conf, columns))
    ]


PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)


def amdegroot(net, x, extras=EXTRAS300):
    maps = run_vgg(
        net, x, [f"vgg.{i}" for i in PLACES], extras, [f"extras.{i}" for i in range(len(extras))],
        lambda y: net.l2_norm("L2Norm", y),
    )  # fmt: skip
    loc, conf = run_heads(net, maps, "loc.{}", "conf.{}", 21, PER_CELL[len(maps)])
    return box_major(loc, 4), box_major(conf, 21)


def lufficc(net, x, extras=EXTRAS300):
    maps = run_vgg(
        net, x, [f"backbone.vgg.{i}" for i in PLACES], extras, [f"backbone.extras.{i}" for i in range(len(extras))],
        lambda y: net.l2_norm("backbone.l2_norm", y),
    )  # fmt: skip
    head = "box_head.predictor.{}_headers.{{}}"
    loc, conf = run_heads(net, maps, head.format("reg"), head.format("cls"), 3, PER_CELL[len(maps)])
    return box_major(loc, 4), box_major(conf, 3)


def qfgaohao_vgg(net, x):
    maps = run_vgg(
        net, x, [f"base_net.{i}" for i in PLACES], EXTRAS300, [f"extras.{i}.{j}" for i in range(4) for j in (0, 2)],
        lambda y: net.norm("source_layer_add_ons.0", y),
    )  # fmt: skip
    loc, conf = run_heads(net, maps, "regression_headers.{}", "classification_headers.{}", 21, PER_CELL[6])
    return box_major(loc, 4), box_major(conf, 21)


def mmdetection(net, x, extras=EXTRAS300):
    maps = run_vgg(
        net, x, [f"backbone.features.{i}" for i in PLACES], extras,
        [f"neck.extra_layers.{i}.{j}.conv" for i in range(len(extras) // 2) for j in (0, 1)],
        lambda y: net.l2_norm("neck.l2_norm", y),
    )  # fmt: skip
    loc, conf = run_heads(net, maps, "bbox_head.reg_convs.{}.0", "bbox_head.cls_convs.{}.0", 81, PER_CELL[len(maps)])
    scores = box_major(conf, 81)
    return box_major(loc, 4), torch.cat([scores[..., 80:], scores[..., :80]], -1)  # theirs end with the background


def chainercv(net, x, extras=EXTRAS300):
    names = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, n + 1)]
    maps = run_vgg(
        net, x, [f"extractor/{n}" for n in (*names, "conv6", "conv7")], extras,
        [f"extractor/conv{8 + i}_{j}" for i in range(len(extras) // 2) for j in (1, 2)],
        lambda y: net.l2_norm("extractor/norm4", y, "scale"),
    )  # fmt: skip
    loc, conf = run_heads(net, maps, "multibox/loc/{}", "multibox/conf/{}", 21, PER_CELL[len(maps)])
    y, x, h, w = box_major(loc, 4).unbind(-1)
    return torch.stack([x, y, w, h], -1), box_major(conf, 21)


def caffe(net, x, extras=EXTRAS300):
    names = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, n + 1)]
    stages = [f"conv{6 + i}" for i in range(len(extras) // 2)]
    maps = run_vgg(
        net, x, [*names, "fc6", "fc7"], extras, [f"{stage}_{j}" for stage in stages for j in (1, 2)],
        lambda y: net.l2_norm("conv4_3_norm", y),
    )  # fmt: skip
    heads = []
    for kind, values in (("loc", 4), ("conf", 21)):
        outputs = []
        for source, y, n in zip(
            ("conv4_3_norm", "fc7", *(f"{stage}_2" for stage in stages)), maps, PER_CELL[len(maps)], strict=True
        ):
            outputs.append(net.conv(f"{source}_mbox_{kind}", y, n * values, 3, 1, 1, gain=1e-3))
        heads.append(box_major(outputs, values))
    return heads


def run_mobilenet_v1(net, x, channels, layers, sources):
    """Linzaer's and qfgaohao's: each layer is a list with norms and activations in it."""
    x = net.norm("base_net.0.1", net.conv("base_net.0.0", x, channels, 3, 2, 1, bias=False)).relu()
    maps = []
    for i, (outputs, stride) in enumerate(layers, 1):
        if i in sources:
            maps.append(x)
        x = run_separable(net, i, x, outputs, stride)
    return [*maps, x]


def run_separable(net, i, x, outputs, stride):
    n = x.shape[1]
    x = net.norm(f"base_net.{i}.1", net.conv(f"base_net.{i}.0", x, n, 3, stride, 1, groups=n, bias=False)).relu()
    return net.norm(f"base_net.{i}.4", net.conv(f"base_net.{i}.3", x, outputs, bias=False)).relu()


def mb1(net, x):
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    maps = run_mobilenet_v1(net, x, 32, layers, {12})
    for i, (narrow, wide) in enumerate([(256, 512), (128, 256), (128, 256), (128, 256)]):
        narrowed = net.conv(f"extras.{i}.0", maps[-1], narrow).relu()
        maps.append(net.conv(f"extras.{i}.2", narrowed, wide, 3, 2, 1).relu())
    loc, conf = run_heads(net, maps, "regression_headers.{}", "classification_headers.{}", 4, (6,) * 6)
    return box_major(loc, 4), box_major(conf, 4)


def run_separable_heads(net, maps, per_cell, columns, last, normed):
    """SSDLite's predictors, but a plain convolution on the last map; normed ones have ReLU6."""
    outputs = []
    for name, values in (("regression_headers", 4), ("classification_headers", columns)):
        heads = []
        for k, (x, n) in enumerate(zip(maps, per_cell, strict=True)):
            if k == len(maps) - 1:
                heads.append(net.conv(f"{name}.{k}", x, n * values, last, 1, last // 2, gain=0.1))
                continue
            x = net.conv(f"{name}.{k}.0", x, x.shape[1], 3, 1, 1, groups=x.shape[1])
            x = F.relu6(net.norm(f"{name}.{k}.1", x)) if normed else x.relu()
            heads.append(net.conv(f"{name}.{k}.{3 if normed else 2}", x, n * values, gain=0.1))
        outputs.append(box_major(heads, values))
    return outputs


def mb2_lite(net, x, width=1.0):
    def normed(conv, norm, x, outputs, *shape, groups=1):
        return net.norm(norm, net.conv(conv, x, outputs, *shape, groups=groups, bias=False))

    def block(name, x, wide, outputs, stride):
        """The block's output, and what its first activation gives."""
        y = first = x
        place = 0
        if wide != x.shape[1]:
            y = first = F.relu6(normed(f"{name}.0", f"{name}.1", y, wide))
            place = 3
        y = F.relu6(normed(f"{name}.{place}", f"{name}.{place + 1}", y, wide, 3, stride, 1, groups=wide))
        y = normed(f"{name}.{place + 3}", f"{name}.{place + 4}", y, outputs)
        return (x + y if stride == 1 and x.shape[1] == outputs else y), first

    x = F.relu6(normed("base_net.0.0", "base_net.0.1", x, int(32 * width), 3, 2, 1))
    maps, number = [], 1
    for expansion, channels, count, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for i in range(count):
            wide = x.shape[1] * expansion
            x, first = block(f"base_net.{number}.conv", x, wide, int(channels * width), 1 if i else stride)
            if number == 14:
                maps.append(first)
            number += 1
    x = F.relu6(normed("base_net.18.0", "base_net.18.1", x, 1280))
    maps.append(x)
    for i, (wide, outputs) in enumerate([(256, 512), (128, 256), (128, 256), (64, 64)]):
        y = F.relu6(normed(f"extras.{i}.conv.0", f"extras.{i}.conv.1", x, wide))
        y = F.relu6(normed(f"extras.{i}.conv.3", f"extras.{i}.conv.4", y, wide, 3, 2, 1, groups=wide))
        x = normed(f"extras.{i}.conv.6", f"extras.{i}.conv.7", y, outputs)
        maps.append(x)
    return run_separable_heads(net, maps, (6,) * 6, 21, 1, normed=True)


def mb2_lite_half(net, x):
    return mb2_lite(net, x, 0.5)


def squeezenet_lite(net, x):
    x = F.max_pool2d(net.conv("base_net.0", x, 64, 3, 2).relu(), 3, 2)
    maps = []
    fires = {3: (16, 64), 4: (16, 64), 6: (32, 128), 7: (32, 128)}
    fires |= {9: (48, 192), 10: (48, 192), 11: (64, 256), 12: (64, 256)}
    for i, (narrow, half) in fires.items():
        if i in (6, 9):
            x = F.max_pool2d(x, 3, 2)
        if i == 12:
            maps.append(x)
        y = net.conv(f"base_net.{i}.squeeze", x, narrow).relu()
        left = net.conv(f"base_net.{i}.expand1x1", y, half).relu()
        x = torch.cat([left, net.conv(f"base_net.{i}.expand3x3", y, half, 3, 1, 1).relu()], 1)
    for i, (narrow, wide, padding) in enumerate([(256, 512, 2), (256, 512, 1), *[(128, 256, 1)] * 3]):
        y = net.conv(f"extras.{i}.0", x, narrow).relu()
        y = net.conv(f"extras.{i}.2.0", y, narrow, 3, 2, padding, groups=narrow).relu()
        x = net.conv(f"extras.{i}.2.2", y, wide)
        maps.append(x)
    return run_separable_heads(net, maps, (6,) * 6, 21, 1, normed=False)


def faces(net, x, widened=False):
    layers = [(32, 1), (32, 2), (32, 1), (64, 2), *[(64, 1)] * 3]
    x = run_mobilenet_v1(net, x, 16, layers[: 6 if widened else 7], ())[-1]
    if widened:

        def basic(name, x, outputs, kernel=1, dilation=1):
            padding = dilation * (kernel // 2)
            x = net.conv(f"base_net.7.{name}.conv", x, outputs, kernel, 1, padding, dilation=dilation, bias=False)
            return net.norm(f"base_net.7.{name}.bn", x)

        branches = []
        for i, (middle, dilation) in enumerate([((16,), 2), ((16,), 3), ((12, 16), 5)]):
            y = basic(f"branch{i}.0", x, 8)
            for j, outputs in enumerate(middle, 1):
                y = basic(f"branch{i}.{j}", y, outputs, 3).relu()
            branches.append(basic(f"branch{i}.{len(middle) + 1}", y, 16, 3, dilation))
        x = (basic("ConvLinear", torch.cat(branches, 1), 64) + basic("shortcut", x, 64)).relu()
    maps = [x]
    for i, (outputs, stride) in enumerate([(128, 2), (128, 1), (128, 1), (256, 2), (256, 1)], 8):
        if i == 11:
            maps.append(x)
        x = run_separable(net, i, x, outputs, stride)
    maps.append(x)
    y = net.conv("extras.0.0", x, 64).relu()
    y = net.conv("extras.0.2.0", y, 64, 3, 2, 1, groups=64).relu()
    maps.append(net.conv("extras.0.2.2", y, 256).relu())
    return run_separable_heads(net, maps, (3, 2, 2, 3), 2, 3, normed=False)


def faces_widened(net, x):
    return faces(net, x, widened=True)


def nvidia(net, x):
    body = "feature_extractor.feature_extractor"

    def normed(conv, norm, x, outputs, *shape, scale=1.0):
        return net.norm(norm, net.conv(conv, x, outputs, *shape, bias=False), scale=scale)

    x = F.max_pool2d(normed(f"{body}.0", f"{body}.1", x, 64, 7, 2, 3).relu(), 3, 2, 1)
    for place, channels, count, stride in ((4, 64, 3, 1), (5, 128, 4, 2), (6, 256, 6, 1)):
        for i in range(count):
            name = f"{body}.{place}.{i}"
            y = normed(f"{name}.conv1", f"{name}.bn1", x, channels).relu()
            y = normed(f"{name}.conv2", f"{name}.bn2", y, channels, 3, 1 if i else stride, 1).relu()
            y = normed(f"{name}.conv3", f"{name}.bn3", y, 4 * channels, scale=0.2)
            if i == 0:
                x = normed(f"{name}.downsample.0", f"{name}.downsample.1", x, 4 * channels, 1, stride)
            x = (x + y).relu()
    maps = [x]
    for i, (narrow, wide, stride, padding) in enumerate(
        [(256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0)]
    ):
        name = f"additional_blocks.{i}"
        y = normed(f"{name}.0", f"{name}.1", x, narrow).relu()
        x = normed(f"{name}.3", f"{name}.4", y, wide, 3, stride, padding).relu()
        maps.append(x)
    loc, conf = run_heads(net, maps, "loc.{}", "conf.{}", 81, PER_CELL[6])
    outputs = []
    for heads, values in ((loc, 4), (conf, 81)):
        # Theirs: values, then boxes, then cells. Ours: cells, then boxes, then values.
        pairs = zip(heads, PER_CELL[6], strict=True)
        parts = [y.reshape(1, values, n, -1).permute(0, 3, 2, 1).reshape(1, -1, values) for y, n in pairs]
        outputs.append(torch.cat(parts, 1))
    return outputs
