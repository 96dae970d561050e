"""What happens between the steps of the walk, and what its placeholders stand for: each is given the machine."""

import json
import shutil
import socket
import uuid
from pathlib import Path

import documents
from machine import architecture, CONTROL, FOLDER, wait_until
from walk import PLACEHOLDERS

SOURCE = Path(__file__).resolve().parents[2]
OLD = sorted(path.name.split("_")[1] for path in (FOLDER / "packages").glob("*.deb"))[0]
PACKAGE = f"run-recorder_{OLD}_{architecture()}.deb"
WORKER, OPERATOR, DEVELOPER = PLACEHOLDERS["WORKERS_USER"], PLACEHOLDERS["OPERATORS_USER"], "dora"
CONFIGURATION = "etc/run-recorder/run-recorder.toml"
DATABASE = "/var/lib/run-recorder/run-recorder.db"
URL = "postgresql://recorder@db.example/app"
SQLITE = "sqlite:/var/lib/run-recorder/back.db"


def documented(beginning):
    """A paragraph of a code block of docs/tasks.md."""
    return documents.paragraph((SOURCE / "docs/tasks.md").read_text(), beginning)


def make_user(machine, name):
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", name)


def a_clone_of_the_source(machine):
    """Of a developer who may use sudo. Its programs are built."""
    make_user(machine, DEVELOPER)
    machine.write("/etc/sudoers.d/developer", f"{DEVELOPER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    folder = machine.root / "home" / DEVELOPER / "run-recorder"
    (folder / "build").mkdir(parents=True)
    shutil.copy(SOURCE / "dev", folder)
    shutil.copy(FOLDER / "packages" / PACKAGE, folder / "build")
    machine.run("dpkg-deb", "--extract", f"/packages/{PACKAGE}", "/tmp/package")
    machine.run("cp", "-r", "/tmp/package/usr/bin", f"/home/{DEVELOPER}/run-recorder/build")


def a_package_in_roots_folder(machine):
    shutil.copy(FOLDER / "packages" / PACKAGE, machine.root / "root")


def a_package_in_roots_build_folder(machine):
    (machine.root / "root/run-recorder/build").mkdir(parents=True)
    shutil.copy(FOLDER / "packages" / PACKAGE, machine.root / "root/run-recorder/build")


def two_users(machine):
    for name in (WORKER, OPERATOR):
        make_user(machine, name)
    script(machine, f"/home/{WORKER}/backup.sh", "echo saving")


def script(machine, path, command):
    machine.write(path, f"#!/bin/sh\n{command}\n", 0o755)


def a_service_and_its_users(machine):
    two_users(machine)
    machine.install(OLD)
    machine.run("usermod", "--append", "--groups", "run-recorder", WORKER)
    machine.run("usermod", "--append", "--groups", "run-recorder-admin", OPERATOR)


def the_daemon_of_the_source_listens(machine):
    wait_until("its socket is there", lambda: (machine.root / "tmp/rr/events.sock").exists())


def the_daemon_of_the_source_has_applied_it(machine):
    wait_until("nothing waits", lambda: '"waiting":0' in machine.output(
        f"/home/{DEVELOPER}/run-recorder/build/bin/run-recorder", "--control", "/tmp/rr/control.sock", "status", "--json", user=DEVELOPER))


def configure(machine, section, line):
    """A line more in that section of the configuration; the reader has an editor for it."""
    path = machine.root / CONFIGURATION
    path.write_text(path.read_text().replace(f"[{section}]\n", f"[{section}]\n{line}\n", 1))


def a_short_grace(machine):
    configure(machine, "reconcile", 'grace = "1s"')
    machine.run("systemctl", "restart", "run-recorder")


def runs(machine, council):
    """Those of a name, newest first."""
    return [json.loads(line) for line in machine.output("run-recorder", "list", "--json", "--council", council).splitlines()]


def a_job_killed_with_its_wrapper(machine):
    """While the daemon is down; and found after that."""
    machine.run("systemd-run", "--quiet", "--unit=resize", f"--uid={WORKER}", "--property=KillMode=control-group",
                "run-recorder", "exec", "--council", "resize-images", "--", "sleep", "infinity")
    wait_until("it runs", lambda: runs(machine, "resize-images"))
    machine.run("systemctl", "stop", "run-recorder.socket", "run-recorder.service")
    machine.run("systemctl", "kill", "--signal=KILL", "resize")
    machine.run("systemctl", "start", "run-recorder.socket", "run-recorder.service")
    wait_until("it is found", lambda: runs(machine, "resize-images")[0]["status"] == "stuck")


def stuck_run(machine):
    return runs(machine, "resize-images")[0]["run_id"]


def pass_that_marked(machine):
    return machine.journal(f"RUN_ID={stuck_run(machine)}")[-1]["PASS_ID"]


def a_mistake_in_the_configuration(machine):
    configure(machine, "reconcile", 'interval = "soon"')


def the_daemon_was_asked_all_the_same(machine):
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=HUP", "run-recorder")
    wait_until("it says so", lambda: "reload refused: " in machine.property("StatusText"))


def the_mistake_is_mended(machine):
    path = machine.root / CONFIGURATION
    path.write_text(path.read_text().replace('interval = "soon"\n', ""))


def it_is_started_again(machine):
    machine.run("systemctl", "start", "run-recorder.socket", "run-recorder.service")
    machine.wait_applied()


def unsent_events(machine):
    return machine.output("sh", "-c", f"ls /home/{WORKER}/.local/state/run-recorder/unsent/*.ndjson", user=WORKER)


def a_folder_for_backups(machine):
    machine.run("mkdir", "/backup")


def events_that_the_database_refuses(machine):
    """Because of a trigger of somebody's."""
    machine.run("sqlite3", DATABASE, "CREATE TRIGGER poison BEFORE INSERT ON council_ex_runs WHEN NEW.council = 'poison' "
                "BEGIN SELECT RAISE(ABORT, 'no poison'); END")
    machine.send(*[{"type": "run_started", "run_id": run, "council": "poison"} for run in ("mended", "given-up")])
    wait_until("they are dead letters", lambda: machine.status()["dead_letters"] == 2)


def the_cause_is_removed(machine):
    machine.run("sqlite3", DATABASE, "DROP TRIGGER poison")


def letter_of(run):
    def look(machine):
        letters = [json.loads(line) for line in machine.output("run-recorder", "dead-letters", "list", "--json").splitlines()]
        return str(next(letter["id"] for letter in letters if letter["run_id"] == run))
    return look


def a_run_of_last_year(machine):
    run = uuid.uuid4().hex
    machine.send({"type": "run_completed", "run_id": run})
    machine.wait_applied()
    past = "'2025-01-01T00:00:00.000000Z'"
    machine.run("sqlite3", DATABASE, f"UPDATE council_ex_runs SET inserted_at = {past}, updated_at = {past}, last_event_at = {past} "
                f"WHERE run_id = '{run}'")


def a_retention_of_a_day(machine):
    configure(machine, "retention", 'keep = "1d"')
    machine.run("systemctl", "reload", "run-recorder")


def cursor_of_an_export(machine):
    """As one that was cut off behind its first line says it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.connect(str(machine.root / CONTROL.lstrip("/")))
        control.sendall(b"GET /v1/export?limit=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := control.recv(65536):
            answer += part
    return json.loads(answer.partition(b"\r\n\r\n")[2])["next"]


def another_daemon(machine):
    """With a database of its own and a run in it."""
    machine.run("systemd-run", "--quiet", "--unit=old", "--uid=run-recorder", "--gid=run-recorder",
                "--setenv=RUN_RECORDER_CONFIG=/dev/null", "--property=RuntimeDirectory=old", "--property=StateDirectory=old",
                "--property=Type=notify", "run-recorderd")
    machine.run("run-recorder", "--socket", "/run/old/events.sock", "emit", "--type", "run_completed", "--run-id", "from-the-old-one")
    wait_until("it is applied", lambda: '"waiting":0' in machine.output("run-recorder", "--control", "/run/old/control.sock", "status",
                                                                        "--json"))


def a_postgresql_at_db_example(machine):
    sql(machine, "postgres", "CREATE ROLE recorder LOGIN PASSWORD 's3cret'; CREATE DATABASE app OWNER recorder;")
    hosts = machine.root / "etc/hosts"
    hosts.write_text(hosts.read_text() + "127.0.0.1 db.example\n")
    machine.write("/etc/credstore/run-recorder.database-password", "s3cret\n", 0o600)


def the_url_is_in_the_configuration(machine):
    configure(machine, "database", f'url = "{URL}"')
    it_is_started_again(machine)


def recorders(machine):
    return machine.output("psql", "-At", "-d", "app", "-c", "SELECT id FROM council_ex_recorders", user="postgres")


def that_url_is_in_the_configuration(machine):
    path = machine.root / CONFIGURATION
    path.write_text(path.read_text().replace(URL, SQLITE))
    it_is_started_again(machine)


def the_spool_comes_to_another_host(machine):
    """Which has a machine id of its own."""
    machine.recorders = recorders(machine)
    machine.run("systemctl", "stop", "run-recorder.socket", "run-recorder.service")
    machine.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")


def the_recorder_is_the_same_one(machine):
    it_is_started_again(machine)
    if recorders(machine) != machine.recorders:
        raise AssertionError(f"recorders {recorders(machine)!r}, and before {machine.recorders!r}")


def nothing_of_it_is_left(machine):
    left = [path for path in ("etc/run-recorder", "var/lib/run-recorder", "run/run-recorder") if (machine.root / path).exists()]
    if left:
        raise AssertionError(f"still there: {left}")


def the_folder_is_the_containers(machine):
    owner = machine.output("stat", "-c", "%u:%g", "/run/run-recorder")
    if owner != "10001:10001":
        raise AssertionError(f"it belongs to {owner}")


def everything_is_applied(machine):
    machine.wait_applied()


def a_run_here(machine):
    machine.send({"type": "run_started", "run_id": "here", "council": "demo"}, {"type": "run_completed", "run_id": "here"})
    machine.wait_applied()


def host_name(machine):
    return machine.output("hostname")


# ---- by task


def alice_and_her_crontab(machine):
    """The editor types the lines of the document, with every minute as their time, and takes longer than crontab can notice."""
    make_user(machine, "alice")
    script(machine, "/usr/local/bin/backup", "echo saving")
    script(machine, "/usr/local/bin/report", "exit 1")
    lines = [line.replace("30 2 ", "* * ").replace("0 * ", "* * ") for line in documented("30 2 * * * ").splitlines()]
    machine.write("/root/crontab", "\n".join(lines) + "\n")
    script(machine, "/usr/bin/editor", 'cat /root/crontab >"$1"; touch -d "1 minute" "$1"')


def cron_has_run_both_jobs(machine):
    wait_until("both have ended", lambda: all(run["status"] in ("completed", "failed") for run in [
        (runs(machine, name) or [{"status": ""}])[0] for name in ("nightly-backup", "report")]))


def nightly_backup(machine):
    return next(run["run_id"] for run in runs(machine, "nightly-backup") if run["status"] == "completed")


def a_service_that_is_there_already(machine):
    machine.write("/etc/systemd/system/backup.service", "[Service]\nType=oneshot\nExecStart=/usr/local/bin/backup\n")


def sql(machine, database, text):
    wait_until("PostgreSQL is there", lambda: machine.run("pg_isready", check=False).returncode == 0)
    machine.run("psql", "-v", "ON_ERROR_STOP=1", "-d", database, user="postgres", stdin=text)


def a_database_with_jobs_of_oban(machine):
    """As Oban's migrations make them, as far as they are read; job 102 is being executed."""
    sql(machine, "postgres", "CREATE DATABASE app")
    sql(machine, "app", """
        CREATE TYPE oban_job_state AS ENUM ('available', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled');
        CREATE TABLE oban_jobs (id bigserial PRIMARY KEY, state oban_job_state NOT NULL, queue text NOT NULL DEFAULT 'default',
          worker text NOT NULL, args jsonb NOT NULL DEFAULT '{}', errors jsonb[] NOT NULL DEFAULT '{}',
          attempt integer NOT NULL DEFAULT 0, max_attempts integer NOT NULL DEFAULT 20, inserted_at timestamp NOT NULL DEFAULT now(),
          scheduled_at timestamp NOT NULL DEFAULT now(), attempted_at timestamp, completed_at timestamp, attempted_by text[],
          discarded_at timestamp, priority integer, tags varchar[], meta jsonb, cancelled_at timestamp);
        INSERT INTO oban_jobs (id, state, worker, attempt, attempted_at) VALUES (102, 'executing', 'Shop.ImportOrders', 1, now());""")


def the_job_was_rescued(machine):
    """And a pass has looked since, after the grace."""
    sql(machine, "app", "UPDATE oban_jobs SET state = 'retryable' WHERE id = 102")
    a_short_grace(machine)
    # A pass of the daemon's own may be under way, and refuses this one.
    wait_until("it is found", lambda: machine.run("run-recorder", "reconcile", check=False) and
               runs(machine, "Shop.ImportOrders")[0]["status"] == "stuck")


def a_database_of_somebody_elses(machine):
    make_user(machine, "app")
    sql(machine, "postgres", "CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app;")


def that_database_is_configured_without_migrations(machine):
    path = machine.root / CONFIGURATION
    path.write_text(path.read_text().replace("postgresql:///runs", "postgresql:///app"))
    configure(machine, "database", "migrate = false")
    machine.run("systemctl", "restart", "run-recorder")
    machine.wait_applied()
