import errno
import os
import pathlib
import subprocess
import sys

import pytest

import nice_tf
from nice_tf import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_once_the_block_has_ended(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with files.replaced(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one" and names(path.parent) == ["file.txt"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.replaced(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    with pytest.raises(
        files.CannotWrite, match=r"file\.txt cannot be written \(No space left on device\)"
    ):
        with files.replaced(path) as file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file.txt"]


def test_the_mode_stays_and_a_new_file_has_that_of_the_process(tmp_path):
    path = tmp_path / "file.txt"
    before = os.umask(0o027)
    try:
        files.write_atomically(path, b"one")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    files.write_atomically(path, b"two")
    assert path.stat().st_mode & 0o777 == 0o604


def test_a_link_is_written_through_and_what_is_no_file_is_refused(tmp_path):
    target, link = tmp_path / "far" / "target.txt", tmp_path / "link.txt"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write_atomically(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe")
    for path in (loop, tmp_path / "pipe", tmp_path / "far"):
        with pytest.raises(
            files.CannotWrite, match=f"{path.name} cannot be written: it is there and is no file"
        ):
            files.write_atomically(path, b"new")
    assert loop.is_symlink()


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".file.txt.tmp").symlink_to(victim)  # the temporary name of earlier versions
    draws = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(draws))
    (tmp_path / f".file.txt.{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(files.CannotWrite, match="File exists"):
        files.write_atomically(tmp_path / "file.txt", b"new")
    files.write_atomically(tmp_path / "file.txt", b"new")
    assert victim.read_bytes() == b"precious" and (tmp_path / "file.txt").read_bytes() == b"new"


def test_names_of_any_length_and_kind(tmp_path):
    for name in ("n" * 255, "ü" * 127, "a*[b]?.csv"):
        files.write_atomically(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert len(names(tmp_path)) == 3


def test_what_a_killed_process_has_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "file.txt"
    script = (
        "import os, sys, pathlib; from nice_tf import files\nwith files.replaced(sys.argv[1]) as "
        "file: file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, path], check=False)
    (left,) = names(tmp_path)
    assert left.startswith(".file.txt.") and left.endswith(".tmp")
    with files.replaced(path) as file:
        file.write(b"mine")
        assert len(names(tmp_path)) == 1, "that of the dead process is gone"
        files.write_atomically(path, b"other")
    assert path.read_bytes() == b"mine" and names(tmp_path) == ["file.txt"]


def test_two_processes_write_one_file_and_readers_see_it_whole(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([letter]) * 300_000 for letter in b"AB"]
    path.write_bytes(contents[0])
    script = (
        "import sys; from nice_tf import files\n"
        "for _ in range(100): files.write_atomically(sys.argv[1], sys.argv[2].encode() * 300_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, path, letter]) for letter in "AB"]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        assert path.read_bytes() in contents
        reads += 1
    assert (
        reads > 10
        and [writer.returncode for writer in writers] == [0, 0]
        and names(tmp_path) == ["file"]
    )


def test_files_and_folder_are_brought_to_the_disk_before_they_count(tmp_path, monkeypatch):
    """A power cut may drop what was not synced: first the content, then the rename, then the
    folder's names.
    """
    done = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def synced(descriptor):
        is_folder = pathlib.Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path
        done.append("sync folder" if is_folder else "sync file")
        real["fsync"](descriptor)

    def replaced(*arguments):
        done.append("rename")
        real["replace"](*arguments)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write_atomically(tmp_path / "file", b"new")
    assert done == ["sync file", "rename", "sync folder"]


HOLD = """
import pathlib, sys, time; from nice_tf import files
files.Lock(pathlib.Path(sys.argv[1])).acquire("it", shared=len(sys.argv) > 2); print("held", flush=True); time.sleep(60)
"""


def holder(path, *shared):
    process = subprocess.Popen([sys.executable, "-c", HOLD, path, *shared], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_is_held_by_a_living_process_alone(tmp_path):
    lock = files.Lock(tmp_path / "lock")
    with holder(lock.path) as process:
        for shared in (False, True):
            with pytest.raises(
                nice_tf.UserError,
                match=rf"it is in use by process {process.pid} on \S+: wait until",
            ):
                lock.acquire("it", shared=shared)
        process.kill()
    lock.acquire("it")
    assert lock.is_held()
    lock.release()
    assert not lock.is_held()


def test_readers_share_a_lock_and_the_last_writer_is_not_named_for_them(tmp_path):
    lock = files.Lock(tmp_path / "lock")
    lock.acquire("it")
    lock.release()
    with holder(lock.path, "shared") as process:
        lock.acquire("it", shared=True)
        lock.release()
        with pytest.raises(
            nice_tf.UserError, match="it is in use by a process that reads it: wait"
        ):
            lock.acquire("it")
        process.kill()


def test_files_of_others_stay(tmp_path):
    """Only what has the very form of our names is taken for what a kill has left."""
    others = [
        ".notes.tmp",
        ".file.txt.tmp",
        ".file.txt.draft.tmp",
        ".unfinished-thesis",
        "file.txt.0123456789abcdef",
    ]
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("precious")
    ours = [".file.txt.0123456789abcdef.tmp", ".unfinished-0123456789abcdef"]
    (tmp_path / ours[0]).write_text("")
    (tmp_path / ours[1]).mkdir()
    files.write_atomically(tmp_path / "file.txt", b"new")
    files.remove_temporaries(tmp_path)
    with files.temporary_folder(tmp_path, ".unfinished-"):
        pass
    assert names(tmp_path) == sorted([*others, "file.txt"])


def test_a_folder_is_removed_as_a_whole(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "0").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # a kill
        files.remove_at_once(tmp_path / "parts")
    (left,) = names(tmp_path)
    assert left.startswith("parts.") and len(left) == len("parts.") + 16
    (tmp_path / "parts").mkdir()
    files.remove_at_once(tmp_path / "parts")
    assert names(tmp_path) == []


def test_a_lock_whose_file_is_gone_is_no_longer_held(tmp_path):
    lock = files.Lock(tmp_path / "lock")
    lock.acquire("it")
    lock.path.unlink()
    assert not lock.is_held()
    files.write_atomically(lock.path, b"another")
    assert not lock.is_held()
    lock.release()


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        files.Lock(tmp_path / "lock").acquire("it")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_new_folder_that_is_taken_for_an_abandoned_one_is_made_again(tmp_path, monkeypatch):
    """Another process may sweep between the making of a folder and its mark."""
    mark, swept = files._mark_in_use, []

    def marked(descriptor):
        if not swept:
            swept.append(names(tmp_path)[0])
            (tmp_path / swept[0]).rmdir()
        return mark(descriptor)

    monkeypatch.setattr(files, "_mark_in_use", marked)
    with files.temporary_folder(tmp_path, ".new-") as folder:
        assert folder.is_dir() and folder.name != swept[0]
    assert names(tmp_path) == []
