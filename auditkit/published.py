"""What the papers report on CIFAR-10, and the settings and protocol that come nearest to theirs.

SAFEMax's table and its lambda figure (https://arxiv.org/abs/2508.20773): FID of the retained classes, minutes and gigabytes for 1000
iterations, UA over 500 images in per cent, H the mean entropy of the judge's answer in nats. Means of ten classes.
"""

from dataclasses import dataclass

_RECIPE = "steps=1000,batch=128,lr=1e-4,schedule=constant"
_FISHER = "lam=10,replay=500,fisher_images=5000,fisher_timesteps=1000,fisher_range=unit,ema=0.9999,pixel_sum=true"
_OURS = (
    "SAFEMax's learning rate, batch, alpha and label dropout are our reading, its body not being at hand",
    "which FID reference, which judge and how many images of the retained classes the published rows used is not known",
    "auditkit samples with 25 DDIM steps and w = 1; the papers with 1000 ancestral steps and w = 2",
    "time and memory are of this machine; the published ones are their authors' own, on hardware that is not named here",
)


@dataclass(frozen=True)
class Preset:
    """What a comparison asks for, the published numbers by entry, and in what it differs from what was published."""

    methods: tuple[str, ...]
    published: dict[str, str]
    classes: tuple[int, ...]
    deviations: tuple[str, ...]
    data: str = "cifar10"
    protocol: str = "paper"
    judges: tuple[str, ...] = ("ensemble", "fidelity")


PRESETS = {
    "paper-table1": Preset(
        methods=(
            f"SAFEMax@safemax:{_RECIPE},lam=1,alpha=1",
            f"SalUn@salun:{_RECIPE}",
            f"SA@selective-amnesia:steps=20000,batch=128,lr=1e-4,schedule=constant,{_FISHER}",
        ),
        published={
            "SAFEMax": "FID 16.74, 5.83 min, 9.50 GB, UA 100 % but 0 % for class 2, H 1.12-1.16",
            "SalUn": "FID 16.76, 11.81 min, 23.23 GB, UA 98.8-100 %, H .03-.09",
            "SA": "FID 17.71, 174.37 min, 17.29 GB, UA 98.6-100 % but 1.8 % for class 2, H .90-1.06",
        },
        classes=tuple(range(10)),
        deviations=(*_OURS, "SA's EMA starts from the original's weights, theirs goes on from the base model's own average"),
    ),
    "paper-lambda": Preset(
        methods=tuple(f"lambda {lam}@safemax:{_RECIPE},lam={lam},alpha=1" for lam in (0, 1, 10, 50, 100)),
        published={
            "lambda 0": "UA 100 %, FID 13.89",
            "lambda 1": "UA 100 %, FID 13.11",
            "lambda 10": "not in what was at hand",
            "lambda 50": "UA 98.8 %",
            "lambda 100": "UA 83.8 %",
        },
        classes=(0,),
        deviations=_OURS,
    ),
}
