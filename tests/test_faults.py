"""Faults planted in the machine and in what a writer types: what a reader then sees is one clear line."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import catalogue
import checks
import pytest
import stopping
from test_build import Book, book, built  # noqa: F401

# ---------------------------------------------------------------- what a writer types

TOC = """format: jb-book
root: book/index
parts:
  - caption: One
    chapters:
      - file: book/index
      - file: notebooks/part/one
"""
PROFILE = "seeds: {default: 0}\npart/one:\n  STEPS: 2\n"
CHAPTER = '# %% tags=["parameters"]\nSEEDS = [0]\nSTEPS = 400\nRATES = [0.1]\nSHARE = 0.5\nDATA = "auto"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.delenv("BOOK_DATA", raising=False)
    for path, text in {"_toc.yml": TOC, "notebooks/profiles/smoke.yaml": PROFILE, "notebooks/part/one.py": CHAPTER,
                       "book/index.md": "# Index\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return tmp_path


def said(project, path, old, new) -> str:
    """What the check says once a file is changed."""
    text = (project / path).read_text(encoding="utf-8")
    assert old in text
    (project / path).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(catalogue.Trouble) as trouble:
        checks.before_anything_runs("smoke")
    assert "\n" not in str(trouble.value)
    return str(trouble.value)


def test_what_is_right_passes(project):
    checks.before_anything_runs("smoke")


@pytest.mark.parametrize(("old", "new", "words"), [
    ("- file: notebooks", "- fil: notebooks", "line 7: a chapter has 'fil'; accepted: file, title, url"),
    ("one\n", "two\n", "line 7: there is no notebooks/part/two.md and no notebooks/part/two.py"),
    ("notebooks/part/one", "book/index", "line 7: book/index stands in line 6 already"),
    (TOC[TOC.index("parts"):], "parts:\n", "parts must be a list"),
    ("    chapters:\n      - file: book/index\n      - file: notebooks/part/one\n", "", "a part lacks chapters"),
    ("      - file: notebooks", "      - notebooks", "line 7: a chapter must have file; here is 'notebooks/part/one'"),
    ("caption: One", "captoin: One", "line 4: a part has 'captoin'; accepted: caption, chapters, numbered"),
    ("root: book/index\n", "", "the file lacks root"), (TOC, "", "_toc.yml is empty")])
def test_a_slip_in_the_table_of_contents(project, old, new, words):
    assert words in said(project, "_toc.yml", old, new)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("STEPS: 2", "STEPS: ten", "STEPS is 'ten'; it must be a whole number, as 400"),
    ("STEPS: 2", "STEPS: 2.5", "STEPS is 2.5; it must be a whole number"),
    ("STEPS: 2", "STEPS: -2", "STEPS is -2; it must not be negative"),
    ("STEPS: 2", "RATES: 0.1", "RATES is 0.1; it must be a list, as [0.1]"),
    ("STEPS: 2", "STEP: 2", "there is no parameter STEP; the chapter has SEEDS, STEPS, RATES, SHARE, DATA"),
    ("STEPS: 2", "SEEDS: []", "are no seeds"), ("STEPS: 2", "SEEDS: [-1]", "are no seeds"),
    ("STEPS: 2", "SEEDS: [0, 0]", "each seed once"), ("part/one", "part/two", "part/two, which is no chapter")])
def test_a_slip_in_a_profile(project, old, new, words):
    assert words in said(project, "notebooks/profiles/smoke.yaml", old, new)


@pytest.mark.parametrize("right", ["SHARE: 1", "SEEDS: 3", "SEEDS: 100-104", "STEPS: 7"])
def test_what_a_profile_may_say(project, right):
    (project / "notebooks/profiles/smoke.yaml").write_text(PROFILE.replace("STEPS: 2", right), encoding="utf-8")
    checks.before_anything_runs("smoke")


def test_parameters_that_are_no_literals(project):
    assert "plain assignments of literals" in said(project, "notebooks/part/one.py", "STEPS = 400", "STEPS = 4 * f(1)")


def test_a_data_folder_that_is_none_and_one_with_a_tilde(project, monkeypatch):
    monkeypatch.setenv("BOOK_DATA", str(project / "_toc.yml"))
    with pytest.raises(catalogue.Trouble, match="which is no folder: make it, name another, or unset it"):
        checks.before_anything_runs("smoke")
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("BOOK_DATA", "~/book")
    checks.before_anything_runs("smoke")
    assert os.environ["BOOK_DATA"] == str(project / "book")


def test_folders_of_killed_builds_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f"book-{gone.pid}-x").mkdir()
    (tmp_path / f"book-{os.getpid()}-mine").mkdir()
    (tmp_path / "book-of-a-reader").mkdir()
    with stopping.private_folder() as folder:
        assert Path(folder).is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {f"book-{os.getpid()}-mine", "book-of-a-reader"}


# ---------------------------------------------------------------- a build, and what happens to it

@pytest.mark.slow
def test_a_trial_of_snakemakes_is_not_taken_for_a_build(book):  # noqa: F811
    book.edit("notebooks/part/one.py", "STEPS = 1", "STEPS = 2")
    assert book.build("-n").returncode == 0
    result = book.build()
    assert "[1/2] part/one …" in result.stdout and "Nothing has changed" not in result.stdout, result.stdout


@pytest.mark.slow
def test_a_checkout_and_data_in_folders_with_spaces(built, tmp_path):  # noqa: F811
    spaced = Book(tmp_path / "my books" / "the book")
    shutil.copytree(built.folder, spaced.folder, symlinks=True)
    (tmp_path / "my data").mkdir()
    spaced.edit("notebooks/part/one.py", "STEPS = 1", "STEPS = 2")
    result = spaced.build(BOOK_DATA=str(tmp_path / "my data"))
    assert result.returncode == 0, result.stdout
    assert (spaced.folder / "build/html/index.html").is_file()


def processes_of(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in str((path / "cwd").readlink()):
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended in between
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="asks /proc which processes are left")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_stopped_takes_everything_with_it(book, number, tmp_path, monkeypatch):  # noqa: F811
    book.edit("notebooks/part/one.py", "import os, time", "import os, time\nprint('now'); time.sleep(600)")
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen(book.command(), cwd=book.folder, text=True, stdout=subprocess.PIPE,
                               env=book.environment(TMPDIR=str(tmp_path / "temporary")), stderr=subprocess.STDOUT,
                               start_new_session=True)
    for line in process.stdout:
        if line.startswith("[1/2] part/one …"):
            break
    deadline = time.monotonic() + 120
    while not any("ipykernel" in one for one in processes_of(book.folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    output = process.stdout.read()
    assert process.wait(timeout=60) == 128 + number, output
    assert output.rstrip().endswith("the same command goes on from there.") and "Traceback" not in output, output
    while processes_of(book.folder) and time.monotonic() < deadline + 60:  # a kernel looks once a second for its parent
        time.sleep(0.1)
    assert not processes_of(book.folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with stopping.private_folder():  # the next build sweeps what a process that was killed has left
        pass
    assert not list((tmp_path / "temporary").glob("book-*"))


@pytest.fixture
def little_room(book):  # noqa: F811
    """A build folder of a few hundred kilobytes, where one may mount such a thing."""
    room = book.folder / "build"
    room.mkdir(exist_ok=True)
    mounted = shutil.which("mount") and os.getuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", room], capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("needs to mount a small file system")
    yield room
    subprocess.run(["umount", "--lazy", room], check=True)


@pytest.mark.slow
def test_a_full_disk_is_named(book, little_room):  # noqa: F811
    (little_room / "of somebody else").write_bytes(bytes(200_000))
    result = book.build()
    assert result.returncode == 1, result.stdout
    assert result.stdout.rstrip().splitlines()[-1].startswith("No space left on device: "), result.stdout
    (little_room / "of somebody else").unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", little_room], check=True)
    assert book.build().returncode == 0
