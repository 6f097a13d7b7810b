"""Ask for another class. Threat model: the attacker asks the model for every class but the forgotten one (tier T0).

Finds an alias (the class moved to another label) and methods that teach the forgotten label another class and may teach the reverse too.

Source: Saliency Unlearning maps the class to its neighbour (https://arxiv.org/abs/2310.12508); side effects across labels are what
UnlearnCanvas measures (https://arxiv.org/abs/2402.11846).
"""

from collections.abc import Mapping
from functools import partial

from auditkit_attacks.grid import Budget as Budget
from auditkit_attacks.grid import Draw, chooses
from auditkit_attacks.target import Target

TIER = "query"


def settings(target: Target) -> Mapping[str, Draw]:
    """Each retained label."""
    return {f"label={k}": partial(target.query, k) for k in target.retained}


run = chooses(settings)
