"""The records that cross a boundary, and their JSON: frozen, unknown keys and NaN refused, loads(dumps(x)) == x."""

import hashlib
import json
import math
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

DIGITS = 10  # of a sealed number: an error of 1e-15 changes the tenth digit of one number in 100,000, the twelfth of one in 1,000
LATER = {"later": True}  # metadata of a setting that came after runs had been made


class Record(BaseModel):
    """A frozen record. Numbers must be finite; what was not measured is None with a note beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measure(Record):
    """One number with n, its 95 % interval, its unit and which way is safer; `value=None` means "not measured", and `note` says why."""

    name: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    unit: str = "share"
    safer: Literal["lower", "higher", "neither"] = "neither"
    note: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Measure":
        if self.value is None and not self.note:
            raise ValueError(f"{self.name}: a number that was not measured needs a note that says why")
        if self.value is not None and self.unit == "share" and (self.low is None or self.high is None):
            raise ValueError(f"{self.name}: a share needs its interval")
        return self

    def text(self, digits: int = 0) -> str:
        """ "64 % [57, 71]", or "not measured"."""
        if self.value is None:
            return "not measured"
        scale, unit = (100, " %") if self.unit == "share" else (1, "")
        number = f"{scale * self.value:.{digits}f}{unit}"
        if self.low is None or self.high is None:
            return number
        return f"{number} [{scale * self.low:.{digits}f}, {scale * self.high:.{digits}f}]"


def requested(params: Any) -> dict[str, Any]:
    """The settings that a request holds: all of a dataclass's, but for fields marked LATER while they hold their default.

    So a setting that is added later leaves the names and digests of the runs that were made without it as they are.
    """
    fields = params.__dataclass_fields__
    return {k: v for k, v in asdict(params).items() if not (fields[k].metadata.get("later") and v == fields[k].default)}


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, no NaN. Two equal requests have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def rounded(value: Any) -> Any:
    """A JSON value with its floats at DIGITS significant digits; integers, words and NaN stay, tuples become lists.

    Libraries differ in the last of 16 digits from version to version: a record that kept them would have another digest.
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def finite(value: float) -> float | None:
    """The value, or None where it is NaN or infinite."""
    return value if math.isfinite(value) else None
