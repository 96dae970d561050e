"""A machine of its own: a root with a real systemd as process 1, in namespaces (systemd-nspawn), thrown away afterwards.

Needs root, and a prepared root folder in RUN_RECORDER_SYSTEM/base; see `./dev system`."""

import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

FOLDER = Path(os.environ["RUN_RECORDER_SYSTEM"])
DEADLINE_S = 240  # that only a hang reaches
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
               "SYSTEMD_PAGER": "cat", "SYSTEMD_COLORS": "0"}
EVENTS = "/run/run-recorder/events.sock"
CONTROL = "/run/run-recorder/control.sock"


def wait_until(what, look, deadline_s=DEADLINE_S, every_s=0.05):
    end = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(every_s)


class ControlGroups:
    """A control group of its own below this process's, in each hierarchy that systemd uses. Machines that shared one would remove
    each other's services."""

    def __init__(self, name):
        self.folders = []
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, hierarchy, path = line.split(":", 2)
            if hierarchy in ("", "name=systemd"):
                self.folders.append(self.mounted(hierarchy) / path.lstrip("/") / name)
        for folder in self.folders:
            folder.mkdir()

    @staticmethod
    def mounted(hierarchy):
        top = Path("/sys/fs/cgroup")
        beside_others = top / ("unified" if hierarchy == "" else "systemd")
        return beside_others if beside_others.exists() else top

    def join(self):
        for folder in self.folders:
            (folder / "cgroup.procs").write_text("0")

    def remove(self):
        """Once their processes have ended."""
        wait_until("the control groups are empty", lambda: all([self.is_removed(folder) for folder in self.folders]))

    @staticmethod
    def is_removed(folder):
        try:
            for path, _, _ in os.walk(folder, topdown=False):
                os.rmdir(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        return not folder.exists()


class Machine:
    """root: where its files are, seen from here. Everything it wrote lies in memory and is gone after stop()."""

    def __init__(self):
        self.name = f"rr-{uuid.uuid4().hex[:8]}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.log = open(self.folder / "console.log", "wb")
        self.groups = ControlGroups(self.name)
        self.outer = None
        self.leader = None

    def boot(self):
        self.outer = subprocess.Popen(
            ["systemd-nspawn", "--boot", "--quiet", f"--directory={FOLDER / 'base'}", "--volatile=overlay", "--register=no",
             "--keep-unit", "--private-network", f"--machine={self.name}", f"--bind-ro={FOLDER / 'packages'}:/packages"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
            preexec_fn=self.groups.join)
        self.leader = wait_until("systemd-nspawn has a child", self._find_leader)
        wait_until("the machine runs", lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in
                   ("running", "degraded"))
        return self

    def _find_leader(self):
        if self.outer.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended: {(self.folder / 'console.log').read_text(errors='replace')}")
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return None

    @property
    def root(self):
        return Path(f"/proc/{self.leader}/root")

    def stop(self):
        if self.outer and self.outer.poll() is None:
            self.outer.terminate()
            try:
                self.outer.wait(60)
            except subprocess.TimeoutExpired:
                self.outer.kill()
                self.outer.wait()
        self.log.close()
        self.groups.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def enter(self, *command):
        """The command that runs one inside."""
        return ["nsenter", "-t", str(self.leader), "-a", "--", *command]

    def start(self, *command, **more):
        """A process outside whose only child is the command inside."""
        return subprocess.Popen(self.enter(*command), stdin=subprocess.DEVNULL, cwd="/", **more)

    def run(self, *command, check=True, user=None, stdin=""):
        """A command inside, as root or somebody else."""
        if user:
            command = ("runuser", "-u", user, "--", *command)
        done = subprocess.run(self.enter(*command), input=stdin, text=True, capture_output=True, timeout=DEADLINE_S, env=ENVIRONMENT,
                              cwd="/")
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def output(self, *command, **more):
        return self.run(*command, **more).stdout.strip()

    def write(self, path, text, mode=0o644):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def property(self, name, unit="run-recorder.service"):
        return self.output("systemctl", "show", "--property", name, "--value", unit)

    def journal(self, *matches):
        """The entries, as objects."""
        self.run("journalctl", "--sync")
        lines = self.output("journalctl", "--no-pager", "--output=json", *matches).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def install(self, version, check=True):
        return self.run("dpkg", "--install", f"/packages/run-recorder_{version}_{architecture()}.deb", check=check)

    def status(self):
        return json.loads(self.output("run-recorder", "status", "--json"))

    def wait_applied(self):
        """Until nothing waits; the status."""
        def look():
            status = self.status()
            return status if status["waiting"] == 0 and status["database"]["state"] == "up" else None
        return wait_until("everything is applied", look)

    def connect(self):
        """To the event socket, from outside the machine."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE_S)
        try:
            connection.connect(str(self.root / EVENTS.lstrip("/")))
        except OSError:
            connection.close()
            raise
        return connection

    def send(self, *events):
        """On a connection of their own; returns once all of them are acknowledged."""
        with self.connect() as connection:
            connection.sendall("".join(json.dumps(event) + "\n" for event in events).encode())
            connection.shutdown(socket.SHUT_WR)
            answers = b""
            while part := connection.recv(65536):
                answers += part
        last = json.loads(answers.splitlines()[-1]) if answers else {}
        if b'"error"' in answers or last.get("acked") != len(events):
            raise AssertionError(f"not acknowledged: {answers!r}")


def only_child(pid):
    """The process that it started."""
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def architecture():
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
