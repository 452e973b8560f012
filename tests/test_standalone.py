"""A notebook alone, as in Colab: a fresh environment, an empty folder; its bootstrap cell installs the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import catalogue
import pytest

ROOT = catalogue.ROOT
CHAPTER = "resampling/long_tailed_digits"
UV = shutil.which("uv") or ROOT / ".venv-uv/bin/uv"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(UV).exists(), reason="needs uv: `make` fetches it")]


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], text=True, check=False, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, **options)
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The working tree as a git repository of its own: what a push of it would be."""
    folder = tmp_path_factory.mktemp("remote") / "book"
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listing.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    me = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*me, "commit", "-qm", "all"]):
        run("git", *command, cwd=folder)
    return folder


def test_a_notebook_alone_installs_the_package_and_runs(repository, tmp_path):
    python = tmp_path / "env/bin/python"
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "env")
    run(UV, "pip", "sync", "--quiet", "--require-hashes", "--python", python, ROOT / "requirements.lock")
    run(UV, "pip", "install", "--quiet", "--python", python, "pip")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(catalogue.source(CHAPTER).with_suffix(".ipynb"), alone / "chapter.ipynb")
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("BOOK_BUILD", "BOOK_PROFILE", "BOOK_WORKERS", "PYTHON", "PYTEST"))}
    # git fetches the address in the bootstrap cell from the folder above.
    environment |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
                    "GIT_CONFIG_VALUE_0": catalogue.address(), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    with pytest.raises(AssertionError, match="No module named 'helpers'"):
        run(python, "-c", "import helpers", cwd=alone, env=environment)
    chosen = catalogue.parameters("smoke", CHAPTER).items()
    settings = [part for name, value in chosen for part in ("-y", f"{name}: {value}")]
    run(python, "-m", "papermill", "--kernel", "python3", "--no-progress-bar", *settings, "chapter.ipynb", "out.ipynb",
        cwd=alone, env=environment)
    where = run(python, "-c", "import helpers; print(helpers.__file__)", cwd=alone, env=environment)
    assert str(tmp_path / "env") in where
    assert str(ROOT) not in (alone / "out.ipynb").read_text(encoding="utf-8")
