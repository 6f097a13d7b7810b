"""The commands about attacks beside `attack` itself: its suites and list, the selftest, and the scan of a checkpoint."""

import json
from typing import Annotated, Any

import typer

from auditkit.errors import choose
from auditkit.options import Classes, Data, Jobs, Json, NoWait, Seed, console, dry, finish, parse_classes


def suite(
    name: str,
    where: dict[str, Any],
    judge_weights: str | None,
    seeds: int | None,
    seed: int,
    as_json: bool,
    dry_run: bool,
    no_wait: bool,
    jobs: int | None,
) -> None:
    """`attack quick`, `standard` and `full`."""
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show_suite, stages

    if dry_run:
        return dry(f"attack {name}", as_json, stages.plan_suite(name, **where, seeds=seeds))
    done = stages.suite(name, **where, judge_weights=judge_weights, seeds=seeds, seed=seed, console=shown)
    show_suite.suite(done)
    finish(done, as_json, done.read_json("suite.json"))


def listing(as_json: bool) -> None:
    """`attack --list`."""
    import importlib

    from auditkit import show_suite, stages
    from auditkit_attacks import ATTACKS, SUITES

    costs = stages.default_costs()
    if as_json:
        tiers = {name: importlib.import_module(path).TIER for name, path in ATTACKS.items()}
        print(
            json.dumps(
                [{"attack": a, "tier": tiers[a], "evaluations": costs[a], "suites": [s for s in SUITES if a in SUITES[s]]} for a in ATTACKS]
            )
        )
        return
    show_suite.listing(ATTACKS, SUITES, costs)


def selftest(
    attacks: Annotated[list[str] | None, typer.Argument(metavar="[ATTACK ...]", help="Attacks to test (all).")] = None,
    classes: Annotated[int, typer.Option("--class", "-c", metavar="F", help="The class to plant in.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, max=50, help="Seeds: other plants, other draws.")] = 1,
    everything: Annotated[bool, typer.Option("--all", help="The MAY cells too: every attack on every plant.")] = False,
    data: Data = "digits",
    as_json: Json = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
) -> None:
    """Attack models with planted leaks: an attack that does not find what was planted for it is not validated."""
    from auditkit_attacks import ATTACKS

    names = tuple(choose("attack", name, ATTACKS) for name in attacks or ATTACKS)
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show_suite, stages

    done = stages.selftest(names, data_name=data, seeds=seeds, label=classes, all_plants=everything, console=shown)
    show_suite.selftest(done)
    finish(done, as_json, done.read_json("selftest.json"))


def scan(
    what: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A checkpoint, a model folder or a run.")],
    classes: Classes = None,
    original: Annotated[str | None, typer.Option("--original", metavar="RUN|DIR", help="The architecture and class table.")] = None,
    data: Data = "digits",
    n: Annotated[int, typer.Option("-n", min=1, help="Images of the class by each set of weights.")] = 100,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find every set of weights in a checkpoint (raw, EMA, optimizer moments) and see which still makes the class."""
    forget = parse_classes(classes)
    shown = console(no_wait=False)
    from auditkit import show_suite, stages

    record = stages.scan(what, forget, original=original, data_name=data, n=n, seed=seed, console=shown)
    if as_json:
        print(json.dumps(record))
        return
    show_suite.scan(record)
    print(json.dumps({key: record[key] for key in ("still", "complete", "dead", "unread", "rest")}))
