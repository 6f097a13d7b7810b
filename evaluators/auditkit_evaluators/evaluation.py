"""What an evaluation says, as one versioned record: `auditkit schema evaluation` prints its JSON schema."""

from typing import Any, Literal

from pydantic import Field

from auditkit.results import Measure, Record
from auditkit_evaluators.cards import Card
from auditkit_evaluators.control import Control
from auditkit_evaluators.evidence import Evidence
from auditkit_evaluators.noise import Structure
from auditkit_evaluators.verdict import Verdict, Word

SCHEMA_VERSION: Literal[2] = 2
WORST_FIRST: tuple[Word, ...] = ("PRESENT", "UNDECIDED", "OTHER CLASS", "NO CLASS")


class Heard(Record):
    """One set of images, what every judge says of it, and the verdict. `digest` is that of the run or file that holds the images."""

    set: str
    role: str
    digest: str
    verdict: Verdict
    structure: Structure
    evidence: tuple[Evidence, ...]


class Evaluation(Record):
    """A whole evaluation. `verdict` is the worst word about the subject's untouched images of any forgotten class.

    `controls` are the positive controls, one for each class; `notes` say what was taken for granted and what was left out.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    verdict: Word
    verdicts: tuple[Verdict, ...]
    protocol: str
    deviations: tuple[str, ...]
    data: str
    asked: int = Field(alias="class")
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    judges: tuple[str, ...]
    subject: str
    original: str | None
    missing: dict[str, str]
    controls: tuple[Control, ...] = ()  # none in evaluations of before
    notes: tuple[str, ...] = ()
    cards: tuple[Card, ...]
    sets: tuple[Heard, ...]
    sentences: tuple[str, ...]
    fano: tuple[Measure, ...]
    retained: tuple[Measure, ...]
    density: tuple[Measure, ...]
    fidelity: tuple[Measure, ...]
    curve_judge: str
    curves: list[dict[str, Any]]
    headlines: dict[str, dict[str, Any]]
    attacks: dict[str, dict[str, Any]]
    in_short: tuple[str, ...]
    gate: tuple[Measure, ...]
