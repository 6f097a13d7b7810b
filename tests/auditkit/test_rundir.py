import json
import subprocess
import sys

import numpy as np
import pytest

from auditkit import rundir
from auditkit.errors import RunError, UserError

pytestmark = pytest.mark.fast

REQUEST = rundir.Request(stage="unlearn", method="safemax", classes=(2,), seed=1, params={"steps": 3}, parents={"original": "ab"})


def make(request=REQUEST, content="hello"):
    with rundir.lock(request) as run:
        if isinstance(run, rundir.Run):
            return run
        run.write("out.txt", content)
        return run.seal(note="x")


def test_the_name_follows_from_the_request_alone():
    assert REQUEST.name == rundir.Request.model_validate_json(REQUEST.model_dump_json()).name
    assert REQUEST.name.startswith("unlearn-safemax-c2-")
    assert rundir.NAME.fullmatch(REQUEST.name)
    assert REQUEST.model_copy(update={"seed": 2}).name != REQUEST.name


def test_a_request_is_computed_once_and_its_digest_is_that_of_request_and_files():
    first = make()
    again = make(content="other")  # found, not computed
    assert again.digest == first.digest
    assert first.result.files == {"out.txt": rundir.sha256(b"hello"), "run.json": rundir.sha256((first.path / "run.json").read_bytes())}


def test_the_same_work_done_twice_has_the_same_digest(monkeypatch, tmp_path):
    first = make()
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(rundir.time, "strftime", lambda *_: "2001-01-01T00:00:00Z")
    again = make()
    assert again.result.finished != first.result.finished
    assert again.digest == first.digest


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "out.txt").write_text("hellO"), "out.txt has changed"),
        (lambda p: (p / "out.txt").unlink(), "out.txt is missing"),
        (lambda p: (p / "extra").write_text("x"), "extra was added"),
        (
            lambda p: (p / "run.json").write_text(json.dumps({**json.loads((p / "run.json").read_text()), "seed": 9})),
            "run.json has changed",
        ),
    ],
)
def test_an_altered_run_is_refused(spoil, said):
    run = make()
    spoil(run.path)
    with pytest.raises(RunError, match=said):
        rundir.find(run.name)


def test_a_forged_result_does_not_pass():
    """Whoever changes a file and its hash must change the digest too, and the digest is what was handed on."""
    run = make()
    (run.path / "out.txt").write_text("forged")
    result = json.loads((run.path / "result.json").read_text())
    result["files"]["out.txt"] = rundir.sha256(b"forged")
    (run.path / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="digest does not follow"):
        rundir.find(run.name)


@pytest.mark.parametrize("name", ["../secret", "runs/../x", "No Such", "a" * 81, "missing-run", "..", ""])
def test_names_outside_the_rules_or_the_folder_are_refused(name):
    with pytest.raises(UserError):
        rundir.find(name)


def test_symlinks_are_refused(tmp_path):
    run = make()
    (rundir.root() / "link").symlink_to(run.path)
    with pytest.raises(UserError, match="symbolic link"):
        rundir.find("link")
    (run.path / "inner").symlink_to(tmp_path)
    with pytest.raises(RunError, match="symbolic link"):
        rundir.find(run.name)


def test_an_unfinished_run_is_not_read_and_goes_on():
    with rundir.lock(REQUEST) as run:
        run.write("part", "1")
    with pytest.raises(UserError, match="not finished"):
        rundir.find(REQUEST.name)
    assert make().result.files.keys() == {"out.txt", "run.json"}, "what the unfinished try left is not sealed"


def test_the_users_mistake_leaves_nothing_behind():
    with pytest.raises(UserError), rundir.lock(REQUEST):
        raise UserError("no")
    assert rundir.listing() == []


def test_pointers_and_removal():
    run = make()
    assert rundir.pointed("latest") is None
    rundir.point("latest", run)
    assert rundir.pointed("latest").digest == run.digest
    assert rundir.remove(run.name) > 0
    assert rundir.listing() == []
    assert rundir.pointed("latest") is None
    with pytest.raises(UserError, match="no run"):
        rundir.remove(run.name)
    with pytest.raises(UserError, match="no run"):
        rundir.remove("../out")


def test_a_busy_run_is_refused_with_no_wait():
    code = (
        "import sys; from auditkit import rundir\n"
        f"request = rundir.Request.model_validate_json({REQUEST.model_dump_json()!r})\n"
        "with rundir.lock(request):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), rundir.lock(REQUEST, wait=False):
            pass
        with pytest.raises(UserError, match="another process"):
            rundir.remove(REQUEST.name)
        other.stdin.close()
        other.wait()
    assert make().digest


def test_a_sealed_record_is_read_as_it_was_written_and_last_digits_are_not_in_its_digest(monkeypatch, tmp_path):
    """Two libraries that differ in the 16th digit make the same run; the record holds no more than can be read back."""
    made = []
    for third in (1 / 3, np.nextafter(1 / 3, 1)):
        monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / str(len(made))))
        with rundir.lock(REQUEST) as run:
            run.write_json("record.json", {"share": third, "n": 3, "seen": True})
            made.append(run.seal())
    record = made[0].read_json("record.json")
    assert record == {"share": 0.3333333333, "n": 3, "seen": True}
    assert record["seen"] is True
    assert made[0].digest == made[1].digest
    rundir.Open(tmp_path, REQUEST).write_json("again.json", record)
    assert (tmp_path / "again.json").read_bytes() == made[0].file("record.json").read_bytes()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_a_record_with_nan_or_infinity_is_refused(bad, tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        rundir.Open(tmp_path, REQUEST).write_json("record.json", {"bad": bad})
    assert list(tmp_path.iterdir()) == []
