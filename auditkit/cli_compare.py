"""The commands that set methods side by side: compare and ablate."""

from typing import Annotated, Any

import typer

from auditkit.errors import UserError, choose
from auditkit.options import (
    PROTOCOLS,
    Classes,
    Data,
    DryRun,
    Jobs,
    Json,
    Judges,
    JudgeWeights,
    NoWait,
    Original,
    Seed,
    collect,
    console,
    dry,
    finish,
    needed,
    parse_judges,
)
from auditkit.published import PRESETS

Seeds = Annotated[int, typer.Option(min=1, max=50, help="Training seeds of each method and class.")]
N = Annotated[int | None, typer.Option("-n", help="Images of the forgotten class (500).")]
RetainN = Annotated[int | None, typer.Option(help="Images of each retained class (50).")]
RIVALS = ("safemax", "salun", "salun:objective=ga", "selective-amnesia", "esd", "dimum", "random-label", "gradient-ascent", "retrain")


def compare(
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="METHOD[:NAME=VALUE,...]", help="What to compare; repeatable (all, and retrain)."),
    ] = None,
    classes: Classes = None,
    seeds: Seeds = 1,
    attack: Annotated[str, typer.Option("--attack", help="The attack on every model, or none.")] = "relearn",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the attack.")] = None,
    judges: Annotated[
        str | None, typer.Option("--judges", metavar="NAME[,NAME]", help="As in evaluate (ensemble,clip; a preset's own).")
    ] = None,
    matched_fidelity: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SHARE", help="Each method as strong as this loss of the rest allows (0.01).")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="paper-table1 or paper-lambda: methods, protocol, published numbers.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="clean, or paper: as in SA and SalUn.")] = None,
    judge_weights: JudgeWeights = None,
    n: N = None,
    retain_n: RetainN = None,
    data: Annotated[str | None, typer.Option("--data", metavar="NAME", help="The data set (digits; a preset's own).")] = None,
    original: Original = None,
    seed: Seed = 0,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
) -> None:
    """Set unlearning methods side by side: what is forgotten, what is lost, what comes back, and what it cost."""
    if preset is not None and methods:
        raise UserError(f"--preset {preset} brings its methods: leave out --method")
    said = PRESETS[choose("preset", preset, PRESETS)] if preset is not None else None
    chosen = said.classes if said and classes is None else needed(classes)
    names = parse_judges(judges) if judges else said.judges if said else ("ensemble", "clip")
    methods = list(said.methods if said else methods or RIVALS)
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show_compare, stages
    from auditkit_attacks import ATTACKS

    budget: dict[str, Any] = {}
    if attack != "none" and attack in ATTACKS:
        budget = collect(attack, ATTACKS[attack], "Budget", set_)
    elif set_:
        raise UserError(f"--set is for an attack's settings, and the attack is {attack}")
    asked: dict[str, Any] = {"seeds": seeds, "attack": None if attack == "none" else attack, "budget": budget, "judges": names}
    asked |= {"protocol": choose("protocol", protocol or (said.protocol if said else "clean"), PROTOCOLS)}
    asked |= {"data_name": data or (said.data if said else "digits"), "original": original, "seed": seed}
    asked |= {"fidelity": matched_fidelity, "preset": preset, "judge_weights": judge_weights}
    asked["counts"] = {k: v for k, v in {"n": n, "retain_n": retain_n}.items() if v is not None}
    if dry_run:
        return dry("compare", as_json, stages.plan_compare(methods, chosen, **asked))
    done = stages.compare(methods, chosen, **asked, console=shown)
    show_compare.comparison(done)
    finish(done, as_json, done.read_json("comparison.json"))


def ablate(
    classes: Classes = None,
    lam: Annotated[str, typer.Option("--lam", metavar="X,X,...", help="Values of lambda.")] = "0,1,10,50,100",
    psi: Annotated[str, typer.Option("--psi", metavar="KIND[,KIND]", help="exponential, reversed, constant, linear, snr.")] = "exponential",
    seeds: Seeds = 1,
    judges: Judges = "ensemble,clip,fidelity",
    n: N = None,
    retain_n: RetainN = None,
    data: Data = "digits",
    original: Original = None,
    seed: Seed = 0,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
) -> None:
    """SAFEMax over lambda, as it is and with psi normalised: UA against what is lost of the other classes."""
    chosen, names = needed(classes), parse_judges(judges)
    try:
        values = [f"{float(part)!r}".removesuffix(".0") for part in lam.split(",")]
    except ValueError:
        raise UserError(f"--lam takes numbers separated by commas, like 0,1,10; got {lam!r}") from None
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show_compare, stages

    kinds = [kind.strip() for kind in psi.split(",")]
    extra = {kind: "" if kind == "exponential" else f",psi={kind}" for kind in kinds}
    weighed = []
    for kind in kinds:
        moves = kind in ("exponential", "reversed")  # the others know no lambda
        for also in ("", ",psi_normalise=true"):
            for value in values if moves else values[:1]:
                if not (also and (kind == "constant" or (moves and float(value) == 0))):  # psi is 1 already
                    weighed.append(f"safemax:lam={value}{extra[kind]}{also}")
    asked: dict[str, Any] = {"seeds": seeds, "attack": None, "judges": names, "data_name": data, "original": original, "seed": seed}
    asked["counts"] = {k: v for k, v in {"n": n, "retain_n": retain_n}.items() if v is not None}
    if dry_run:
        return dry("ablate", as_json, stages.plan_compare(weighed, chosen, **asked))
    done = stages.compare(weighed, chosen, **asked, console=shown)
    show_compare.comparison(done)
    finish(done, as_json, done.read_json("comparison.json"))
