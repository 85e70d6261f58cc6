"""Where a run came from."""

import subprocess

import pytest

from harness.errors import UserError
from harness.record import provenance

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def git(tmp_path):
    """Runs git in the repository of `tree`."""

    def run(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    return run


@pytest.fixture
def tree(tmp_path, git, monkeypatch):
    """A repository of its own with one commit, which `provenance` takes for the project."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "a.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.delenv("SPEEDRUN_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("stated, expected", [(COMMIT, (COMMIT, False)), (f"{COMMIT}+dirty", (COMMIT, True))])
def test_without_git_the_environment_carries_commit_and_dirty_flag(tmp_path, monkeypatch, stated, expected):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("SPEEDRUN_COMMIT", stated)
    assert provenance.commit() == expected


def test_without_git_and_without_the_environment_a_commit_is_unknown_and_counts_as_dirty(tmp_path, monkeypatch):
    monkeypatch.delenv("SPEEDRUN_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() == ("unknown", True)


def test_a_clean_tree_is_clean_whatever_runs_and_results_lie_in_it(tree):
    commit, dirty = provenance.commit()
    assert len(commit) == 40 and not dirty
    for made in ("runs/a/record.json", "results/a/record.json"):
        (tree / made).parent.mkdir(parents=True)
        (tree / made).write_text("{}")
    assert provenance.commit() == (commit, False)


@pytest.mark.parametrize("name", ["harness/a.py", "harness/new.py", "anything.txt"])
def test_an_edited_and_a_new_file_make_a_tree_dirty(tree, name):
    (tree / name).write_text("b = 2\n")
    assert provenance.commit()[1]


def test_the_environment_does_not_hide_a_dirty_repository(tree, monkeypatch):
    """SPEEDRUN_COMMIT is for where there is no git; one left over in a shell must not make an edited tree look clean."""
    (tree / "harness" / "a.py").write_text("a = 2\n")
    monkeypatch.setenv("SPEEDRUN_COMMIT", COMMIT)
    assert provenance.commit()[1]


def test_a_repository_that_git_does_not_answer_for_is_not_vouched_for_by_the_environment(tree, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_COMMIT", COMMIT)
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == ("unknown", True)


def hide_by_the_repositorys_own_exclude(tree, git):
    (tree / ".git" / "info" / "exclude").write_text("new.py\n")


def hide_by_a_users_ignore_file(tree, git):
    (tree / ".git" / "ignore").write_text("*.py\n")
    git("config", "core.excludesFile", str(tree / ".git" / "ignore"))


def hide_by_an_ignore_file_that_ignores_itself(tree, git):
    (tree / "harness" / ".gitignore").write_text("*\n")


def hide_by_showing_no_untracked_files(tree, git):
    git("config", "status.showUntrackedFiles", "no")


@pytest.mark.parametrize(
    "hide",
    [
        hide_by_the_repositorys_own_exclude,
        hide_by_a_users_ignore_file,
        hide_by_an_ignore_file_that_ignores_itself,
        hide_by_showing_no_untracked_files,
    ],
)
def test_a_new_module_makes_a_tree_dirty_whatever_hides_it_from_git_status(tree, git, hide):
    hide(tree, git)
    (tree / "harness" / "new.py").write_text("b = 2\n")
    assert not git("status", "--porcelain") and provenance.commit()[1]


def test_what_no_run_reads_may_be_hidden_by_a_users_own_settings(tree, git):
    hide_by_a_users_ignore_file(tree, git)
    (tree / ".git" / "ignore").write_text(".DS_Store\n")
    (tree / "harness" / ".DS_Store").write_text("")
    assert not provenance.commit()[1]


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_an_edited_file_that_git_was_told_not_to_look_at_makes_a_tree_dirty(tree, git, mark):
    git("update-index", mark, "harness/a.py")
    (tree / "harness" / "a.py").write_text("a = 2\n")
    assert not git("status", "--porcelain") and provenance.commit()[1]


def test_the_environment_does_not_point_to_another_clean_repository(tree, git, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other") / "clean"
    git("clone", "-q", str(tree), str(other))
    (tree / "harness" / "a.py").write_text("a = 2\n")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert provenance.commit()[1]


def test_the_source_hash_moves_with_every_python_file_and_with_its_name(tree):
    first = provenance.source_hash()
    (tree / "harness" / "a.py").write_text("a = 2\n")
    second = provenance.source_hash()
    (tree / "harness" / "a.py").rename(tree / "harness" / "b.py")
    third = provenance.source_hash()
    (tree / "kernels").mkdir()
    (tree / "kernels" / "deep.py").write_text("")
    assert len({first, second, third, provenance.source_hash()}) == 4


def test_versions_name_what_moves_bits():
    found = provenance.versions()
    assert found.keys() >= {"python", "torch", "numpy", "triton"} and found["torch"] != "none"


def test_provenance_holds_the_command_line_and_the_image(tree, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_IMAGE", "sha256:abc")
    found = provenance.provenance(("seed=2",))
    assert found.overrides == ["seed=2"] and found.container_image == "sha256:abc" and found.dirty is False


@pytest.mark.parametrize("word, image", [("run.folder=a\x01b", "x"), ("seed=2", "x\x1b[2J")])
def test_what_no_record_can_hold_is_refused_before_anything_is_trained(tree, monkeypatch, word, image):
    monkeypatch.setenv("SPEEDRUN_IMAGE", image)
    with pytest.raises(UserError, match="a record cannot hold .*text without control characters"):
        provenance.provenance((word,))
