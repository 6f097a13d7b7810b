"""The bundled model can be made again, from a folder that `local-dir:` reads."""

import torch

from auditkit_evaluators import clip, clip_digits


def test_training_is_deterministic_and_learns_and_leaves_the_random_state(digits):
    before = torch.get_rng_state()
    a, b = (clip_digits.train(digits, steps=25).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a[k], b[k]) for k in a)
    c = clip_digits.train(digits, steps=25, seed=1).state_dict()
    assert not torch.equal(a["visual.proj"], c["visual.proj"])


def test_writes_a_folder_that_judges_and_a_card_with_its_numbers(digits, tmp_path):
    model = clip_digits.train(digits, steps=60)
    clip_digits.write(model, digits, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", clip.CONFIG, clip.WEIGHTS]
    (judge,) = clip.build(digits, model=f"local-dir:{tmp_path / 'out'}")
    images, labels = digits.part("heldout")
    hits = int((judge.judge(images).probs.argmax(axis=1) == labels.numpy()).sum())
    assert hits > 62  # chance is 31 of 308
    assert f"(n = 308, used for neither): {hits / 3.08:.1f} % [" in (tmp_path / "out" / "README.md").read_text()


def test_the_bundled_card_states_what_is_measured_now(clip_judge, digits):
    images, labels = digits.part("heldout")
    hit = (clip_judge.judge(images).probs.argmax(axis=1) == labels.numpy()).mean()
    card = (clip.BUNDLED["digits"] / "README.md").read_text()
    stated = float(card.partition("used for neither): ")[2].partition(" %")[0])
    assert abs(100 * hit - stated) < 1
