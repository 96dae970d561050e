"""The demonstration shows what it says, and leaves nothing behind."""

import subprocess
from pathlib import Path

from harness import BIN, temporary_folder


def test_the_demo_succeeds_and_leaves_nothing_behind():
    temporary = temporary_folder()
    done = subprocess.run(["bash", str(Path(__file__).with_name("demo.sh")), str(BIN)], capture_output=True, text=True,
                          timeout=300, check=False, stdin=subprocess.DEVNULL,
                          env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for words in ("nightly-backup", "import-orders", "send-invoices", "monthly-report", "resize-images", "process_gone"):
        assert words in done.stdout
    assert list(temporary.iterdir()) == []
    temporary.rmdir()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(temporary) not in process.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            pass
