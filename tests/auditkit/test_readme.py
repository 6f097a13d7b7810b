"""What the README shows a newcomer is what runs."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs_and_says_what_the_readme_says(capsys):
    [example] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(example, "README.md", "exec"), {})
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("PRESENT: 100 images asked for 'two': 'two' is seen by svc")
    assert any(line.startswith("relearn:") for line in rest)


def test_the_commands_that_ci_runs_are_marked():
    for mark, words in (("audit", "auditkit audit --class 2"), ("tests", "python -m pytest")):
        [line] = re.findall(rf"<!-- {mark} -->\n```sh\n(.*?)\n```\n<!-- end -->", README)
        assert words in line


def test_every_file_that_the_docs_name_exists():
    for page in (ROOT / "README.md", ROOT / "docs" / "walkthrough.md", ROOT / "CONTRIBUTING.md"):
        for name in re.findall(r"[`(]((?:docs|auditkit|kernels|attacks|evaluators|tests)/[\w./-]+\.(?:py|md|png))", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
