"""`run-recorder watch` on a terminal: its keys, and the terminal as it was before, however it ends."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from harness import DEADLINE_S, TOOL, clean_environment

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?25h\x1b[?1049l"


class Screen:
    """A terminal of one's own with a program in its foreground."""

    def __init__(self, *command):
        self.master, self.terminal = pty.openpty()
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.modes = termios.tcgetattr(self.terminal)
        self.output = b""
        self.process = subprocess.Popen(command, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal,
                                        start_new_session=True, env=clean_environment(TERM="xterm"),
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def read_until(self, words):
        end = time.monotonic() + DEADLINE_S
        while words not in self.output:
            assert time.monotonic() < end, f"{words} in {self.output}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 65536)
        before, self.output = self.output.split(words, 1)
        return before

    def is_restored(self):
        return termios.tcgetattr(self.terminal) == self.modes

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.terminal)


@pytest.fixture
def server(servers):
    server = servers().start().wait_tables()
    server.send({"type": "run_started", "run_id": "the-run", "council": "demo"})
    server.wait_applied()
    return server


@pytest.fixture
def watch(server, at_end):
    def make(*through, interval="1h"):
        screen = Screen(*through, str(TOOL), "watch", "--interval", interval, "--control", str(server.control_path))
        at_end(screen.close)
        screen.read_until(ENTERED)
        screen.read_until(b"the-run")
        return screen
    return make


def test_q_quits_and_the_terminal_is_as_before(watch):
    screen = watch()
    assert not screen.is_restored()
    screen.type(b"xq")
    screen.read_until(LEFT)
    assert screen.process.wait(DEADLINE_S) == 0
    assert screen.is_restored()


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT))
def test_a_signal_ends_it_and_the_terminal_is_as_before(watch, number):
    screen = watch()
    screen.process.send_signal(number)
    screen.read_until(LEFT)
    assert screen.process.wait(DEADLINE_S) == -number
    assert screen.is_restored()


def test_ctrl_c_ends_it_also_while_the_daemon_is_hung(server, watch):
    screen = watch(interval="10ms")
    server.signal(signal.SIGSTOP)
    try:
        screen.type(b"\x03")
        screen.read_until(LEFT)
        assert screen.process.wait(DEADLINE_S) == -signal.SIGINT
    finally:
        server.signal(signal.SIGCONT)
    assert screen.is_restored()


def test_stopped_and_continued_it_goes_on(server, at_end):
    shell = Screen("/bin/bash", "--norc", "-i")
    at_end(shell.close)
    shell.type(f"PS1='$ '; {TOOL} watch --interval 1h --control {server.control_path}\n".encode())
    shell.read_until(ENTERED)
    shell.read_until(b"the-run")
    shell.type(b"\x1a")
    shell.read_until(LEFT)
    shell.read_until(b"Stopped")
    shell.type(b"fg\n")
    shell.read_until(ENTERED)
    shell.read_until(b"the-run")
    shell.type(b"q")
    shell.read_until(LEFT)
    shell.type(b"echo sta''tus=$?\n")
    shell.read_until(b"status=0")


def test_p_pauses_and_r_refreshes(server, watch):
    screen = watch(interval="10ms")
    screen.type(b"p")
    screen.read_until(b"paused: p goes on")
    screen.read_until(b"\x1b[J")
    server.send({"type": "run_started", "run_id": "a-later-run"})
    server.wait_applied()
    screen.type(b"r")
    assert b"\x1b[J" not in screen.read_until(b"a-later-run")
    screen.read_until(b"\x1b[J")
    screen.type(b" ")
    screen.read_until(b"p pauses")
    server.send({"type": "run_started", "run_id": "the-last-run"})
    screen.read_until(b"the-last-run")


def test_another_size_of_the_window_is_drawn_at_once(watch):
    screen = watch()
    fcntl.ioctl(screen.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    screen.read_until(b"the-run")


def test_where_the_daemon_is_away_at_first_the_screen_is_left_alone(servers, at_end):
    screen = Screen(str(TOOL), "watch", "--control", str(servers().control_path))
    at_end(screen.close)
    said = screen.read_until(b"the daemon is away")
    assert screen.process.wait(DEADLINE_S) == 69
    assert ENTERED not in said + screen.output
    assert screen.is_restored()
