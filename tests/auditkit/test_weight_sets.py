"""Sets of weights by every way of naming them, and an account of every number."""

import zipfile

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from auditkit import checkpoint, weight_sets
from auditkit.errors import UserError

pytestmark = pytest.mark.fast


class Net(nn.Module):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)


RAW, KEPT = Net(0), Net(1)
WANTED = dict(RAW.named_parameters())
STATE, OLD = ({k: v.detach().clone() for k, v in net.state_dict().items()} for net in (RAW, KEPT))
DOTLESS = {f"model_ema.{k.replace('.', '')}": v for k, v in OLD.items()}  # as LDM calls its average
COUNT = sum(t.numel() for t in STATE.values())


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in WANTED)


@pytest.fixture
def kept(tmp_path):
    """What is found in a checkpoint that torch.save wrote."""

    def make(content):
        torch.save(content, tmp_path / "x.pt")
        return weight_sets.find(checkpoint.read(tmp_path / "x.pt"), WANTED)

    return make


@pytest.mark.parametrize(
    ("content", "called"),
    [
        ({"model": STATE, "ema": OLD}, "ema."),
        ({"model": STATE, "ema": {f"module._orig_mod.{k}": v for k, v in OLD.items()}}, "ema.module._orig_mod."),
        (
            {"state_dict": {f"model.{k}": v for k, v in STATE.items()} | {f"model_ema.{k.replace('.', '')}": v for k, v in OLD.items()}},
            "state_dict.model_ema.",
        ),
        ({"model": STATE, "averages": [*OLD.values()]}, "averages.*"),
        ({"model": STATE, "ema": (0.999, [*OLD.values()])}, "ema.1.*"),
        ({"model": STATE, "ema": EMAModel(KEPT.parameters()).state_dict()}, "ema.shadow_params.*"),
        ({"model": STATE, "ema": {"shadow": [torch.ones(7), *OLD.values()]}}, "ema.shadow.1..."),
    ],
)
def test_the_average_is_found_whatever_its_names(kept, content, called):
    found = kept(content)
    assert same(found.sets[called], OLD)
    assert any(same(s, STATE) for name, s in found.sets.items() if name != called)


def test_numbers_that_belong_to_no_set_are_counted(kept):
    """Counters of one number are no weights; half of a set is no set."""
    half = dict(list(OLD.items())[:2])
    found = kept({"model": STATE, "steps": torch.tensor(7), "ema": half, "noise": torch.zeros(5)})
    assert list(found.sets) == ["model."]
    assert found.rest == {"ema.first.weight": 12, "ema.first.bias": 4, "noise": 5}
    assert kept({"model": STATE}).rest == {}


def test_what_no_name_points_at_is_found_and_laid_out(kept):
    flat = torch.cat([t.flatten() for t in (*STATE.values(), *OLD.values())])
    views, at = {}, 0
    for name, t in STATE.items():
        views[name], at = flat[at : at + t.numel()].view(t.shape), at + t.numel()
    found = kept(views)
    assert same(found.sets[weight_sets.UNNAMED], OLD)
    assert found.rest == {}


def test_the_unnamed_set_lies_in_the_order_of_the_named_one(kept):
    order = sorted(STATE, reverse=True)
    flat = torch.cat([t.flatten() for state in (STATE, OLD) for t in (state[k] for k in order)])
    views, at = {}, 0
    for name in order:
        views[name], at = flat[at : at + STATE[name].numel()].view(STATE[name].shape), at + STATE[name].numel()
    assert same(kept({k: views[k] for k in STATE}).sets[weight_sets.UNNAMED], OLD)


def test_a_row_cut_from_a_larger_table_is_said(kept):
    """torch.save keeps the whole storage behind a slice."""
    table = torch.arange(80.0).view(20, 4)
    found = kept({"model": STATE, "rows": table[:10]})
    assert found.rest == {"rows": 40, weight_sets.UNNAMED: 40 - 40 // COUNT * COUNT}
    assert len(found.sets) == 1 + 40 // COUNT


def test_two_tensors_of_one_name_are_two(kept):
    """{"ema.x": a, "ema": {"x": b}} leads to "ema.x" twice."""
    found = kept({**{f"ema.{k}": v for k, v in OLD.items()}, "ema": STATE})
    assert same(found.sets["ema."], OLD)
    assert sum(found.rest.values()) == COUNT


def test_a_tensor_that_repeats_its_storage_hides_nothing(kept):
    flat = torch.cat([t.flatten() for t in OLD.values()])
    found = kept({**STATE, "x": flat.expand(2, -1)})
    assert found.rest == {"x": COUNT}


def test_a_strided_view_shows_no_more_than_its_own_numbers(kept):
    """Every second number of a storage is the other set's."""
    pairs = {k: torch.stack([STATE[k], OLD[k]], -1)[..., 0] for k in STATE}
    found = kept(pairs)
    assert list(found.sets) == [""]
    assert found.rest == {weight_sets.UNNAMED: COUNT}


def test_whole_numbers_are_no_weights(kept):
    found = kept({"model": STATE, "q": {k: (v * 10).to(torch.int8) for k, v in OLD.items()}})
    assert list(found.sets) == ["model."]
    assert sum(found.rest.values()) == COUNT


def test_python_numbers_and_bytes_are_numbers_too(kept):
    found = kept({"model": STATE, "ema": {k: v.tolist() for k, v in OLD.items()}, "raw": bytes(40)})
    assert all(torch.allclose(found.sets["ema."][k], OLD[k]) for k in OLD)
    assert found.rest == {"raw": 40}


@pytest.mark.parametrize("odd", ["sparse", "meta", "deep"])
def test_what_is_no_plain_array_is_refused_in_one_line(kept, odd):
    deep = torch.ones(3)
    for _ in range(20):
        deep = [deep]
    content = {"sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta"), "deep": deep}[odd]
    with pytest.raises(UserError, match="not read here"):
        kept({"model": STATE, "x": content})


def test_a_record_that_torch_does_not_read_is_named(tmp_path):
    torch.save(STATE, tmp_path / "x.pt")
    assert checkpoint.unread_records(tmp_path / "x.pt") == []
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr("x/data/ema.bin", bytes(100))
    assert checkpoint.unread_records(tmp_path / "x.pt") == ["x/data/ema.bin"]


def test_files_that_could_hold_weights_are_named(tmp_path):
    torch.save(STATE, tmp_path / "x.pt")
    for name, size in (("notes.txt", 10), ("weights.txt", 10**4), ("ema.pkl", 10), ("old.npz", 10), ("grid.png", 10)):
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "link.pt").symlink_to(tmp_path / "x.pt")
    assert [p.name for p in checkpoint.beside(tmp_path, 1000)] == ["ema.pkl", "link.pt", "old.npz", "weights.txt"]
    assert checkpoint.beside(tmp_path / "x.pt", 1000) == []


TWO = {"conv_in.weight": torch.zeros(2, 3), "out.bias": torch.zeros(4)}


def test_every_complete_set_is_found_by_its_prefix():
    tensors = {f"{p}{k}": t + 1 for p in ("", "module.", "ema/") for k, t in TWO.items()}
    assert set(weight_sets.find(tensors, TWO).sets) == {"", "module.", "ema/"}


def test_a_set_of_other_shapes_or_with_a_gap_is_none():
    assert weight_sets.find({"a.conv_in.weight": torch.zeros(3, 3), "a.out.bias": torch.zeros(4)}, TWO).sets == {}
    assert weight_sets.find({"a.conv_in.weight": torch.zeros(2, 3)}, TWO).sets == {}


def test_numbered_optimizer_state_counts_in_the_order_of_the_parameters():
    tensors = {f"opt.state.{i}.exp_avg": t + i for i, t in enumerate(TWO.values())}
    found = weight_sets.find(tensors, TWO).sets["opt.state.*.exp_avg"]
    assert float(found["out.bias"][0]) == 1


def test_a_name_that_only_ends_alike_is_no_prefix():
    assert weight_sets.find({"xconv_in.weight": torch.zeros(2, 3), "xout.bias": torch.zeros(4)}, TWO).sets == {}


def test_the_averages_of_diffusers_count_in_the_order_of_the_parameters():
    tensors = {f"shadow_params.{i}": t + i for i, t in enumerate(TWO.values())}
    assert set(weight_sets.find(tensors, TWO).sets) == {"shadow_params.*"}


def test_names_that_repeat_the_mark_break_nothing():
    assert weight_sets.find({"state.0.state.0.x": torch.zeros(1)}, TWO).sets == {}
