"""One sheet of images that several models make of one label, equal seeds in equal columns: what a table of rates does not show.

python benchmarks/sheet.py --data pack:cifar10-16.npz --out sheet.png bird=2:original=RUN bird=2:SAFEMax=RUN ship=8:SAFEMax=RUN
"""

import argparse
from pathlib import Path

import torch

from auditkit import data, pictures, sampling
from auditkit.stages import source
from auditkit.stages.sample import key_of

COLUMNS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="WORD=LABEL:NAME=MODEL")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    made = []
    for row in given.rows:
        asked, _, who = row.partition(":")
        (word, label), (name, run) = asked.split("="), who.split("=")
        model, k = source.named(run, "subject").load(), int(label)
        made.append((f'{name}, "{word}"', sampling.sample(model, torch.full((COLUMNS,), k), sampling.Sampler(), seed=key_of(0, k))))
    title = f"{data.load(given.data).name}, untouched models"
    Path(given.out).write_bytes(pictures.grid(made, title=title))


if __name__ == "__main__":
    main()
