"""The folder of uploaded files: private, deleted at the stop, and after a kill at the next start."""

import signal
import subprocess
import sys
from pathlib import Path

from bridge.web.page.upload_folder import PREFIX, UploadFolder

HOLDER = """
import sys, time
from pathlib import Path
from bridge.web.page.upload_folder import UploadFolder
folder = UploadFolder(Path(sys.argv[1])).path
(folder / "persons.zip").write_text("faces")
print(folder, flush=True)
time.sleep(60)
"""


def folders(above: Path) -> set[Path]:
    return set(above.glob(f"{PREFIX}*"))


def test_folder_is_private_and_deleted_at_the_stop(tmp_path: Path) -> None:
    uploads = UploadFolder(tmp_path)
    uploads.start()
    assert folders(tmp_path) == set()
    path = uploads.path
    assert folders(tmp_path) == {path}
    (uploads.path / "persons.zip").write_text("faces")
    assert uploads.path.stat().st_mode & 0o777 == 0o700
    uploads.stop()
    assert folders(tmp_path) == set()


def test_folder_of_a_killed_bridge_is_deleted_and_that_of_a_running_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    elsewhere = tmp_path / "important"
    elsewhere.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").write_text("no folder")
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
    ):
        assert running.stdout is not None
        assert killed.stdout is not None
        live, left = Path(running.stdout.readline().strip()), Path(killed.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        UploadFolder(tmp_path).start()
        assert not left.exists()
        assert (live / "persons.zip").read_text() == "faces"
        assert elsewhere.exists()
        running.kill()


def test_folder_that_was_deleted_is_created_again(tmp_path: Path) -> None:
    uploads = UploadFolder(tmp_path)
    uploads.path.rmdir()
    assert uploads.path.exists()
    uploads.stop()
