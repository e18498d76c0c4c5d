"""Modes, links and special files: what is there stays as it is, and nothing is waited for."""

import fcntl
import os
import signal
import stat
import threading

import pytest

from tests.checkpoint.write.faults import STATES, held, leftovers
from torch2mlx import convert, inspect, load_converted, revert
from torch2mlx.checkpoint.write.companions import companions
from torch2mlx.cli import main
from torch2mlx.common.lock import FolderLock
from torch2mlx.errors import CheckpointError, ConversionError, RevertError

STATE, CHANGED, PLAIN = STATES


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    old = os.umask(0o027)
    yield
    os.umask(old)


def test_new_files_follow_the_umask_and_old_ones_keep_their_modes(tmp_path, umask):
    out, side = tmp_path / "o.safetensors", tmp_path / "o.torch.safetensors"
    convert(STATE, out)
    assert mode(out) == mode(side) == 0o640
    out.chmod(0o600)
    side.chmod(0o604)
    convert(CHANGED, out)
    assert (mode(out), mode(side)) == (0o600, 0o604)


def test_the_first_sidecar_of_a_secret_file_is_as_secret(tmp_path):
    out = tmp_path / "o.safetensors"
    convert(PLAIN, out)
    out.chmod(0o600)
    convert(STATE, out)
    assert mode(tmp_path / "o.torch.safetensors") == 0o600


def test_a_secret_file_is_never_open_while_it_is_written(tmp_path):
    out, seen = tmp_path / "o.safetensors", []
    convert(STATE, out)
    out.chmod(0o600)
    convert(STATE, out, progress=lambda *_: seen.extend(map(mode, tmp_path.glob(".o.s*"))))
    assert set(seen) == {0o600}


def test_folders_keep_their_modes_and_those_of_their_files(tmp_path, umask):
    out = tmp_path / "out"
    convert(STATE, out)
    assert mode(out) == 0o750 and mode(out / "model.safetensors") == 0o640
    out.chmod(0o2700)
    (out / "model.safetensors").chmod(0o600)
    convert(CHANGED, out)
    assert mode(out) == 0o2700 and mode(out / "model.safetensors") == 0o600
    convert(CHANGED, out, shard_size="50KB")
    assert {mode(p) for p in out.glob("model-*.safetensors")} == {0o600}


def test_reverted_files_keep_their_modes(tmp_path):
    convert(STATE, tmp_path / "o.safetensors")
    back = tmp_path / "back.safetensors"
    revert(tmp_path / "o.safetensors", back)
    back.chmod(0o600)
    revert(tmp_path / "o.safetensors", back, force=True)
    assert mode(back) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_files_stay_their_owners(tmp_path):
    out = tmp_path / "o.safetensors"
    convert(STATE, out)
    os.chown(out, 12345, 23456)
    out.chmod(0o660)
    convert(CHANGED, out)
    found = out.stat()
    assert (found.st_uid, found.st_gid, mode(out)) == (12345, 23456, 0o660)


def test_a_group_that_cannot_be_given_sees_no_more_than_others(tmp_path, monkeypatch):
    out = tmp_path / "o.safetensors"
    convert(PLAIN, out)
    out.chmod(0o664)
    real = os.lstat

    def of_another_group(path, **options):
        found = list(real(path, **options))
        found[stat.ST_GID] += 1
        return os.stat_result(found)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "lstat", of_another_group)
    monkeypatch.setattr(os, "fchown", refuse)
    convert(PLAIN, out)
    assert mode(out) == 0o644


def companion_names(folder):
    found, notes = companions(folder)
    return [path.name for path in found], notes


def test_companions_that_lead_out_of_the_folder_are_left_out(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("a key")
    (folder / "notes.md").symlink_to("../secret")
    (folder / "real.json").write_text("{}")
    (folder / "alias.json").symlink_to("real.json")
    (folder / "gone.json").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    names, notes = companion_names(folder)
    assert names == ["alias.json", "real.json"]
    assert notes == ["notes.md is a symbolic link that leads out of its folder: not copied"]


def test_snapshots_of_the_hub_are_followed_into_their_own_blobs(tmp_path):
    repository, other = tmp_path / "models--a--b", tmp_path / "models--c--d"
    folder = repository / "snapshots" / "1234"
    for made in (folder, repository / "blobs", other / "blobs"):
        made.mkdir(parents=True)
    (repository / "blobs" / "00aa").write_text("{}")
    (other / "blobs" / "00bb").write_text("{}")
    (folder / "config.json").symlink_to("../../blobs/00aa")
    (folder / "stolen.json").symlink_to("../../../models--c--d/blobs/00bb")
    names, notes = companion_names(folder)
    assert names == ["config.json"] and len(notes) == 1
    (tmp_path / "link").symlink_to(folder)
    assert companion_names(tmp_path / "link") == (names, notes)


@pytest.fixture
def alarm():
    """Whatever waits for ever fails."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_no_fifo_is_waited_for(tmp_path, alarm):
    for name in (".o.safetensors.x.t2m-tmp", ".o.torch.safetensors.x.t2m-tmp", "t.safetensors"):
        os.mkfifo(tmp_path / name)
    convert(STATE, tmp_path / "o.safetensors")
    assert held(tmp_path / "o.safetensors") == 0
    for force in (False, True):
        with pytest.raises(ConversionError, match=r"t\.safetensors: is no regular file"):
            convert(STATE, tmp_path / "t.safetensors", force=force)
    os.mkfifo(tmp_path / "s.torch.safetensors")
    with pytest.raises(ConversionError, match="in the way of the sidecar"):
        convert(STATE, tmp_path / "s.safetensors", force=True)
    for function in (load_converted, revert, inspect, lambda p: convert(p, tmp_path / "x")):
        with pytest.raises((CheckpointError, RevertError)):
            function(tmp_path / "t.safetensors")
    (tmp_path / "o.torch.safetensors").unlink()
    os.mkfifo(tmp_path / "o.torch.safetensors")
    with pytest.raises(RevertError, match="sidecar"):
        revert(tmp_path / "o.safetensors")


def test_a_writer_waits_for_another_and_can_be_interrupted(tmp_path, alarm):
    out, begun = tmp_path / "o.safetensors", threading.Event()
    writer = threading.Thread(
        target=convert, args=(STATE, out), kwargs={"progress": lambda *_: begun.set()}
    )
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        writer.start()
        assert not begun.wait(0.2) and not out.exists()
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.write(tell, b".")
                convert(STATE, out)
            except KeyboardInterrupt:
                os._exit(0 if not os.path.exists(out) else 2)
            finally:
                os._exit(3)
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        threading.Event().wait(0.2)
        os.kill(pid, signal.SIGINT)
        assert os.waitpid(pid, 0)[1] == 0
    writer.join()
    assert held(out) == 0


def test_where_there_are_no_locks_writers_go_on_without(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for name in ("o.safetensors", "folder"):
        for i in (0, 1):
            convert(STATES[i], tmp_path / name)
            assert held(tmp_path / name) == i
    assert leftovers(tmp_path) == []


def test_where_there_are_no_links_what_is_kept_is_copied(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    convert(STATE, tmp_path / "out")
    (tmp_path / "out" / "notes").write_text("mine")
    convert(CHANGED, tmp_path / "out")
    assert (tmp_path / "out" / "notes").read_text() == "mine"


def failing(*_):
    raise OSError(5, "Input/output error")


def test_what_fails_after_the_commit_is_told_as_a_note(tmp_path, monkeypatch):
    from torch2mlx.checkpoint.write import folder, pair

    convert(STATE, tmp_path / "o.safetensors")
    monkeypatch.setattr(pair, "remove", failing)
    report = convert(PLAIN, tmp_path / "o.safetensors")
    assert "was written completely, but" in report.notes[-1]
    assert "Input/output error" in report.notes[-1]
    assert held(tmp_path / "o.safetensors") == 2
    convert(STATE, tmp_path / "folder")
    monkeypatch.setattr(folder, "remove_old", failing)
    report = convert(CHANGED, tmp_path / "folder")
    assert "was written completely, but" in report.notes[-1]
    assert held(tmp_path / "folder") == 1


def test_an_interrupted_command_says_what_it_left(tmp_path, monkeypatch, capsys):
    from tests.checkpoint.write.test_replacing import write_safetensors
    from torch2mlx.cli import running

    def interrupt(*_):
        raise KeyboardInterrupt

    source, out = tmp_path / "in.safetensors", tmp_path / "o.safetensors"
    write_safetensors(source, PLAIN)
    real = os.rename
    monkeypatch.setattr(os, "rename", interrupt)
    assert main(["convert", str(source), str(out)]) == 130
    assert "nothing was changed" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.setattr(os, "rename", real)
    monkeypatch.setattr(running, "_show", interrupt)
    assert main(["convert", str(source), str(out)]) == 130
    assert f"{out} had been written completely" in capsys.readouterr().err
    assert out.exists()


def test_a_sidecar_that_a_killed_writer_left_on_its_way_is_found_and_moved_on(tmp_path):
    out, side = tmp_path / "o.safetensors", tmp_path / "o.torch.safetensors"
    convert(STATE, out)
    from torch2mlx.checkpoint.formats.marker import digest, pending_sidecar

    pending = pending_sidecar(side, digest(side))
    side.rename(pending)
    assert held(out) == 0
    convert(PLAIN, tmp_path / "other.safetensors")
    assert pending.exists(), "it is no other's to remove"
    side.write_bytes(b"something of mine")
    assert held(out) == 0
    with pytest.raises(ConversionError, match="in the way"):
        convert(CHANGED, out)
    assert side.read_bytes() == b"something of mine" and held(out) == 0
    side.unlink()
    convert(CHANGED, out)
    assert held(out) == 1 and leftovers(tmp_path) == []


@pytest.mark.parametrize("length", [190, 210, 255 - len(".torch.safetensors")])
def test_names_may_be_as_long_as_the_system_allows(length, tmp_path):
    out = tmp_path / ("n" * length + ".safetensors")
    for i in (0, 1):
        convert(STATES[i], out)
        assert held(out) == i
    side = tmp_path / ("n" * length + ".torch.safetensors")
    assert sorted(tmp_path.iterdir()) == sorted([out, side])
    with pytest.raises(ConversionError, match="longer than the file system takes"):
        convert(PLAIN, tmp_path / ("n" * 250 + ".safetensors"))
    with pytest.raises(ConversionError, match="a path has no NUL in it"):
        convert(PLAIN, tmp_path / "a\0b.safetensors")
