"""The jobs of test_rq.py."""
import os
import signal
import time


def good():
    return {"rows": 3}


def bad():
    raise ValueError("bad")


def not_to_be_stored():
    raise ValueError("\ud800")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def again(been):
    if not os.path.exists(been):
        open(been, "w").close()
        raise ValueError("not yet")
    return 1


def slow():
    time.sleep(1000)


def waits():
    time.sleep(1000)
