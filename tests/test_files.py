import pytest

from tutelage.files import make_folder, remove_partial, write_whole


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "table.txt"
    write_whole(path, lambda partial: partial.write_text("first"))

    def fill_the_disk(partial):
        partial.write_text("sec")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fill_the_disk)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, lambda partial: partial.write_text("second"))
    assert path.read_text() == "second"


def test_a_folder_that_nothing_can_be_written_into_is_told_of(tmp_path, monkeypatch):
    make_folder(tmp_path / "new" / "within")
    make_folder(tmp_path / "new")
    assert (tmp_path / "new" / "within").is_dir()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a superuser may write anywhere
    with pytest.raises(PermissionError, match="Nothing can be written into"):
        make_folder(tmp_path / "new")


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "table.txt").write_text("whole")
    (tmp_path / "table.txt.partial-12345").write_text("hal")
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]
