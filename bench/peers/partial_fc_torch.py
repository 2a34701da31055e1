"""A sampled margin softmax in PyTorch, to be compared with bench_partial_fc: milliseconds of a step and peak memory.

Of the same semantics (An et al., arXiv 2203.15565): all classes of the batch plus random others up to `rate`, cosines,
CosFace's margin, softmax, SGD with momentum and decay. Two forms of the update: `dense`, where the centres are one
parameter and every row decays and moves, and `rows`, where only the rows that were drawn are touched. Prints one line
of JSON. bench/partial_fc.sh runs it with Debian's python3-torch and jemalloc preloaded.

usage: partial_fc_torch.py [--classes N] [--rate R] [--batch N] [--width N] [--steps N] [--update dense|rows]
"""
import argparse
import json
import statistics
import time

import torch
from torch.nn import functional as F

SCALE, MARGIN, LR, MOMENTUM, DECAY = 64.0, 0.4, 0.1, 0.9, 5e-4


def draw(labels, classes, rate):
    """Sorted classes that take part, and the batch's labels as positions among them."""
    if rate >= 1:
        return None, labels
    positives = torch.unique(labels, sorted=True)
    keys = torch.rand(classes)
    keys[positives] = 2.0
    rows = torch.topk(keys, max(int(rate * classes), len(positives))).indices.sort().values
    return rows, torch.searchsorted(rows, labels)


def loss_of(embedding, centres, labels):
    cosine = F.linear(F.normalize(embedding), F.normalize(centres)).clamp(-1, 1)
    own = torch.arange(len(labels))
    logits = SCALE * cosine
    logits[own, labels] = SCALE * (cosine[own, labels] - MARGIN)
    return F.cross_entropy(logits, labels)


class DenseHead:
    def __init__(self, classes, width):
        self.weight = torch.nn.Parameter(torch.empty(classes, width).uniform_(-0.0173, 0.0173))
        self.optimizer = torch.optim.SGD([self.weight], LR, MOMENTUM, weight_decay=DECAY)

    def step(self, embedding, labels, rate):
        rows, labels = draw(labels, len(self.weight), rate)
        loss = loss_of(embedding, self.weight if rows is None else self.weight[rows], labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss


class RowsHead:
    def __init__(self, classes, width):
        self.weight = torch.empty(classes, width).uniform_(-0.0173, 0.0173)
        self.momentum = torch.zeros(classes, width)

    def step(self, embedding, labels, rate):
        rows, labels = draw(labels, len(self.weight), rate)
        centres = (self.weight if rows is None else self.weight[rows]).requires_grad_()
        loss = loss_of(embedding, centres, labels)
        loss.backward()
        with torch.no_grad():
            change = centres.grad.add_(centres, alpha=DECAY)
            if rows is None:
                self.momentum.mul_(MOMENTUM).add_(change)
                self.weight = centres.detach().sub_(self.momentum, alpha=LR)
            else:
                change.add_(self.momentum[rows], alpha=MOMENTUM)
                self.momentum[rows] = change
                self.weight[rows] = centres.sub_(change, alpha=LR)
        return loss


def peak_megabytes():
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100000)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--update", choices=["dense", "rows"], default="dense")
    options = parser.parse_args()
    torch.manual_seed(1)
    head = (DenseHead if options.update == "dense" else RowsHead)(options.classes, options.width)
    times, losses = [], []
    for step in range(options.steps + 2):
        labels = torch.randint(options.classes, (options.batch,))
        embedding = torch.randn(options.batch, options.width).requires_grad_()
        begin = time.perf_counter()
        loss = head.step(embedding, labels, options.rate)
        losses.append(loss.item())
        if step >= 2:
            times.append(1e3 * (time.perf_counter() - begin))
    print(json.dumps({"ms": round(statistics.median(times), 1), "peak_mb": round(peak_megabytes()),
                      "first_loss": round(losses[0], 3), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
