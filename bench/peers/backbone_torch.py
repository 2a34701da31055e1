"""The backbones of models/ in PyTorch, to be compared with bench_backbone: milliseconds of a training step and peak memory.

Shape for shape the nets of models/<net>/train.prototxt: iResNet (Deng et al., arXiv 1801.07698) and MobileFaceNet
(Chen et al., arXiv 1804.07573), a cosine classifier with ArcFace's margin above them, SGD with momentum. Prints one
line of JSON. bench/backbone.sh runs it with Debian's python3-torch and jemalloc preloaded.

usage: backbone_torch.py [--net NAME] [--batch N] [--classes N] [--rounds N] [--warmup N] [--count]
"""
import argparse
import json
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


def conv_bn_act(inputs, outputs, kernel, stride=1, groups=1, act=True):
    """Convolution without bias that keeps the size (at stride 1), batch norm and PReLU."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return layers + [nn.PReLU(outputs)] if act else layers


class ResidualUnit(nn.Module):
    """Batch norm, convolution, batch norm, PReLU, convolution, batch norm; plus its input."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            *conv_bn_act(inputs, outputs, 3),
            *conv_bn_act(outputs, outputs, 3, stride, act=False),
        )
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*conv_bn_act(inputs, outputs, 1, stride, act=False))

    def forward(self, x):
        y = self.body(x)
        y += x if self.shortcut is None else self.shortcut(x)
        return y


class IResNet(nn.Module):
    def __init__(self, depths):
        super().__init__()
        units, width = [], 64
        for stage, depth in enumerate(depths):
            outputs = 64 << stage
            for unit in range(depth):
                units.append(ResidualUnit(width, outputs, 2 if unit == 0 else 1))
                width = outputs
        self.stem = nn.Sequential(*conv_bn_act(3, 64, 3))
        self.units = nn.Sequential(*units)
        self.last_norm = nn.BatchNorm2d(width)
        self.embed = nn.Linear(width * 7 * 7, 512)
        self.embedding_norm = nn.BatchNorm1d(512)
        self.embedding_norm.weight.requires_grad_(False)  # its gain stays 1

    def forward(self, x):
        x = self.last_norm(self.units(self.stem(x)))
        return self.embedding_norm(self.embed(x.flatten(1)))


class Bottleneck(nn.Module):
    """1x1 to `inner` channels, 3x3 by channel, 1x1 to `outputs`; plus its input at stride 1."""

    def __init__(self, inputs, inner, outputs, stride=1):
        super().__init__()
        self.residual = stride == 1
        self.body = nn.Sequential(
            *conv_bn_act(inputs, inner, 1),
            *conv_bn_act(inner, inner, 3, stride, groups=inner),
            *conv_bn_act(inner, outputs, 1, act=False),
        )

    def forward(self, x):
        y = self.body(x)
        if self.residual:
            y += x
        return y


class MobileFaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            *conv_bn_act(3, 128, 3, stride=2),
            *conv_bn_act(128, 128, 3, groups=64),
            Bottleneck(128, 128, 128, stride=2),
            *[Bottleneck(128, 128, 128) for _ in range(4)],
            Bottleneck(128, 256, 256, stride=2),
            *[Bottleneck(256, 256, 256) for _ in range(6)],
            Bottleneck(256, 512, 256, stride=2),
            *[Bottleneck(256, 256, 256) for _ in range(2)],
            *conv_bn_act(256, 512, 1),
            nn.Conv2d(512, 512, 7, groups=512, bias=False),
            nn.BatchNorm2d(512),
        )
        self.embed = nn.Linear(512, 512, bias=False)
        self.embedding_norm = nn.BatchNorm1d(512)

    def forward(self, x):
        return self.embedding_norm(self.embed(self.trunk(x).flatten(1)))


NETS = {
    "iresnet18": lambda: IResNet([2, 2, 2, 2]),
    "iresnet50": lambda: IResNet([3, 4, 14, 3]),
    "iresnet100": lambda: IResNet([3, 13, 30, 3]),
    "mobilefacenet": MobileFaceNet,
}


class ArcFaceHead(nn.Module):
    """Cross entropy of 64 cos, with 0.5 added to the angle of each sample's own class."""

    def __init__(self, classes):
        super().__init__()
        self.centers = nn.Parameter(0.01 * torch.randn(classes, 512))

    def forward(self, embedding, label):
        cosine = F.linear(F.normalize(embedding), F.normalize(self.centers)).clamp(-1, 1)
        own = label.unsqueeze(1)
        angle = torch.acos(cosine.gather(1, own)) + 0.5
        return F.cross_entropy(64 * cosine.scatter(1, own, torch.cos(angle)), label)


def peak_megabytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def measure(backbone, options):
    """Milliseconds of each step after the warm-up."""
    head = ArcFaceHead(options.classes)
    backbone = backbone.to(memory_format=torch.channels_last).train()
    weights = [w for module in (backbone, head) for w in module.parameters() if w.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=5e-4)
    image = (2 * torch.rand(options.batch, 3, 112, 112) - 1).contiguous(memory_format=torch.channels_last)
    label = torch.randint(options.classes, (options.batch,))
    times = []
    for _ in range(options.warmup + options.rounds):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = head(backbone(image), label)
        loss.backward()
        optimizer.step()
        times.append(1000 * (time.perf_counter() - begin))
        assert torch.isfinite(loss).item(), f"the loss is {loss.item()}"
    return times[options.warmup :]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", choices=sorted(NETS), default="iresnet50")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--count", action="store_true", help="count the parameters only")
    options = parser.parse_args()
    # By itself it takes one of two processors on some virtual machines.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    torch.manual_seed(1)
    backbone = NETS[options.net]()
    result = {
        "net": options.net,
        "batch": options.batch,
        "parameters": sum(w.numel() for w in backbone.parameters() if w.requires_grad),
    }
    if not options.count:
        step = statistics.median(measure(backbone, options))
        result.update(
            step_ms=round(step, 2),
            images_per_s=round(1000 * options.batch / step, 2),
            peak_mb=round(peak_megabytes(), 1),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
