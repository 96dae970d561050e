"""Starting, stopping and configuring: exit codes, who holds what, all mistakes at once, reload."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from databases import on_postgres
from harness import DAEMON, DEADLINE_S, SqliteDatabase, StandingPipe, temporary_folder, wait_until


# ---- configuration


def test_all_mistakes_are_named_at_once_and_exit_78(daemons):
    server = daemons()
    server.write_config(text='[socket]\npath = 17\n[spool]\nmax_bytes = "much"\nkeeep = "1h"\n[nonsense]\nx = 1\n'
                             '[reconcile]\ngrace = "30"\n[events]\nexclude = ["a"]\ninclude = ["b"]\n')
    for arguments in ((), ("--check",)):
        done = server.run(*arguments)
        assert done.returncode == 78, done.stderr
        for words in ("path", "max_bytes", "keeep", "nonsense", "grace", "include", "config.toml:2", "config.toml:9"):
            assert words in done.stderr
    assert not server.spool_path.exists()


def test_a_file_that_is_not_toml_or_not_there_is_an_error(daemons):
    server = daemons()
    server.write_config(text="[socket\n")
    assert server.run("--check").returncode == 78
    server.config_path.unlink()
    done = subprocess.run([str(DAEMON), "--config", str(server.config_path)], capture_output=True, text=True, timeout=60,
                          env=server.environment(), check=False)
    assert done.returncode == 78, done.stderr
    assert str(server.config_path) in done.stderr


def test_unknown_flags_are_usage_and_unknown_variables_configuration(daemons):
    server = daemons()
    assert server.run("--nonsense").returncode == 2
    assert server.run("positional").returncode == 2
    done = server.run("--check", env={"RUN_RECORDER_NONSENSE": "1"})
    assert done.returncode == 78
    assert "RUN_RECORDER_NONSENSE" in done.stderr


def test_variables_of_kubernetes_services_keep_nothing_from_starting_or_sending(servers):
    links = {"RUN_RECORDER_SERVICE_HOST": "10.96.0.7", "RUN_RECORDER_SERVICE_PORT": "9090",
             "RUN_RECORDER_SERVICE_PORT_METRICS": "9090", "RUN_RECORDER_PORT": "tcp://10.96.0.7:9090",
             "RUN_RECORDER_PORT_9090_TCP": "tcp://10.96.0.7:9090", "RUN_RECORDER_PORT_9090_TCP_PROTO": "tcp",
             "RUN_RECORDER_PORT_9090_TCP_PORT": "9090", "RUN_RECORDER_PORT_9090_TCP_ADDR": "10.96.0.7",
             "RUN_RECORDER_METRICS_SERVICE_HOST": "10.96.0.8"}
    server = servers(env=links).start()
    assert len([line for line in server.log_lines("warning") if "Kubernetes" in line]) == 1, server.log()
    checked = server.run("--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.search(r"warning +environment RUN_RECORDER_METRICS_SERVICE_HOST and 8 more: ignored", checked.stdout)
    server.tool("emit", "--type", "run_started", "--run-id", "r1")
    assert "r1" in server.tool("list", "--json").stdout


def test_the_tool_names_an_unknown_variable_and_sends_anyway(servers):
    server = servers().start()
    unknown = {"RUN_RECORDER_SOCKET_PAHT": "/x", "RUN_RECORDER_PORT": "tcp://10.96.0.7:9090"}
    done = server.tool("emit", "--type", "run_started", "--run-id", "r1", env=unknown)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RUN_RECORDER_SOCKET_PAHT") == 1, done.stderr
    assert "RUN_RECORDER_SOCKET_PATH?" in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr
    assert server.run("--check", env=unknown).returncode == 78


def test_a_name_that_the_host_does_not_know_is_69_and_a_mistake_beside_it_78(servers):
    server = servers({"socket": {"group": "no-such-group-here"}})
    for arguments in ((), ("--check",)):
        done = server.run(*arguments, env={"NOTIFY_SOCKET": ""})
        assert done.returncode == 69, done.stderr
        assert "no-such-group-here" in done.stderr
    assert server.run("--limits-depth", "1").returncode == 78


def test_a_name_that_the_host_comes_to_know_is_waited_for_under_a_service_manager(servers, at_end):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    at_end(manager.close)
    manager.settimeout(DEADLINE_S)
    server = servers({"socket": {"allow_users": ["root", "no-such-user-here"]}})
    server.env["NOTIFY_SOCKET"] = str(server.folder / "notify.sock")
    manager.bind(server.env["NOTIFY_SOCKET"])
    server.write_config()
    server.spawn()
    said = ""
    while "no-such-user-here" not in said:
        said = manager.recv(4096).decode()
    assert "STATUS=waiting" in said
    # The directory service comes up: here, the name becomes one that the host knows.
    server.config["socket"]["allow_users"] = ["root", "nobody"]
    new = server.folder / "new.toml"
    new.write_text(server.config_path.read_text().replace("no-such-user-here", "nobody"))
    new.replace(server.config_path)
    assert "no-such-user-here" in server.log()
    manager.settimeout(1)

    def ready():
        if not server.alive():  # it waited too long for this machine: the manager starts it again
            assert server.wait() == 69, server.log()
            server.spawn()
        try:
            return "READY=1" in manager.recv(4096).decode()
        except TimeoutError:
            return False
    wait_until(ready, "READY=1")
    server.wait_ready()


def test_flags_win_over_environment_over_file(daemons):
    server = daemons()
    server.env["RUN_RECORDER_SOCKET_PATH"] = str(server.folder / "from-environment.sock")
    server.write_config()
    server.spawn("--socket-path", str(server.folder / "from-flag.sock"))
    server.socket_path = server.folder / "from-flag.sock"
    server.wait_ready()
    server.stop()
    server.spawn()
    server.socket_path = server.folder / "from-environment.sock"
    server.wait_ready()


def test_without_any_configuration_it_runs_on_sqlite_in_the_usual_folders(daemons):
    base = temporary_folder()
    server = daemons(folder=base)
    for name in ("run", "state"):
        (base / name).mkdir()
    env = {**server.environment(), "RUNTIME_DIRECTORY": str(base / "run"), "STATE_DIRECTORY": str(base / "state")}
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen([str(DAEMON)], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    server.socket_path, server.control_path = base / "run" / "events.sock", base / "run" / "control.sock"
    server.control.path = server.control_path
    server.wait_ready()
    server.send({"type": "run_started", "run_id": "r1"})
    server.wait_applied()
    assert "r1" in SqliteDatabase(base / "state" / "run-recorder.db").runs()
    assert (base / "state" / "spool").is_dir()
    assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o660
    assert stat.S_IMODE(server.control_path.stat().st_mode) in (0o600, 0o660)


def test_a_mistyped_folder_of_the_database_is_named_and_not_made(daemons):
    server = daemons()
    folder = server.folder / "mistyped"
    server.config["database"]["url"] = f"sqlite:{folder}/run-recorder.db"
    server.write_config()
    for arguments in ((), ("--check",), ("--migrate",), ("--drain",)):
        done = server.run(*arguments)
        assert done.returncode == 69, done.stdout + done.stderr
        assert f"there is no folder {folder}:" in done.stdout + done.stderr + server.log()
        assert f"mkdir -p -m 0700 {folder}" in done.stdout + done.stderr + server.log()
        assert not folder.exists()
    folder.mkdir()
    server.start()


def test_a_spool_in_memory_is_warned_of_and_works(at_end, daemons):
    """acknowledged, it says, means that it survives a restart of the host: not there."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    memory = Path("/dev/shm")
    if not any(point == str(memory) and kind == "tmpfs" for _, point, kind, *_ in mounts) or not os.access(memory, os.W_OK):
        pytest.skip("no tmpfs at /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory))
    at_end(shutil.rmtree, folder)
    server = daemons(config={"spool": {"path": folder / "spool"}})
    server.write_config()
    words = f"{folder}/spool is on tmpfs: acknowledged events do not survive a restart of the host"
    checked = server.run("--check")
    assert checked.returncode == 0
    assert re.search(rf"(?m)^warning +{re.escape(words)}$", checked.stdout)
    server.start()
    server.wait_for_log("the spool is on a file system that cannot keep what it promises.*file_system=tmpfs")
    server.send({"type": "note", "run_id": "r"})
    examined = server.tool("doctor", "--json", "--config", str(server.config_path))
    assert words in [json.loads(line)["found"] for line in examined.stdout.splitlines()]


def test_check_warns_of_a_disk_that_is_too_full_and_of_a_socket_that_cannot_be_made(servers):
    server = servers()
    server.start()
    server.stop()
    assert "warning" not in server.run("--check").stdout
    server.config["spool"]["min_free"] = "1000TiB"
    closed = Path("/proc/self") if os.geteuid() == 0 else Path("/")
    server.config["control"]["path"] = closed / "control.sock"
    server.write_config()
    checked = server.run("--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(rf"(?m)^warning +\S+ \wiB free under {re.escape(str(server.spool_path))}, \[spool\] min_free is 1000 TiB: events "
                     r"would be refused$", checked.stdout), checked.stdout
    assert re.search(rf"(?m)^warning +{closed}/control\.sock cannot be made: {closed}: ", checked.stdout), checked.stdout


@pytest.mark.parametrize("section", ["socket", "control"])
def test_check_says_what_stands_in_the_place_of_a_socket(servers, section):
    server = servers()
    path = server.socket_path if section == "socket" else server.control_path
    path.write_text("mine")
    server.write_config()
    checked = server.run("--check")
    assert checked.returncode == 69, checked.stdout + checked.stderr
    assert f"{path}: it exists and is not a socket" in checked.stdout
    assert server.run().returncode == 69
    assert path.read_text() == "mine"


def test_check_accepts_what_is_good_and_changes_nothing(servers):
    server = servers()
    server.start()
    server.stop()
    done = server.run("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_works_beside_a_running_daemon(servers):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "a"})
    done = server.run("--check")
    assert done.returncode == 0, done.stdout + done.stderr
    server.send({"type": "run_completed", "run_id": "a"})


def test_check_exits_69_while_the_database_is_away(daemons):
    server = daemons(f"postgresql://postgres@/x?host={temporary_folder()}")
    done = server.run("--check")
    assert done.returncode == 69, done.stdout + done.stderr
    assert "database" in done.stdout + done.stderr


def test_print_shows_the_migrations_and_touches_nothing(servers):
    server = servers()
    done = server.run("--migrate", "--print")
    assert done.returncode == 0, done.stderr
    for table in ("runs", "run_events", "reconciliations", "recorders"):
        assert f"council_ex_{table}" in done.stdout
    assert not server.sqlite_path.exists()


def test_migrate_alone_makes_the_tables(servers):
    server = servers()
    for _ in range(2):
        done = server.run("--migrate")
        assert done.returncode == 0, done.stderr
    assert server.database.runs() == {}
    assert not server.socket_path.exists()


def test_a_good_reload_takes_effect_and_a_bad_one_changes_nothing(servers):
    server = servers().start()
    server.config["events"] = {"exclude": ["noise"]}
    server.config["spool"]["path"] = str(server.folder / "another-spool")
    server.write_config()
    mark = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"(?i)spool\.path", after=mark)  # needs a restart
    server.send({"type": "noise", "run_id": "a"}, {"type": "note", "run_id": "a"})
    server.wait_applied()
    assert [entry["type"] for entry in server.database.events()["a"]] == ["note"]
    server.write_config(text='[events]\nexclude = ["note"]\n[nonsense]\nx = 1\n')
    mark = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log("nonsense", after=mark)
    server.send({"type": "noise", "run_id": "a"}, {"type": "note", "run_id": "a"})
    server.wait_applied()
    assert [entry["type"] for entry in server.database.events()["a"]] == ["note", "note"]


def test_sigint_stops_as_sigterm_does_and_the_sockets_are_gone(servers):
    server = servers().start()
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert not server.socket_path.exists()
    assert not server.control_path.exists()


# ---- standard streams and children


def spawn_closed(server):
    server.write_config()
    server.process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", str(DAEMON), "--config",
                                       str(server.config_path)], env=server.environment())
    return server.wait_ready()


def test_closed_standard_streams_are_not_reused_for_files(servers):
    server = servers({"log": {"level": "debug"}})
    for _ in range(2):
        spawn_closed(server)
        assert [os.readlink(f"/proc/{server.process.pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
        server.send({"type": "run_started", "run_id": "r1"})
        server.wait_applied()
        server.stop()
    for file in [path for path in server.folder.rglob("*") if path.is_file() and path != server.config_path]:
        assert b"accepts events" not in file.read_bytes(), f"a line of the log in {file}"
    assert server.tool("spool", "verify", "--spool-path", server.spool_path).returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to make a PID namespace")
def test_as_process_1_the_daemon_leaves_no_zombies(servers):
    server = servers()
    server.write_config()
    # A child of the shell that becomes the daemon, as an orphan would become one.
    os.mkfifo(server.folder / "go")
    script = f"(read line <{server.folder}/go) & exec {DAEMON} --config {server.config_path} 2>>{server.log_path}"
    server.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
                                      env=server.environment(), stdin=subprocess.DEVNULL)
    server.wait_ready()
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    daemon = int(children.read_text())

    def children_of_daemon():
        return [pid for thread in Path(f"/proc/{daemon}/task").iterdir() for pid in (thread / "children").read_text().split()]
    assert len(children_of_daemon()) == 1
    with open(server.folder / "go", "w", encoding="utf-8"):
        pass
    wait_until(lambda: not children_of_daemon(), "it to be reaped")


# ---- a path, a spool or a file that somebody has already


def second_daemon(daemons, **sections):
    other = daemons()
    for section, keys in sections.items():
        other.config[section].update(keys)
    other.write_config()
    return other


def test_the_socket_of_a_live_daemon_is_left_alone_with_69(servers, daemons):
    server = servers().start()
    for section in ("socket", "control"):
        other = second_daemon(daemons, **{section: {"path": server.config[section]["path"]}})
        done = other.run()
        assert done.returncode == 69, done.stderr
        assert str(server.config[section]["path"]) in done.stderr
    server.send({"type": "run_started", "run_id": "a"})


def test_a_stale_socket_is_replaced(servers):
    server = servers().start()
    server.kill()
    assert stat.S_ISSOCK(server.socket_path.lstat().st_mode)
    server.start()
    server.send({"type": "run_started", "run_id": "a"})


def test_a_file_or_a_link_at_the_path_is_refused_and_left(servers):
    server = servers()
    server.write_config()
    server.socket_path.write_text("precious")
    done = server.run()
    assert done.returncode in (69, 78), done.stderr
    assert str(server.socket_path) in done.stderr
    assert server.socket_path.read_text() == "precious"
    server.socket_path.unlink()
    target = server.folder / "elsewhere.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(target))
    server.socket_path.symlink_to(target)
    done = server.run()
    assert done.returncode in (69, 78), done.stderr
    assert server.socket_path.is_symlink()
    assert target.exists()


def test_a_spool_that_another_daemon_holds_is_69(servers, daemons):
    server = servers().start()
    done = second_daemon(daemons, spool={"path": server.config["spool"]["path"]}).run()
    assert done.returncode == 69, done.stderr
    assert str(server.spool_path) in done.stderr


def test_a_sqlite_file_that_another_daemon_holds_is_69(servers, daemons):
    server = servers().start()
    done = second_daemon(daemons, database={"url": server.database_url}).run()
    assert done.returncode == 69, done.stderr
    assert "run-recorder.db" in done.stderr


@pytest.mark.parametrize("umask", (0o000, 0o077), ids=oct)
def test_sockets_have_their_mode_whatever_the_umask(servers, umask):
    server = servers({"socket": {"mode": "0660"}, "control": {"mode": "0600"}})
    before = os.umask(umask)
    try:
        server.start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o660
    assert stat.S_IMODE(server.control_path.stat().st_mode) == 0o600


# ---- a damaged spool
#
# Segments are written ahead with zeros; lib/spool/FORMAT.md says what each kind of damage means.


def backlog(servers):
    """A daemon that was killed with 100 events in its spool, and the bytes of the segment that has them."""
    server = servers().start()
    with server.database.away():
        server.send(*[{"type": "run_started", "run_id": f"r{number:03}"} for number in range(100)])
        server.kill()
    segment = max(server.spool_path.glob("*.seg"), key=lambda path: len(path.read_bytes().rstrip(b"\0")))
    return server, segment, segment.read_bytes().rstrip(b"\0")


def test_a_torn_tail_is_cut_counted_and_logged(servers):
    server, segment, data = backlog(servers)
    with open(segment, "r+b") as file:
        file.seek(len(data))
        file.write(data[64:104] + b"half a record")
    mark = len(server.log())
    server.start()
    server.wait_for_log(r"(?i)torn", after=mark)
    server.wait_applied()
    assert sorted(server.database.runs()) == [f"r{number:03}" for number in range(100)]
    assert list(server.spool_path.glob("*.torn"))
    server.check_ledger()


def test_damage_in_the_middle_is_set_aside_and_never_skipped_silently(servers):
    server, segment, data = backlog(servers)
    with open(segment, "r+b") as file:
        file.seek(len(data) // 2)
        file.write(bytes([data[len(data) // 2] ^ 0xFF]))
    mark = len(server.log())
    server.start()
    server.wait_for_log(r"(?i)damage", after=mark)
    server.wait_applied()
    found = sorted(server.database.runs())
    assert len(found) == 99
    assert (found[0], found[-1]) == ("r000", "r099")
    assert list((server.spool_path / "set-aside").iterdir())
    server.check_ledger()


# ---- while the tables are made, whoever looks is told so, and never that a table is missing


def check_first_start(server, release):
    """Looks while somebody holds the migrations up, then lets them go on."""
    passes = []
    asked = threading.Thread(target=lambda: passes.append(server.control.post("/v1/reconcile", {})))
    asked.start()
    answer = server.control.get("/v1/runs")
    listed = server.tool("list")
    assert (answer.status, answer.json["error"]["code"]) == (503, "unavailable"), answer
    assert (listed.returncode, listed.stdout) == (69, ""), listed.stderr
    if server.status()["database"]["state"] == "connecting":  # so it was before; else it has given up for this time
        for text in (answer.text, listed.stderr):
            assert "the database is being migrated" in text
    release()
    asked.join(DEADLINE_S)
    assert len(passes) == 1
    assert not re.search("no such table|has no tables|does not exist", passes[0].text)
    server.send({"type": "run_started", "run_id": "r1"})
    server.wait_applied()
    assert "r1" in server.tool("list", "--json").stdout


def test_a_first_start_is_reported_until_the_tables_exist_in_sqlite(servers, at_end):
    server = servers()
    other = sqlite3.connect(server.sqlite_path, isolation_level=None)
    at_end(other.close)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    server.start()
    check_first_start(server, lambda: other.execute("ROLLBACK"))


@on_postgres
def test_a_first_start_is_reported_until_the_tables_exist_in_postgresql(servers, cluster, at_end):
    server = servers()
    other = cluster.session(server.database.name)
    at_end(other.communicate)
    other.stdin.write("BEGIN; CREATE TABLE council_ex_runs (); SELECT 'held';\n")
    other.stdin.flush()
    assert other.stdout.readline() == "held\n"
    server.start()

    def release():
        # By now it has given up once, and says what it waits for.
        wait_until(lambda: server.status()["database"]["state"] == "away", "the daemon gives up")
        assert "the tables are being made, which waits for another session" in server.tool("list").stderr
        other.stdin.write("ROLLBACK;\n")
        other.stdin.flush()
    check_first_start(server, release)


# ---- SQLite's -wal holds what was committed last; deleted under the daemon, it is noticed, and nothing is lost


@pytest.fixture
def server(servers):
    return servers().start().wait_boot_pass()


@pytest.fixture
def wal(server):
    return Path(f"{server.sqlite_path}-wal")


def send_runs(server, first, last):
    server.send(*({"type": "run_started", "run_id": f"r{number:03}"} for number in range(first, last)))


def check_nothing_is_lost(server, count):
    status = server.wait_applied()
    assert (status["applied"], status["duplicate"], status["forgotten"]) == (count, 0, 0), server.log()
    listed = wait_until(lambda: (done := server.tool("list", "--json", "--all")).returncode == 0 and done.stdout,
                        "runs to be listed again")
    assert listed.count("\n") == count
    away = [line for line in server.log_lines("error") if "the database is away" in line]
    assert len(away) == 1, server.log()
    assert "its -wal was deleted or replaced" in away[0]
    server.wait_for_log("the database is back")
    assert server.stop() == 0
    assert server.database.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert len(server.database.runs()) == count
    server.start()
    assert server.wait_applied()["forgotten"] == 0


def test_a_deleted_wal_is_noticed_by_the_next_event(server, wal):
    send_runs(server, 0, 50)
    server.wait_applied()
    wal.unlink()
    send_runs(server, 50, 100)
    check_nothing_is_lost(server, 100)


def test_a_deleted_wal_is_noticed_by_a_read(server, wal):
    send_runs(server, 0, 50)
    server.wait_applied()
    wal.unlink()
    server.control.get("/v1/runs")
    server.wait_for_log("its -wal was deleted or replaced")
    check_nothing_is_lost(server, 50)


def test_a_deleted_wal_is_noticed_by_an_idle_daemon(server, wal):
    send_runs(server, 0, 50)
    server.wait_applied()
    wal.unlink()
    server.wait_for_log("its -wal was deleted or replaced")
    check_nothing_is_lost(server, 50)


# ---- a database that cannot be used counts as away, is said loudly, and --check names the reason with 78


def check_refused(server, words):
    done = server.run("--check")
    assert done.returncode == 78, done.stdout + done.stderr
    assert re.search(words, done.stdout + done.stderr)
    server.start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_for_log(words)
    assert server.check_ledger()["waiting"] == 1
    assert server.control.get("/v1/runs").status == 503


@on_postgres
def test_a_runs_table_without_a_needed_column_is_refused(servers):
    server = servers()
    server.database.execute("CREATE TABLE council_ex_runs (run_id varchar(255) PRIMARY KEY, status varchar(255))")
    check_refused(server, "council")


@on_postgres
def test_migrate_false_only_verifies(servers):
    server = servers({"database": {"migrate": False}})
    check_refused(server, "(?i)migrat|missing")
    assert server.database.rows("SELECT 1 FROM pg_tables WHERE tablename LIKE 'council%'") == []
    assert server.run("--migrate").returncode == 0
    assert server.wait_applied()["applied"] == 1


@on_postgres
def test_a_role_that_may_not_create_tables_is_refused(servers, cluster):
    server = servers()
    cluster.sql("postgres", "DROP ROLE IF EXISTS nobody_special; CREATE ROLE nobody_special LOGIN")
    server.config["database"]["url"] = cluster.url(server.database.name, "nobody_special")
    check_refused(server, "(?i)permission|denied")


@on_postgres
def test_a_wrong_name_of_the_database_keeps_serving(daemons, cluster):
    server = daemons(cluster.url("not_there")).start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_for_log("not_there")
    assert server.check_ledger()["waiting"] == 1


@on_postgres
def test_councilex_s_own_runs_table_is_taken_over(servers):
    server = servers()
    server.database.execute("""
            CREATE TABLE council_ex_runs (
              run_id varchar(255) PRIMARY KEY, council varchar(255) NOT NULL, status varchar(255) NOT NULL, attempt integer,
              parent_attempt_run_id varchar(255), oban_job_id bigint, oban_job_state_at_finalize varchar(255),
              input jsonb, result jsonb, error jsonb, started_at timestamp, finalized_at timestamp,
              inserted_at timestamp NOT NULL, updated_at timestamp NOT NULL);
            INSERT INTO council_ex_runs (run_id, council, status, attempt, started_at, inserted_at, updated_at)
            VALUES ('old', 'Billing', 'running', 1, now() - interval '1 day', now() - interval '1 day', now())""")
    server.env["TZ"] = "Asia/Tokyo"
    server.start()
    server.send({"type": "run_completed", "run_id": "old", "result": {"x": 1}, "at": "2026-05-06T07:08:09+02:00"},
                {"type": "run_started", "run_id": "new", "council": "C", "at": "2026-05-06T07:08:09+02:00"})
    server.wait_applied()
    rows = server.database.runs()
    assert (rows["old"]["status"], rows["old"]["council"]) == ("completed", "Billing")
    assert rows["old"]["finalized_at"] == "2026-05-06T05:08:09"
    assert rows["new"]["started_at"] == "2026-05-06T05:08:09"
    types = {row["column_name"]: row["data_type"] for row in server.database.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'council_ex_runs'")}
    assert types["started_at"] == "timestamp without time zone"


@on_postgres
def test_ten_daemons_start_on_an_empty_database_at_once(daemons, postgres_database):
    database = postgres_database()
    servers = [daemons(database.url) for _ in range(10)]
    for server in servers:
        server.write_config()
        server.spawn()
    for number, server in enumerate(servers):
        server.wait_ready()
        server.send({"type": "run_started", "run_id": f"r{number}"})
    for server in servers:
        server.wait_applied()
    assert len(database.runs()) == 10


@on_postgres
def test_passwords_are_never_shown(daemons, cluster):
    server = daemons(cluster.url("not_there").replace("postgres@", "postgres:s3cret-word@"))
    server.start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_for_log("not_there")
    texts = [server.log(), server.control.get("/v1/status").text,
             Path(f"/proc/{server.process.pid}/cmdline").read_text(), server.run("--check").stderr]
    for text in texts:
        assert "s3cret-word" not in text


# ---- standard error is a pipe whose reader stands still


DROPPED = r"log lines were dropped here.* count=(\d+)"


def start_unread(servers, at_end, config):
    server = servers(config)
    pipe = StandingPipe().fill()
    at_end(pipe.close)
    server.stderr = pipe.write
    return server.start().wait_boot_pass(), pipe


def test_nothing_waits_for_an_unread_log_and_lost_lines_are_counted(servers, at_end):
    server, pipe = start_unread(servers, at_end, {"reconcile": {"grace": "1ms", "interval": "0s", "log_rows": 100_000}})
    lines = "".join(json.dumps({"type": "run_started", "run_id": f"r{number}", "council": "c"}) + "\n"
                    for number in range(2_000))
    server.tool("emit", "--no-worker-pid", input=lines)
    server.wait_applied()
    assert server.control.reconcile(unvouched=True)["marked"] == 2_000  # a line for each
    server.send({"type": "run_started", "run_id": "after"})
    server.wait_applied()
    assert server.control.run("after")["status"] == "running"
    assert server.control.reconcile()["marked"] == 0
    server.signal(signal.SIGHUP)
    wait_until(lambda: "the log is not read" in server.status()["status"], "the status to say it")
    dropped = server.status()["log_lines_dropped"]
    assert dropped > 0
    assert f"run_recorder_log_lines_dropped_total {dropped}\n" in server.control.get("/metrics").text

    def said():
        return sum(int(count) for count in re.findall(DROPPED, pipe.read()))
    wait_until(lambda: said() == server.status()["log_lines_dropped"], "what was lost to be said")
    assert pipe.text.count("run is stuck") > 0
    assert pipe.text.count("run is stuck") < 2_000
    wait_until(lambda: "the log is not read" not in server.status()["status"], "the log to be as before")
    assert server.stop() == 0
    assert "stopped, everything is applied" in pipe.read()


def test_sigterm_ends_a_drain_whose_log_is_not_read(daemons, at_end):
    server = daemons("postgresql://nobody@127.0.0.1:1/none", {"daemon": {"shutdown_timeout": "60s"}})
    pipe = StandingPipe().fill()
    at_end(pipe.close)
    server.stderr = pipe.write
    server.write_config()
    server.spawn("--drain")

    def under_way():
        names = set()
        for path in Path(f"/proc/{server.process.pid}/task").glob("*/comm"):
            try:
                names.add(path.read_text().strip())
            except OSError:
                pass  # a thread that has ended
        return {"signals", "log", "recorder"} <= names
    wait_until(under_way, "the drain to be under way")
    server.signal(signal.SIGTERM)
    assert server.wait() == 69


def test_sigterm_ends_a_daemon_whose_log_is_not_read(servers, at_end):
    server, _ = start_unread(servers, at_end, {})
    server.send({"type": "run_started", "run_id": "r"})
    assert server.stop() == 0


# ---- a service manager

def notify_socket(server, at_end):
    """The path and the socket on which a service manager hears of this daemon."""
    path = str(server.folder / "notify.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    at_end(listener.close)
    listener.bind(path)
    listener.setblocking(False)
    server.env["NOTIFY_SOCKET"] = path
    return path, listener


def test_a_service_manager_that_does_not_read_holds_nothing_up(servers, at_end):
    server = servers()
    path, listener = notify_socket(server, at_end)
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    at_end(filler.close)
    filler.setblocking(False)
    filled = 0
    try:
        while True:
            filler.sendto(b"FILLER=1", path)
            filled += 1
    except BlockingIOError:
        pass
    server.start()
    server.send({"type": "run_started", "run_id": "r1"})
    mark = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log("reloaded", after=mark)
    received = []

    def receives_what_it_missed():
        try:
            received.append(listener.recv(4096).decode())
        except BlockingIOError:
            pass
        return sum("READY=1" in message for message in received) == 2 and any("RELOADING=1" in message for message in received)
    wait_until(receives_what_it_missed, "the messages it had no room for to come again")
    assert received[:filled] == ["FILLER=1"] * filled
    assert server.stop() == 0


def test_systemd_is_notified_of_ready_reloading_and_stopping(servers, at_end):
    server = servers()
    _, listener = notify_socket(server, at_end)
    received = []

    def receives(word):
        def look():
            try:
                received.append(listener.recv(4096).decode())
            except BlockingIOError:
                pass
            return any(word in message for message in received)
        wait_until(look, f"{word} on the notify socket, received {received}")
    server.start()
    receives("READY=1")
    received.clear()
    server.signal(signal.SIGHUP)
    receives("RELOADING=1")
    receives("READY=1")
    server.signal(signal.SIGTERM)
    receives("STOPPING=1")
    assert server.wait() == 0
