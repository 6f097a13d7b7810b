"""Models in and out: checkpoints of the peers become runs, models become folders and checkpoints."""

import json
import pickle
import zipfile

import pytest
import torch
from diffusers import UNet2DModel

from auditkit import models, peer_weights, rundir, stages
from auditkit.cli import run
from auditkit.errors import UserError
from auditkit.stages import source

SMALL = {"mult": (1, 2)}  # attention at level 1: the side is 32


def said(capsys, *arguments):
    """Exit code, stdout, stderr with its lines joined (rich wraps)."""
    code = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def weights_of(run_):
    return peer_weights.to_peer(source.of_run(run_, "subject").load().net.cpu())


def same(found, net):
    return all(torch.equal(found[k], t) for k, t in net.state_dict().items())


def test_import_makes_a_run_that_the_next_commands_mean(make_peer, save_peer, capsys):
    net = make_peer(**SMALL)
    code, out, err = said(capsys, "import", save_peer(net), "--class", 2)
    assert code == 0
    path, digest = out.splitlines()
    made = rundir.pointed("latest-model")
    assert str(made.path) == path
    assert digest == f"digest {made.digest}"
    assert rundir.pointed("latest").name == made.name
    assert made.name.startswith("import-peers-c2-")
    assert "a list of 3 without EMA, step 999; raw weights, as its authors sampled it" in err
    assert "channels [32, 64], 10 classes, images 3 x 32 x 32" in err
    assert same(weights_of(made), net)
    about = made.read_json("import.json")
    assert (about["weights"], about["step"], about["attention"], about["holds"]) == ("raw", 999, [1], ["raw"])
    assert source.chosen(None, "digits").name == made.name
    assert said(capsys, "verify", made.name, "--digest", made.digest)[0] == 0


def test_the_same_file_is_the_same_run_under_any_name_and_the_other_weights_are_another(make_peer, save_peer, capsys):
    net, ema = make_peer(**SMALL), make_peer(seed=1, **SMALL)
    first = save_peer(net, ema)
    (first.parent / "other.pth").write_bytes(first.read_bytes())
    a, b = (json.loads(said(capsys, "import", first.with_name(name), "--json")[1]) for name in ("ckpt.pth", "other.pth"))
    assert a == b
    assert (a["weights"], a["holds"], a["form"]) == ("ema", ["raw", "ema"], "a list of 4 with EMA")
    assert same(weights_of(rundir.find(a["run"])), ema)
    _, out, err = said(capsys, "import", first, "--weights", "raw", "--json")
    assert "it holds ema weights too, which this run says nothing about: import them with --weights ema" in err
    c = json.loads(out)
    assert c["digest"] != a["digest"]
    assert same(weights_of(rundir.find(c["run"])), net)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_bare_state_dict_and_a_bare_average(make_peer, tmp_path, prefix):
    net = make_peer(**SMALL)
    torch.save({f"{prefix}{k}": t for k, t in net.state_dict().items()}, tmp_path / "bare.pth")
    found = stages.look(str(tmp_path / "bare.pth"))
    assert (found.about["weights"], found.about["step"], found.about["why"]) == ("raw", None, "the only ones in it")
    if prefix:
        with pytest.raises(UserError, match="holds no ema weights: it is a bare state dict; use --weights raw"):
            stages.look(str(tmp_path / "bare.pth"), weights="ema")
    else:
        assert stages.look(str(tmp_path / "bare.pth"), weights="ema").about["weights"] == "ema"


def test_dry_run_says_what_is_there_and_writes_nothing(make_peer, save_peer, capsys, runs_folder):
    path = save_peer(make_peer(**SMALL))
    code, out, err = said(capsys, "import", path, "--dry-run")
    assert (code, out) == (0, "")
    assert "nothing was written" in err
    code, out, _ = said(capsys, "import", path, "--dry-run", "--json")
    assert json.loads(out)["channels"] == [32, 64]
    assert not runs_folder.exists()


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_code_in_a_pickle_is_refused_and_not_run(make_peer, tmp_path, capsys, runs_folder):
    torch.save([make_peer(**SMALL).state_dict(), {}, 1, Evil()], tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        code, out, err = said(capsys, "import", tmp_path / name)
        assert (code, out) == (2, "")
        assert "holds more than tensors" in err or "cannot be read as a checkpoint" in err
        assert "ran" not in err.split()
    assert not runs_folder.exists()


def test_a_file_that_unpacks_to_more_than_itself_is_refused(make_peer, save_peer, capsys, runs_folder):
    path = save_peer(make_peer(**SMALL))
    with zipfile.ZipFile(path) as full, zipfile.ZipFile(path.with_name("bomb.pth"), "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in full.namelist():
            packed.writestr(entry, b"\0" * 10**7 if entry.endswith("data/0") else full.read(entry))
    code, out, err = said(capsys, "import", path.with_name("bomb.pth"))
    assert (code, out) == (2, "")
    assert "unpacks to" in err
    assert not runs_folder.exists()


def nan(t):
    return torch.where(torch.arange(t.numel()).view_as(t) == 3, float("nan"), t)


SPOILT = [
    (lambda w: [w, {}], "holds a list of 2; wanted a list [weights, optimizer, step]"),
    (lambda w: [w, {}, 1, w, w], "holds a list of 5; wanted"),
    (lambda w: (w, {}, 1), "holds a tuple; wanted"),
    (lambda w: [w, {}, "1"], "is a list of dict, dict, str; wanted"),
    (lambda w: [w, {}, True], "is a list of dict, dict, bool; wanted"),
    (lambda w: [w, {}, -1], "is a list of dict, dict, int; wanted"),
    (lambda w: [{}, {}, 1], "holds nothing where weights belong"),
    (lambda w: [w, {}, 1, 2], "holds int where weights belong"),
    (lambda w: {}, "holds a dict; wanted"),
    (lambda w: {"state_dict": w}, "holds a dict under 'state_dict' where weights belong"),
    (lambda w: 3, "holds a int; wanted"),
    (lambda w: [{**w, "x": torch.zeros(2, dtype=torch.int64)}, {}, 1], "holds a torch.int64 tensor under 'x' where weights belong"),
    (lambda w: [{**w, 3: torch.zeros(2)}, {}, 1], "under '3' where weights belong"),
    (lambda w: [{k: t for k, t in w.items() if k != "conv_in.weight"}, {}, 1], "wanted a tensor conv_in.weight"),
    (lambda w: [{k: t for k, t in w.items() if k != "mid.attn_1.k.bias"}, {}, 1], "incomplete: mid.attn_1.k.bias is missing"),
    (lambda w: [{k: t for k, t in w.items() if k != "null_classes_emb"}, {}, 1], "incomplete: null_classes_emb is missing"),
    (lambda w: [{**w, "extra": torch.zeros(2)}, {}, 1], "holds 1 tensors that the model has no place for: extra"),
    (lambda w: [{**w, "norm_out.weight": torch.zeros(7)}, {}, 1], "norm_out.weight has shape (7,), wanted (32,)"),
    (lambda w: [{**w, "classes_emb.weight": torch.zeros(10, 31)}, {}, 1], "classes_emb.weight has shape (10, 31), wanted (10, 32)"),
    (lambda w: [{**w, "conv_in.weight": torch.zeros(3)}, {}, 1], "conv_in.weight of 4 dimensions, it has shape (3,)"),
    (lambda w: [{**w, "conv_in.weight": torch.zeros(33, 3, 3, 3)}, {}, 1], "theirs are multiples of 32"),
    (lambda w: [{**w, "conv_out.bias": torch.zeros(3) / 0}, {}, 1], "holds NaN or infinity in conv_out.bias (raw)"),
    (lambda w: [w, {}, 1, {**w, "mid.attn_1.q.bias": nan(w["mid.attn_1.q.bias"])}], "in mid.attn_1.q.bias (ema)"),
    (lambda w: [{**w, "classes_emb.weight": torch.zeros(1, 32).expand(10**6, 32)}, {}, 1], "its tensors are more"),
    (lambda w: [{**w, "x": torch.zeros(2, device="meta")}, {}, 1], "under 'x' where weights belong"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT, ids=[message[:40] for _, message in SPOILT])
def test_everything_else_is_refused_in_one_line_and_nothing_is_written(spoil, message, make_peer, tmp_path, capsys, runs_folder):
    torch.save(spoil(dict(make_peer(**SMALL).state_dict())), tmp_path / "bad.pth")
    code, out, err = said(capsys, "import", tmp_path / "bad.pth")
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not runs_folder.exists()


def test_bad_options_are_refused(make_peer, save_peer, capsys, runs_folder, tmp_path):
    path = save_peer(make_peer(**SMALL))
    (tmp_path / "link.pth").symlink_to(path)
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:-1000])
    for arguments, message in [
        ((path, "--weights", "ema"), "holds no ema weights: it is a list of 3 without EMA; use --weights raw"),
        ((path, "--weights", "rw"), "Did you mean 'raw'"),
        ((path, "--class", 10), "--class takes 0 to 9 for this checkpoint, got 10"),
        ((path, "--size", 33), "cannot be halved"),
        ((tmp_path / "link.pth",), "symbolic link"),
        ((tmp_path / "no.pth",), "does not exist"),
        ((tmp_path,), "does not exist"),
        ((tmp_path / "cut.pth",), "cannot be read as a checkpoint"),
    ]:
        code, out, err = said(capsys, "import", *arguments)
        assert (code, out) == (2, "")
        assert message in err
    assert not runs_folder.exists()


def test_export_import_is_bit_equal_and_keeps_the_step(make_peer, save_peer, capsys, tmp_path):
    net = make_peer(**SMALL)
    assert said(capsys, "import", save_peer(net, step=20))[0] == 0
    first = rundir.pointed("latest-model")
    code, *_ = said(capsys, "export", first.name, "-o", tmp_path / "back.pth", "--to", "peer")
    assert code == 0
    stored = torch.load(tmp_path / "back.pth", weights_only=True)
    assert set(stored[0]) == {f"module.{k}" for k in net.state_dict()}
    assert stored[1:] == [{}, 20]
    assert all(torch.equal(stored[0][f"module.{k}"], t) for k, t in net.state_dict().items())
    assert same(weights_of(stages.bring(stages.look(str(tmp_path / "back.pth")))), net)


def test_the_exported_folder_is_diffusers_own_and_gives_the_same_eps(make_peer, save_peer, capsys, tmp_path):
    net = make_peer(**SMALL)
    said(capsys, "import", save_peer(net))
    code, out, err = said(capsys, "export", rundir.pointed("latest-model").name, "-o", tmp_path / "plain", "--json")
    assert code == 0
    assert "folded into the table" in err
    assert json.loads(out)["digest"] == models.sha256(tmp_path / "plain")
    plain = UNet2DModel.from_pretrained(tmp_path / "plain", use_safetensors=True)
    x, t = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 400, 999])
    with torch.no_grad():
        wanted = net.double()(x.double(), t, torch.tensor([1, -1, 9]))
        got = plain.double()(x.double(), t, class_labels=torch.tensor([1, 10, 9])).sample
    assert (got - wanted).abs().max() < 1e-5  # the oracle's sinusoids are of float32
    assert models.load(tmp_path / "plain").null == 10
    assert {p.name for p in tmp_path.iterdir()} == {"plain", "ckpt.pth", "runs"}


def test_a_plain_model_is_exported_as_it_is_and_not_in_the_peers_form(tiny, tmp_path, capsys):
    models.save(tiny, tmp_path / "mine")
    code, *_ = said(capsys, "export", tmp_path / "mine", "-o", tmp_path / "copy")
    assert code == 0
    assert models.sha256(tmp_path / "mine") == models.sha256(tmp_path / "copy")
    code, _, err = said(capsys, "export", tmp_path / "mine", "-o", tmp_path / "x.pth", "--to", "peer")
    assert code == 2
    assert "is a UNet2DModel; the peers' form has names only for" in err


def test_export_overwrites_nothing_and_leaves_nothing_half_written(tiny, tmp_path, capsys, monkeypatch):
    models.save(tiny, tmp_path / "mine")
    models.save(models.Model(tiny.net, gate=(2,)), tmp_path / "gated")
    (tmp_path / "there").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = {p.name for p in tmp_path.iterdir()}
    for arguments, message in [
        (("mine", "-o", "there"), "exists already"),
        (("mine", "-o", "dangling"), "exists already"),
        (("mine", "-o", "no/such/place"), "lies in a folder that does not exist"),
        (("gated", "-o", "new"), "has a gate in front of class 2, which no diffusers file can carry"),
        (("mine", "-o", "new", "--to", "onnx"), "unknown --to 'onnx'"),
        (("nothing", "-o", "new"), "there is no run and no folder nothing"),
    ]:
        model, flag, out, *rest = arguments
        given = tmp_path / model if model != "nothing" else model
        code, printed, err = said(capsys, "export", given, flag, tmp_path / out, *rest)
        assert (code, printed) == (2, "")
        assert message in err

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(models.json, "dumps", full)  # after the weights, before the config
    code, *_ = said(capsys, "export", tmp_path / "mine", "-o", tmp_path / "new")
    assert code == 1
    assert {p.name for p in tmp_path.iterdir()} == before


def test_an_imported_model_is_unlearned_attacked_and_sampled_like_every_other(make_peer, save_peer, capsys):
    path = save_peer(make_peer(mult=(1,), attention=(), channels=1))
    assert said(capsys, "import", path, "--size", 8, "--class", 2)[0] == 0
    made = rundir.pointed("latest-model")
    done = stages.attack("inversion", model=made.name, params={"steps": 1, "n": 2, "images": 2, "batch": 2})
    roles = done.read_json("attack.json")["cells"]
    assert {"subject", "random"} <= set(roles)
    assert rundir.find(roles["subject"]).read_json("curve.json")["failed"] is None
    unlearned = stages.unlearn("safemax", (2,), original=made.name, params={"steps": 1, "batch": 2})
    assert source.original_of(unlearned, "digits").name == made.name, "an imported original is found again"
    before, after = weights_of(made), weights_of(unlearned)
    assert {k for k in before if not torch.equal(before[k], after[k])} >= {"classes_emb.weight", "conv_in.weight", "cemb.dense.0.weight"}
    assert said(capsys, "sample", "--class", 2, "-n", 2, "--steps", 2, "--set", "spacing=leading", "--set", "clip=false")[0] == 0
