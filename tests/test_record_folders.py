"""Where finished runs lie."""

import pytest

from harness.record.record_folders import LEDGER, STUDY_FILE, record_folders


def test_folders_are_in_the_order_of_their_names_each_once_and_a_link_to_nothing_is_none(tmp_path):
    for name in ("b/1", "a-b/1", "a/2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "record.json").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "record.json").symlink_to("nowhere")
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "b")
    assert record_folders([tmp_path]) == [tmp_path / name for name in ("a/2", "a-b/1", "b/1")]
    assert record_folders([tmp_path / "b", tmp_path, tmp_path / "nowhere"]) == record_folders([tmp_path])


@pytest.mark.parametrize("mark", [STUDY_FILE, LEDGER])
def test_a_study_or_a_search_keeps_its_runs_to_itself_until_it_is_named(tmp_path, mark):
    """Wherever below it they lie; a record beside what marks it as one is nobody's copy."""
    study = tmp_path / "studies" / "one"
    for place in (study, study / "case" / "1", tmp_path / "lane" / "1"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "record.json").touch()
    (study / mark).touch()
    assert record_folders([tmp_path]) == [tmp_path / "lane" / "1", study]
    assert record_folders([study]) == record_folders([study], studies=True) == [study / "case" / "1", study]
    assert record_folders([tmp_path], studies=True) == [tmp_path / "lane" / "1", study / "case" / "1", study]
