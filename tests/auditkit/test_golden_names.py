"""The names of requests of every stage, of invented parents: whoever changes a name makes every finished run be computed again.

A name is the hash of what decides a run. A field that is renamed, a default that moves, a VERSION that is raised and a setting that is
added change names, sometimes on purpose and sometimes unseen. Nothing here is computed and no parent exists, so the table holds on every
machine. Who changes a name on purpose replaces its line and says so in CHANGELOG.md; `benchmarks/golden.py` compares whole chains.
"""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from auditkit import data, models, sampling
from auditkit.stages import choice, judging, source, train
from auditkit.stages.attack import Case, index_request, request_of
from auditkit.stages.audit import audit_request
from auditkit.stages.compare import budget_of, compare_request, entry
from auditkit.stages.evaluate import evaluate_request, images_request
from auditkit.stages.exchange import import_request
from auditkit.stages.report import report_request
from auditkit.stages.sample import sample_request
from auditkit.stages.selftest import selftest_request
from auditkit.stages.suite import suite_request
from auditkit.unlearn import METHODS, safemax
from auditkit.unlearn import retrain as from_scratch
from auditkit_attacks import ATTACKS, BUDGETS, module_of
from auditkit_evaluators import cards, reference
from auditkit_evaluators.votes import Judge

pytestmark = pytest.mark.fast

NAMES = {
    "pretrain digits": "pretrain-digits-661ad3bdc4c8",
    "pretrain small": "pretrain-digits-36210851eeaf",
    "unlearn safemax": "unlearn-safemax-c2-171bf58d9aa7",
    "unlearn salun": "unlearn-salun-c2-b5032dbe70b0",
    "unlearn selective-amnesia": "unlearn-selective-amnesia-c2-0c80c0135b41",
    "unlearn esd": "unlearn-esd-c2-c5bf4bea1dbf",
    "unlearn dimum": "unlearn-dimum-c2-07d71b18f493",
    "unlearn random-label": "unlearn-random-label-c2-e9b32accd3d1",
    "unlearn gradient-ascent": "unlearn-gradient-ascent-c2-4277eac58c9d",
    "unlearn gate": "unlearn-gate-c2-a6cf703fcb6c",
    "unlearn retrain": "retrain-retrain-c2-efb38e5fa804",
    "unlearn safemax changed": "unlearn-safemax-c2-c96128c5ab08",
    "unlearn safemax without images changed": "unlearn-safemax-c2-04aa1bdfc1e3",
    "unlearn salun changed": "unlearn-salun-c2-22b4a3b66021",
    "unlearn selective-amnesia changed": "unlearn-selective-amnesia-c2-2626b820a5dd",
    "unlearn dimum changed": "unlearn-dimum-c2-e6b4e481629c",
    "unlearn two classes, seed 3": "unlearn-safemax-c2-5-ede926880db0",
    "sample evaluate's": "sample-ddim-ef23f5628e54",
    "sample one class": "sample-ddim-c2-b724b9601732",
    "sample dpm": "sample-dpm-c2-d6a9cf61b96c",
    "attack repeat": "attack-repeat-c2-b29c0db082a2",
    "attack null-harvest": "attack-null-harvest-c2-280d87808b94",
    "attack wrong-label": "attack-wrong-label-c2-e910e0161652",
    "attack guidance-sweep": "attack-guidance-sweep-c2-4ef51de9ded3",
    "attack sampler-sweep": "attack-sampler-sweep-c2-42010ffe6224",
    "attack partial": "attack-partial-c2-c99885549791",
    "attack arithmetic": "attack-arithmetic-c2-11b1bd0baf32",
    "attack handoff": "attack-handoff-c2-70bf6eb7e15f",
    "attack readout": "attack-readout-c2-254e4a6a27b4",
    "attack rescale": "attack-rescale-c2-653dc3e2b01b",
    "attack embedding": "attack-embedding-c2-8a8bc5a191e2",
    "attack quantise": "attack-quantise-c2-a275fa952098",
    "attack reversal": "attack-reversal-c2-9725ae41fb8c",
    "attack finetune": "attack-finetune-c2-45a79586b1cc",
    "attack auxiliary": "attack-auxiliary-c2-806e8c751b5f",
    "attack inversion": "attack-inversion-c2-6a67d1273bd2",
    "attack lora": "attack-lora-c2-3f6c20d4d858",
    "attack relearn": "attack-relearn-c2-285f23e7a9f7",
    "attack relearn-all": "attack-relearn-all-c2-4bd36a00e9fd",
    "attack weights": "attack-weights-c2-43a1cc2c5c67",
    "attack edit-depth": "attack-edit-depth-c2-98607f56bc81",
    "attack null-likelihood": "attack-null-likelihood-c2-68e1181eb834",
    "attack membership": "attack-membership-c2-2c9efbafa753",
    "attack repeat on random": "attack-repeat-c2-563329babc9f",
    "attack repeat on gate": "attack-repeat-c2-7e6ceb7e65e1",
    "attack repeat on plant": "attack-repeat-c2-2fb4bc99015f",
    "attack relearn in suites": "attack-relearn-c2-5b8df47a7167",
    "attack relearn in compare": "attack-relearn-c2-ff7c210aa2be",
    "index": "attack-relearn-c2-9dac72c1cd1c",
    "suite": "suite-quick-c2-aa3c7fdf6782",
    "selftest": "selftest-all-c2-d5fe6d0c0d64",
    "selftest of some": "selftest-some-c3-ea511842cbfb",
    "evaluate clean": "evaluate-ensemble-clip-c2-c40cad2f4e37",
    "evaluate paper": "evaluate-ensemble-clip-c2-6356d4e6a43b",
    "evaluate by default": "evaluate-ensemble-c2-a4f35d8bb98a",
    "evaluate --images": "evaluate-images-c2-dc43f1e6eea1",
    "card": "card-cnn-0fed2c93cb88",
    "card of the noise test": "card-noise-0fdb298de1b8",
    "audit": "audit-safemax-c2-36066b9567a2",
    "report": "report-audit-c2-32063232e80a",
    "compare": "compare-methods-c2-c122b9c7f174",
    "import": "import-peers-c2-5-f1361880983d",
}
A, B, C, D = ("0" * 64, "1" * 64, "2" * 64, "3" * 64)  # data set, original, subject, and whatever else is a parent
CHANGED = {
    "safemax": {"lam": "5", "psi": "constant"},
    "safemax without images": {"forget_data": "generated", "target": "latent"},
    "salun": {"objective": "ga", "pixel_sum": "true"},
    "selective-amnesia": {"ema": "0.99", "gamma": "2"},
    "dimum": {"from_": "others"},
}


def digits():
    """A data set with the name and the classes of digits, and an invented digest."""
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    images = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    return data.Dataset("digits", images, torch.arange(10), words, np.array(["model"] * 10), A)


def made(found, fitted, classes=(2,), seed=0, method="safemax"):
    return train.unlearn_request(method, classes, fitted, found["original"], found["data"], seed)


def training(found):
    """pretrain, retrain and every method, by default and with other settings."""
    for name in ("digits", "small"):
        fitted = train.make_params(from_scratch.Params, from_scratch.RECIPES[name])
        yield f"pretrain {name}", train.pretrain_request(found["data"], name, fitted, 0)
    for label, changes in ({name: {} for name in METHODS} | {f"{name} changed": c for name, c in CHANGED.items()}).items():
        method = label.split()[0]
        module = __import__(METHODS[method], fromlist=["Params"])
        yield f"unlearn {label}", made(found, train.make_params(module.Params, changes), method=method)
    yield "unlearn two classes, seed 3", made(found, safemax.Params(), (2, 5), 3)


def sampled(found):
    common = {"data_name": "digits", "seed": 1}
    kept = {2: 500} | dict.fromkeys((0, 1, 3, 4, 5, 6, 7, 8, 9), 50)
    yield "sample evaluate's", sample_request(found["subject"], kept, noise_for=(2,), **common)
    yield "sample one class", sample_request(found["gate"], {2: 100}, **common)
    how = sampling.Sampler(kind="dpm", steps=10, guidance=0.5, clip=False, rederive=False, spacing="quadratic")
    yield "sample dpm", sample_request(found["random"], {2: 1}, sampler=how, **common)


def attacked(found):
    """Every attack on the subject at its default budget, which is in its request; one on each control."""
    declared = {"method": "safemax", "params": asdict(safemax.Params())}
    case = Case(found["subject"], found["original"], (2,))

    def cell(name, target, changes=None):
        budget = train.make_params(module_of(name).Budget, changes or {})
        return request_of(name, target, (2,), found["data"], budget, 0, declared, found["original"])

    for name in ATTACKS:
        yield f"attack {name}", cell(name, found["subject"])
    for role in ("random", "gate", "plant"):
        yield f"attack repeat on {role}", cell("repeat", found[role])
    yield "attack relearn in suites", cell("relearn", found["subject"], BUDGETS["relearn"])
    yield "attack relearn in compare", cell("relearn", found["subject"], asdict(budget_of("relearn", None)))
    cells = dict.fromkeys(("subject", "original", "random", "retrained"), D)
    yield "index", index_request("relearn", case, found["data"], module_of("relearn").Budget(), 0, cells)
    about = {"seeds": 1, "judges": {"cnn": {"sha": D}}, "validated": {"repeat": True}, "planted": {"repeat": 2}}
    yield "suite", suite_request("quick", case, found["data"], 0, about, {(0, "repeat", "subject"): D})
    yield "selftest", selftest_request(tuple(ATTACKS), found["data"], 1, 2, False, {(0, "repeat", "clean"): D})
    yield "selftest of some", selftest_request(("repeat",), found["data"], 2, 3, True, {(0, "repeat", "clean"): D})


def judged(found):
    case = Case(found["subject"], found["original"], (2,))
    made_of = {"sample/subject": D, "attack/relearn": D}
    for protocol in ("clean", "paper"):
        asked = choice.Choice(protocol=protocol).request("digits")
        params = {**choice.counts_of({}, protocol), **asked}
        request = evaluate_request(case, found["data"], ("ensemble", "clip"), params, made_of, 0)
        yield f"evaluate {protocol}", request
    params = {**asdict(choice.Counts()), **choice.Choice().request("digits")}
    yield "evaluate by default", evaluate_request(case, found["data"], ("ensemble",), params, made_of, 0)
    asked = choice.Choice(judges=("ensemble", "density", "fidelity")).request("digits")
    yield "evaluate --images", images_request((2,), found["data"], asked, D, 0)
    one = Judge(name="cnn", family="cnn", judge=lambda images: None, temperature=1.5, fitted_on="", sha=D, space="pixels")
    yield "card", judging.card_request("cnn", {"key": cards.key(one, found["data"])}, found["data"], 0)
    yield "card of the noise test", judging.card_request("noise", {"version": reference.VERSION}, found["data"], 0)
    summed = audit_request(case, "safemax", found["data"], D, 0)
    yield "audit", summed
    yield "report", report_request(summed, {"redact": False, "seconds": {}, "made": {}}, {"evaluation": D, "used/model": C})
    lines = [entry(text) for text in ("safemax", "mild@salun:lr=1e-4", "retrain")]
    how = {"seeds": 1, "attack": "relearn", "matched": None, "preset": None}
    both = {("evaluate", "safemax", 2, 0): D, ("attack", "safemax", 2, 0): D}
    yield "compare", compare_request(lines, (2,), how, found["original"], found["data"], both, 0)
    yield "import", import_request(D, "ema", 32, (5, 2))


@pytest.fixture(scope="module")
def requests(tmp_path_factory):
    """Every request by what it is called in the table."""
    folder = tmp_path_factory.mktemp("model")
    (folder / models.CONFIG).write_text("{}")  # what the random floor is named by
    original = source.Source("original", folder, B, "original", B)
    subject = source.Source("subject", folder, C, "subject", C)
    found = {"data": digits(), "original": original, "subject": subject, "random": source.random_floor(subject, 1)}
    found |= {"gate": source.gated(original, (2,)), "plant": source.planted("alias", original, 2, "digits", 0)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "load", lambda name: found["data"])
        return dict(pair for stage in (training, sampled, attacked, judged) for pair in stage(found))


def test_the_table_is_complete(requests):
    assert requests.keys() == NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES), "two requests have one name"
    stages = {found for path in Path(train.__file__).parent.glob("*.py") for found in re.findall(r'stage="([a-z]+)"', path.read_text())}
    assert stages <= {request.stage for request in requests.values()}, "a stage has no request here"


@pytest.mark.parametrize("called", NAMES)
def test_a_name_is_as_it_was(requests, called):
    request = requests[called]
    assert request.name == NAMES[called], f"the name has changed; the request now is {request.model_dump()}"
