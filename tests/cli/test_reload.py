"""The watcher: what it sees, and that the child is really restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from erlmcp.cli.reload import changed, snapshot

CHILD = "import sys, time; print('up', flush=True); time.sleep(100)"
PARENT = """
import sys
from pathlib import Path
from erlmcp.cli.reload import Reloader
sys.exit(Reloader([sys.executable, "-c", sys.argv[2]], Path(sys.argv[1]), poll_s=0.02).run())
"""


def test_only_python_files_of_the_project_are_watched(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "pkg/c.py", ".venv/d.py", "node_modules/e.py", "pkg/__pycache__/f.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert sorted(snapshot(tmp_path)) == [str(tmp_path / "a.py"), str(tmp_path / "pkg/c.py")]


def test_a_file_that_came_went_or_was_written_is_a_change() -> None:
    assert changed({"same": 1, "gone": 1, "written": 1}, {"same": 1, "written": 2, "new": 1}) == [
        "gone",
        "new",
        "written",
    ]
    assert changed({"same": 1}, {"same": 1}) == []


def start(folder: Path, child: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PARENT, str(folder), child]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_change_restarts_the_child_and_sigterm_ends_both(tmp_path: Path) -> None:
    watched = tmp_path / "server.py"
    watched.write_text("")
    with start(tmp_path, CHILD) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        os.utime(watched, ns=(1, 1))
        assert parent.stdout.readline() == "up\n"
        parent.send_signal(signal.SIGTERM)
        # The child holds the pipe too: its end comes only when both are gone.
        out, err = parent.communicate(timeout=30)
    assert out == ""
    assert "server.py changed, restarting" in err
    assert parent.returncode == 0


def test_a_child_that_fails_is_waited_for_and_started_again_after_a_change(tmp_path: Path) -> None:
    watched = tmp_path / "server.py"
    watched.write_text("")
    with start(tmp_path, "print('up', flush=True); raise SystemExit(3)") as parent:
        assert parent.stderr is not None
        assert parent.stderr.readline() == "erlmcp: the server ended with code 3; waiting for a change\n"
        os.utime(watched, ns=(1, 1))
        assert "changed, restarting" in parent.stderr.readline()
        parent.send_signal(signal.SIGINT)
        assert parent.wait(30) == 0
