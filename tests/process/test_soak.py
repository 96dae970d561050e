"""The soak's short form: no healthy run is found stuck, whatever goes on. `./dev soak` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak_verdicts.py")


@pytest.mark.parametrize("kind", ("sqlite", "postgresql"))
def test_no_healthy_run_is_found_stuck(kind):
    done = subprocess.run([sys.executable, str(SOAK), "--small", "--database", kind], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
