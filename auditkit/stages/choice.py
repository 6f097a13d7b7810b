"""What of an evaluation can be chosen: how many images, which judges, by which protocol, with whose weights."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auditkit import data
from auditkit.errors import UserError
from auditkit.stages import imagery, judging
from auditkit.stages.train import make_params
from auditkit_evaluators import networks, plugin, verdict
from auditkit_evaluators.protocol import PROTOCOLS


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many images are judged: `n` of the forgotten class, `retain_n` of each retained one."""

    n: int = 500
    retain_n: int = 50

    def __post_init__(self) -> None:
        if self.n < 1 or self.retain_n < 1:
            raise UserError(f"-n and --retain-n must be at least 1, got {self.n} and {self.retain_n}")


def counts_of(params: dict[str, Any], protocol: str) -> dict[str, int]:
    """The counts that were set, else those of the protocol."""
    how = PROTOCOLS[protocol]
    return asdict(make_params(Counts, {"n": how.n, "retain_n": how.retain_n, **params}))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which judges speak, by which protocol, and the weights that the user gives them."""

    judges: tuple[str, ...] = ("ensemble", "clip")
    protocol: str = "clean"
    clip_model: str | None = None
    judge_weights: str | None = None
    inception: str | None = None

    def check(self, dataset: data.Dataset) -> None:
        """Refuses what could not be judged, before anything is spent: what `request` refuses, and networks that cannot be loaded."""
        self.request(dataset.name)
        if self.judge_weights is not None:
            networks.load_all(Path(self.judge_weights), dataset)

    def request(self, data_name: str) -> dict[str, Any]:
        """What of it decides the result: files by their content, plug-ins by that of their module. Refuses what does not fit together."""
        judging.check(self.judges)
        if self.clip_model is not None and "clip" not in self.judges:
            raise UserError(f"--clip-model is for the clip judge, and --judges are {','.join(self.judges)}")
        if self.inception is not None and "fidelity" not in self.judges:
            raise UserError(f"--inception is for fidelity, and --judges are {','.join(self.judges)}")
        return {
            "judges": list(self.judges),
            "protocol": self.protocol,
            "rule": verdict.RULE,
            "clip": _clip_fingerprint(data_name, self.clip_model) if "clip" in self.judges else None,
            "weights": imagery.content(self.judge_weights),
            "inception": imagery.content(self.inception),
            "plugins": {name: plugin.sha_of(name) for name in self.judges if ":" in name},
        }


def _clip_fingerprint(data_name: str, model: str | None) -> str:
    from auditkit_evaluators import clip  # imports open_clip: a second that other commands need not pay

    return clip.fingerprint(data_name, model)
