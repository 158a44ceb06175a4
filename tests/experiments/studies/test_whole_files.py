"""Files are written whole or not at all, wherever they lie, and nothing is left behind."""

import os
import socket
import subprocess
import sys

import pytest

from experiments.studies import whole_files


def test_links_and_pipes_are_written_through_and_modes_are_kept(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    whole_files.write_file(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and target.stat().st_mode & 0o777 == 0o640
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    whole_files.write_file(pipe, "through")
    assert os.read(reader, 99) == b"through" and pipe.is_fifo()
    os.close(reader)
    whole_files.write_file(tmp_path / "fresh", "x")
    with pytest.raises(whole_files.StorageError, match="cannot write"):
        whole_files.write_file(tmp_path, "a folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "link", "pipe", "target"]


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "results").write_text("I am a file")
    with pytest.raises(whole_files.StorageError, match="cannot write .*results"):
        whole_files.check_writable(tmp_path / "results" / "study")
    assert (tmp_path / "results").read_text() == "I am a file"


def test_what_a_killed_process_left_is_swept_up_and_what_a_living_one_writes_is_not(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    host = socket.gethostname()
    dead, alive = ([f".report.html.{host}.{number}.tmp", f".probe-{host}.{number}"] for number in (process.pid, 1))
    for name in (*dead, *alive, ".report.html.another.host.7.tmp", "table.md"):
        (tmp_path / name).write_text("half")
    whole_files.check_writable(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*alive, ".report.html.another.host.7.tmp", "table.md"}
    os.utime(tmp_path / ".report.html.another.host.7.tmp", (0, 0))
    whole_files.check_writable(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*alive, "table.md"}
