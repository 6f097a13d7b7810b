"""Writes a pack of a data set's images at half their size (means of 2 x 2 pixels): photographs that a CPU can learn in an hour.

    python benchmarks/shrunk.py --data cifar10 --out cifar10-16.npz

The same images in any order give the same data set (docs/decisions/0008-canonical-order.md): CIFAR-10's becomes `pack-3c982761b2f2`.
"""

import argparse

import numpy as np
import torch

from auditkit import data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="as auditkit takes it")
    parser.add_argument("--out", required=True, help="the .npz to write")
    given = parser.parse_args()
    whole = data.load(given.data)
    halves = torch.nn.functional.avg_pool2d(whole.images.float(), 2).round().to(torch.uint8)
    np.savez(given.out, images=halves.numpy(), labels=whole.labels.numpy(), classes=np.array(whole.classes))
    print(data.load(f"pack:{given.out}").name)


if __name__ == "__main__":
    main()
