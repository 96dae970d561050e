"""The walk: every command of DOCUMENTS, in the situation in which a reader types it. A command that is added to one of them is a Step
more here, or has its reason in NOT_TYPED."""

import walk_situations as now
from walk import Situation, Step
from walk_situations import DEVELOPER, OPERATOR, URL, WORKER

DOCUMENTS = ("README.md", "docs/operations.md", "docs/tasks.md")
# How the paragraphs of code blocks begin that are no commands.
TEXTS = {
    "ingesting; ": "what `watch` shows",
    "[retention": "configuration",
    "[expect.": "configuration",
    "2026-11-23T": "a log",
    "30 2 * * * ": "a crontab, which is typed into an editor",
    "RUN       NAME ": "what `list` shows",
    "GRANT USAGE ": "SQL, which is pasted into psql",
    "FROM scratch": "a Dockerfile",
    "/etc/run-recorder/run-recorder.toml:21: ": "an error",
    "the database forgot commits": "a log",
    "from run_recorder import run": "a program in Python",
    "with run(": "a program in Python",
}
NOT_TYPED = {
    "./dev demo": "builds the programs; process.demo has it",
    "./dev test": "builds the programs; .ci/run has it",
    "./dev package": "builds the programs; the package here was made the same way",
    "./dev package --release bookworm": "builds the programs; the packages here were made so, or the same way",
    "./dev package --release trixie": "builds the programs; the packages here were made so, or the same way",
    "./dev static": "builds the tool; .ci/run has it",
    "docker build -t run-recorder .": "no container engine",
    "docker build --target tool -t run-recorder-tool .": "no container engine",
    "docker run -d --read-only --cap-drop ALL --pid host -v /run/run-recorder:/run/run-recorder \\\n"
    "  -v run-recorder:/var/lib/run-recorder -v /etc/machine-id:/etc/machine-id:ro run-recorder": "no container engine",
    "docker compose up -d": "no container engine",
    "docker compose exec run-recorder run-recorder list": "no container engine",
    "cd docs/examples": "goes with docker compose",
    "kubectl apply -f daemonset.yaml": "no Kubernetes",
    "kubectl create configmap worker --from-file=../worker.py": "no Kubernetes",
    "kubectl create configmap run-recorder-python --from-file=/usr/share/run-recorder/clients/python/run_recorder": "no Kubernetes",
    "kubectl apply -f worker.yaml": "no Kubernetes",
    "kubectl -n run-recorder exec ds/run-recorder -- run-recorder list": "no Kubernetes",
    "docker stop": "named only, as the same as SIGTERM",
    "run-recorder exec": "named only; with arguments it is typed",
    "run-recorder emit": "named only; with arguments it is typed",
    "run-recorder import": "named only; with arguments it is typed",
    "run-recorder prune": "named only; with arguments it is typed",
    "run-recorderd accepts events": "a line of the log",
}

FROM_THE_SOURCE = (
    Situation(now.a_clone_of_the_source),
    Step("./dev help", DEVELOPER, "usage: ./dev COMMAND", folder="run-recorder"),
    Step("RUNTIME_DIRECTORY=/tmp/rr STATE_DIRECTORY=/tmp/rr build/bin/run-recorderd &", DEVELOPER, folder="run-recorder"),
    Situation(now.the_daemon_of_the_source_listens),
    Step("""echo '{"type":"run_started","run_id":"r1","council":"demo"}' | socat -t5 - UNIX-CONNECT:/tmp/rr/events.sock""", DEVELOPER,
         r'^\{"acked":1\}$'),
    Situation(now.the_daemon_of_the_source_has_applied_it),
    Step("build/bin/run-recorder --control /tmp/rr/control.sock list", DEVELOPER, r"(?m)^r1 +demo +running ", folder="run-recorder"),
    Step("./dev package && sudo apt install ./build/run-recorder_*_amd64.deb", DEVELOPER, "Setting up run-recorder",
         put={"./dev package": "true"}, folder="run-recorder"),
    Step("systemctl status run-recorder", DEVELOPER, "Status: .ingesting; 0 in spool"),
    Step("journalctl -u run-recorder", see="run-recorderd accepts events"),

    Situation(now.two_users),
    Step("usermod --append --groups run-recorder WORKERS_USER"),
    Step("usermod --append --groups run-recorder-admin OPERATORS_USER"),
    Step("run-recorder exec --council nightly-backup ./backup.sh", WORKER, "^saving$"),
    Situation(now.a_short_grace),
    Situation(now.a_job_killed_with_its_wrapper),
    Step("run-recorder list", OPERATOR, r"(?s)resize-images +stuck +process_gone .*nightly-backup +completed "),
    Step("run-recorder show 01a227dd-7f95", OPERATOR, r"because +process_gone", put={"01a227dd-7f95": now.stuck_run}),
    Step("run-recorder watch", OPERATOR, "ingesting; 0 in spool", keys="q"),
    Step("run-recorder explain RUN", OPERATOR, "process_gone", put={"RUN": now.stuck_run}),
    Step("run-recorder status", OPERATOR, "applied"),
    Step("run-recorderd --check", see="(?s)configuration +fine: .*database +fine: .*queue +.*spool +fine: "),
)

SERVICE = (
    Situation(now.a_package_in_roots_build_folder),
    Step("apt install ./build/run-recorder_*_amd64.deb", see="Setting up run-recorder", folder="run-recorder"),
    Situation(now.two_users),
    Step("usermod --append --groups run-recorder WORKERS_USER"),
    Step("usermod --append --groups run-recorder-admin OPERATORS_USER"),
    Step("systemctl status run-recorder", WORKER, "ingesting; 0 in spool"),
    Step("run-recorderd --check"),
    Step("run-recorder admin check", see="database +fine"),

    Situation(now.a_short_grace),
    Step("systemctl reload run-recorder"),
    Situation(now.a_mistake_in_the_configuration),
    Step("run-recorderd --check-config", see="interval.*soon", status=78),
    Step("systemctl reload run-recorder", status=1),
    Situation(now.the_daemon_was_asked_all_the_same),
    Step("systemctl status run-recorder", see="reload refused: "),
    Situation(now.the_mistake_is_mended),
    Step("systemctl restart run-recorder"),

    Step("systemctl stop run-recorder.socket run-recorder.service"),
    Step("run-recorder status", OPERATOR, "the daemon is away", status=69),
    Step("run-recorder exec --council nightly-backup ./backup.sh", WORKER, "saving"),
    Situation(now.it_is_started_again),
    Step("run-recorder emit < FILE", WORKER, put={"FILE": now.unsent_events}),
    Step("run-recorder list", OPERATOR, r"nightly-backup +completed "),

    Step("run-recorder admin", see="check, drain, migrate, move, restore", status=2),
    Step("run-recorder admin migrate", see="in use by another run-recorderd", status=69),
    Step("run-recorder admin drain", see="the spool is empty"),
    Step("run-recorder admin migrate", see="the schema is at version"),
    Step("run-recorderd --print", see="CREATE TABLE"),
    Step("run-recorderd --migrate", see="the schema is at version"),
    Situation(now.it_is_started_again),

    Situation(now.a_folder_for_backups),
    Step('sqlite3 /var/lib/run-recorder/run-recorder.db ".backup /backup/run-recorder.db"'),
    Step("run-recorder admin restore /backup/run-recorder.db", see="the service runs again"),
    Step("run-recorder admin restore FILE", see="the service runs again", put={"FILE": "/backup/run-recorder.db"}),

    Step("run-recorder export", OPERATOR, r'(?m)^\{"run":.*"nightly-backup"'),
    Step("run-recorder export --cursor CURSOR", OPERATOR, r'(?m)^\{"run":.*"nightly-backup"', put={"CURSOR": now.cursor_of_an_export}),
    Situation(now.another_daemon),
    Step("run-recorder --control /run/old/control.sock export > runs.ndjson"),
    Step("""grep -v '^{"recorder"' runs.ndjson""", see="(?s)^.*from-the-old-one"),
    Step("run-recorder import < runs.ndjson", see="1 run"),

    Situation(now.a_run_of_last_year),
    Step("run-recorder prune --dry-run", OPERATOR, "nothing was removed; --older-than names an age"),
    Step("run-recorder prune --older-than 30d", OPERATOR, "remove 1 finished run", keys="y\n"),
    Step("run-recorder prune --older-than 30d", OPERATOR, "^0 runs removed"),
    Situation(now.a_retention_of_a_day),
    Situation(now.a_run_of_last_year),
    Step("run-recorder prune --dry-run", OPERATOR, "^1 run would be removed"),

    Situation(now.a_job_killed_with_its_wrapper),
    Step("journalctl -u run-recorder RUN_ID=…", see="run is stuck", put={"…": now.stuck_run}),
    Step("run-recorder show RUN", OPERATOR, "process [0-9]+ has ended", put={"RUN": now.stuck_run}),
    Step("run-recorder reconcile --dry-run", OPERATOR, "examined"),
    Step("run-recorder reconcile --undo PASS", OPERATOR, "1 ", put={"PASS": now.pass_that_marked}),
    Step("run-recorder explain RUN", OPERATOR, "running", put={"RUN": now.stuck_run}),
    Step("run-recorder reconcile --force", OPERATOR, "examined"),

    Situation(now.events_that_the_database_refuses),
    Step("run-recorder dead-letters list", OPERATOR, "no poison"),
    Step("run-recorder dead-letters show 7", OPERATOR, "no poison", put={"7": now.letter_of("mended")}),
    Situation(now.the_cause_is_removed),
    Step("run-recorder dead-letters retry 7", OPERATOR, put={"7": now.letter_of("mended")}),
    Step("run-recorder dead-letters delete 7", OPERATOR, put={"7": now.letter_of("given-up")}),
    Step("run-recorder list", OPERATOR, r"(?m)^mended +poison +running"),

    Step("run-recorder status", OPERATOR),
    Step("run-recorder doctor"),
    Step("run-recorder doctor", OPERATOR, "become a member: usermod -aG run-recorder", status=1),
    Step("run-recorder spool status"),
)

POSTGRESQL_AND_REMOVAL = (
    Situation(now.a_service_and_its_users),
    Step("run-recorder exec --council nightly-backup ./backup.sh", WORKER, "^saving$"),
    Situation(now.a_postgresql_at_db_example),
    Step("run-recorder admin move --to postgresql://recorder@db.example/app", see=URL),
    Situation(now.the_url_is_in_the_configuration),
    Step("run-recorder list", OPERATOR, "nightly-backup +completed"),
    Step("run-recorderd --check", see=f"database +fine: {URL}, schema version"),
    Step("run-recorder admin check", see=f"database +fine: {URL}, schema version"),
    Step("run-recorderd --migrate", see="the schema is at version"),
    Step("run-recorder admin migrate", see="the schema is at version"),
    Step("run-recorder doctor"),

    Situation(now.the_spool_comes_to_another_host),
    Step("run-recorderd --adopt-spool", see="stays recorder"),
    Situation(now.the_recorder_is_the_same_one),

    Step("run-recorder admin move --to URL", see=f'url = "{now.SQLITE}"', put={"URL": now.SQLITE}),
    Situation(now.that_url_is_in_the_configuration),
    Step("run-recorder list", OPERATOR, "nightly-backup +completed"),

    Step("apt remove run-recorder", see="Removing run-recorder", stdin="y\n"),
    Step("apt purge run-recorder", see="Purging configuration files for run-recorder", stdin="y\n"),
    Situation(now.nothing_of_it_is_left),
    Step("install -d -o 10001 -g 10001 /run/run-recorder"),
    Situation(now.the_folder_is_the_containers),
)

CRON_AND_TIMERS = (
    Situation(now.a_service_and_its_users),
    Situation(now.alice_and_her_crontab),
    Step("usermod --append --groups run-recorder alice"),
    Step("crontab -u alice -e", see="installing new crontab"),
    Situation(now.cron_has_run_both_jobs),
    Step("run-recorder list", see="(?s)(?=.*nightly-backup +completed)(?=.*report +failed +exited with status 1)"),
    Step("run-recorder logs RUN", see="^saving$", put={"RUN": now.nightly_backup}),

    Situation(now.a_service_that_is_there_already),
    Step("mkdir -p /etc/systemd/system/backup.service.d"),
    Step("""cat >/etc/systemd/system/backup.service.d/run-recorder.conf <<'END'
[Unit]
Wants=run-recorder.socket
After=run-recorder.socket run-recorder.service

[Service]
SupplementaryGroups=run-recorder
ExecStart=
ExecStart=/usr/bin/run-recorder exec --council %N -- /usr/local/bin/backup
END"""),
    Step("systemctl daemon-reload"),
    Step("systemctl start backup.service"),
    Step("run-recorder list --council backup", see=r"(?m) backup +completed "),
)

OBAN = (
    Situation(now.a_service_and_its_users),
    Situation(now.a_database_with_jobs_of_oban),
    Step("runuser -u postgres -- createuser run-recorder"),
    Step("""runuser -u postgres -- psql -d app -c 'GRANT CREATE ON SCHEMA public TO "run-recorder"' \\
  -c 'GRANT SELECT ON oban_jobs TO "run-recorder"'""", see="(?s)GRANT.*GRANT"),
    Step(r"""sed -i -e '/^\[database\]/a url = "postgresql:///app"' -e 's/^#kind = "none"/kind = "oban"/' """
         "/etc/run-recorder/run-recorder.toml"),
    Step("systemctl restart run-recorder"),
    Step("run-recorder emit --type run_started --run-id order-102 --council Shop.ImportOrders --oban-job-id 102 --attempt 1", WORKER),
    Situation(now.the_job_was_rescued),
    Step("run-recorder list", see="order-102 +Shop.ImportOrders +stuck +queue_not_executing .* 102"),
)

ONE_OF_SEVERAL_HOSTS = (
    Situation(now.a_package_in_roots_folder),
    Situation(now.a_postgresql_at_db_example),
    Step("apt install ./run-recorder_*_amd64.deb", see="Setting up run-recorder"),
    Step("install -d -m 700 /etc/credstore"),
    Step("(umask 077; cat >/etc/credstore/run-recorder.database-password)", stdin="s3cret\n"),
    Step(r"""sed -i '/^\[database\]/a url = "postgresql://recorder@db.example/app"' /etc/run-recorder/run-recorder.toml"""),
    Step("systemctl restart run-recorder"),
    Situation(now.a_run_here),
    Step("run-recorder list", see=r"(?m)^here +demo +completed"),
    Step("run-recorder list --host 'web*' --columns run,name,status,host,unit,user", see=r"(?m)^here +demo +completed +\S",
         put={"web*": now.host_name}),
    Step("run-recorder show RUN", see=r"(?m)^host +\S", put={"RUN": "here"}),
    Step("runuser -u postgres -- psql -d app -c 'SELECT host, version, last_seen FROM council_ex_recorders'",
         see="(?s)host .* version .*1 row"),
)

A_POSTGRESQL_ON_THIS_HOST = (
    Situation(now.a_service_and_its_users),
    Step("run-recorder exec --council nightly-backup ./backup.sh", WORKER, "^saving$"),
    Step("apt install postgresql", see="postgresql is already the newest version"),
    Step("runuser -u postgres -- createuser run-recorder"),
    Step("runuser -u postgres -- createdb --owner=run-recorder runs"),
    Step(r"""sed -i '/^\[database\]/a url = "postgresql:///runs"' /etc/run-recorder/run-recorder.toml"""),
    Step("systemctl restart run-recorder"),
    Situation(now.everything_is_applied),
    Step("runuser -u run-recorder -- psql -d runs -c 'SELECT council, status, started_at FROM council_ex_runs'",
         see=r"nightly-backup \| completed \| 20"),

    Situation(now.a_database_of_somebody_elses),
    Step("run-recorderd --print | runuser -u postgres -- psql -d app -v ON_ERROR_STOP=1 -c 'SET ROLE app' -f -",
         see="CREATE TABLE"),
    Step("psql -d app", "app", "GRANT", stdin=now.documented("GRANT USAGE ")),
    Situation(now.that_database_is_configured_without_migrations),
    Step("run-recorder exec --council nightly-backup ./backup.sh", WORKER, "^saving$"),
    Step("run-recorderd --check", see="database +fine: postgresql:///app, schema version"),
    Step("run-recorder list", see="nightly-backup +completed"),
)

CHAPTERS = {
    "From the source to a service": FROM_THE_SOURCE,
    "A service on SQLite": SERVICE,
    "PostgreSQL, and removal": POSTGRESQL_AND_REMOVAL,
    "Cron and timers": CRON_AND_TIMERS,
    "Oban": OBAN,
    "One of several hosts": ONE_OF_SEVERAL_HOSTS,
    "A PostgreSQL on this host": A_POSTGRESQL_ON_THIS_HOST,
}
