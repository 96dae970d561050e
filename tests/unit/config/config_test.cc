#include "config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "base/account.h"
#include "base/file.h"
#include "config/config_table.h"
#include "support/temp_folder.h"

namespace run_recorder {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using testing::StartsWith;

constexpr uid_t kNobody = 65'534;

// Sources without a file, as root.
ConfigSources bare() {
  ConfigSources sources;
  sources.default_file = "/nonexistent/run-recorder.toml";
  return sources;
}

class ConfigTest : public testing::Test {
 protected:
  ConfigSources with_file(const std::string& content) {
    ConfigSources sources = bare();
    file_ = folder_.write("c.toml", content);
    sources.default_file = file_;
    return sources;
  }

  Config load(const std::string& content) {
    const LoadedConfig loaded = load_config(with_file(content));
    EXPECT_TRUE(loaded) << loaded.error().text();
    return loaded ? *loaded : Config{};
  }

  // The mistakes, with the file's path shortened to F.
  std::vector<std::string> mistakes(const ConfigSources& sources) {
    std::vector<std::string> texts;
    const LoadedConfig loaded = load_config(sources);
    if (loaded) return texts;
    for (const ConfigProblem& problem : loaded.error().all) {
      std::string text = problem.text();
      for (std::size_t at = text.find(file_); !file_.empty() && at != std::string::npos; at = text.find(file_)) {
        text.replace(at, file_.size(), "F");
      }
      texts.push_back(text);
    }
    return texts;
  }
  std::vector<std::string> mistakes(const std::string& content) { return mistakes(with_file(content)); }

  const TempFolder folder_;
  std::string file_;
};

TEST_F(ConfigTest, HasDefaultsWithoutAnySource) {
  const Config config = load_config(bare()).value();
  EXPECT_EQ(config.database.url, "sqlite:/var/lib/run-recorder/run-recorder.db");
  EXPECT_EQ(config.socket.path, "/run/run-recorder/events.sock");
  EXPECT_EQ(config.socket.mode, 0660U);
  EXPECT_FALSE(config.socket.path_given);
  EXPECT_EQ(config.control.path, "/run/run-recorder/control.sock");
  EXPECT_EQ(config.spool.path, "/var/lib/run-recorder/spool");
  EXPECT_EQ(config.spool.max_bytes, 1ULL << 30);
  EXPECT_EQ(config.limits.line_bytes, 1ULL << 20);
  EXPECT_THAT(config.events.exclude, ElementsAre("member_token"));
  EXPECT_EQ(config.queue.kind, QueueKind::kNone);
  EXPECT_EQ(config.file, "");
}

TEST_F(ConfigTest, ReadsEveryTypeFromTheFile) {
  const Config config = load(R"(
[database]
url = "postgresql://u@h1,h2:5433/d"
table_prefix = ""
migrate = false
[socket]
path = "x.sock"
mode = "0600"
allow_users = ["root", "0"]
[control]
mode = 0o640
[spool]
max_bytes = "2GiB"
min_free = "0B"
[limits]
line_bytes = "64MiB"
depth = 512
[events]
include = ["step.done"]
[reconcile]
grace = "1m30s"
interval = "0s"
max_stuck = 10
[reconcile.queue]
kind = "oban"
url = "sqlite:q.db"
table = "jobs.oban_jobs"
[log]
level = "debug"
format = "json"
[daemon]
host = "node 1"
[metrics]
listen = "[::1]:9100"
)");
  EXPECT_EQ(config.file, file_);
  EXPECT_EQ(config.database.url, "postgresql://u@h1,h2:5433/d");
  EXPECT_EQ(config.database.table_prefix, "");
  EXPECT_FALSE(config.database.migrate);
  EXPECT_EQ(config.socket.path, "x.sock");
  EXPECT_TRUE(config.socket.path_given);
  EXPECT_EQ(config.socket.mode, 0600U);
  EXPECT_THAT(config.socket.allow_users, ElementsAre("root", "0"));
  EXPECT_EQ(config.control.mode, 0640U);
  EXPECT_EQ(config.spool.max_bytes, 2ULL << 30);
  EXPECT_EQ(config.spool.min_free, 0U);
  EXPECT_EQ(config.limits.line_bytes, 64ULL << 20);
  EXPECT_EQ(config.limits.depth, 512U);
  EXPECT_THAT(config.events.include, ElementsAre("step.done"));
  EXPECT_THAT(config.events.exclude, IsEmpty());
  EXPECT_EQ(config.reconcile.grace, milliseconds(90'000));
  EXPECT_EQ(config.reconcile.interval, milliseconds(0));
  EXPECT_EQ(config.reconcile.max_stuck, 10U);
  EXPECT_EQ(config.queue.kind, QueueKind::kOban);
  EXPECT_EQ(config.connection_url_of(config.queue), "sqlite:q.db");
  EXPECT_EQ(config.queue.table, "jobs.oban_jobs");
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  EXPECT_EQ(config.log.format, LogFormat::kJson);
  EXPECT_EQ(config.daemon.host, "node 1");
  EXPECT_EQ(config.metrics.listen, "[::1]:9100");
}

TEST_F(ConfigTest, EveryKeyCanBeSetByFlagVariableAndFileInThisOrder) {
  ConfigSources sources = with_file("[limits]\ndepth = 10\nconnections = 10\nline_bytes = \"10KiB\"\n");
  sources.environment = {{"RUN_RECORDER_LIMITS_CONNECTIONS", "11"}, {"RUN_RECORDER_LIMITS_LINE_BYTES", "11KiB"}};
  sources.flags = {{"--limits-line-bytes", "12KiB"}};
  const Config config = load_config(sources).value();
  EXPECT_EQ(config.limits.depth, 10U);
  EXPECT_EQ(config.limits.connections, 11U);
  EXPECT_EQ(config.limits.line_bytes, 12ULL << 10);

  for (const ConfigKey& key : config_keys()) {
    std::string value = key.default_text();
    std::erase_if(value, [](char c) { return std::string_view("\"[]{}").find(c) != std::string_view::npos; });
    ConfigSources one = bare();
    one.for_tool = true;
    one.environment = {{key.variable(), value}};
    LoadedConfig loaded = load_config(one);
    ASSERT_TRUE(loaded) << loaded.error().text();
    EXPECT_EQ(value_text(*loaded, *find_entry(key.full_name())), key.default_text()) << key.full_name();
    one.environment.clear();
    one.flags = {{key.flag(), value}};
    loaded = load_config(one);
    ASSERT_TRUE(loaded) << loaded.error().text();
    EXPECT_EQ(value_text(*loaded, *find_entry(key.full_name())), key.default_text()) << key.full_name();
  }
}

TEST_F(ConfigTest, ReadsNamedQueues) {
  const Config config = load(R"([reconcile.queue]
kind = "oban"
[queues.mailers]
kind = "oban"
url = "postgresql://u:sesame@h/mail"
schema = "jobs"
clock_skew = "1m"
[queues."a.b c"]
kind = "none"
)");
  EXPECT_EQ(config.queue.clock_skew, milliseconds(10'000));
  const Config::Queue& mailers = config.queues.at("mailers");
  EXPECT_EQ(mailers.kind, QueueKind::kOban);
  EXPECT_EQ(mailers.full_table(), "jobs.oban_jobs");
  EXPECT_EQ(mailers.clock_skew, milliseconds(60'000));
  EXPECT_EQ(config.connection_url_of(mailers), "postgresql://u:sesame@h/mail");
  EXPECT_EQ(config.shown_url_of(mailers), "postgresql://u:***@h/mail");
  EXPECT_TRUE(config.file_holds_password);
  std::vector<std::string> names;
  for (const auto& [name, queue] : config.configured_queues()) names.push_back(queue_check_name(config, name));
  EXPECT_THAT(names, ElementsAre("queue default", "queue mailers")) << "one of kind none is not asked";
  const Config alone = load("[queues.default]\nkind = \"oban\"\n");
  EXPECT_EQ(queue_check_name(alone, "default"), "queue");
  EXPECT_TRUE(load("").configured_queues().empty());
}

TEST_F(ConfigTest, MistakesInQueuesAreAllNamed) {
  EXPECT_THAT(
      mistakes("[queues.a]\nkind = \"river\"\nurl = \"postgres://u:sesame%@h\"\n[queues.b]\nkint = \"oban\"\n"
               "[queues.c]\nkind = \"oban\"\nschema = \"s\"\ntable = \"t.oban_jobs\"\nclock_skew = \"25h\"\n"
               "[queues.d]\nurl = \"sqlite:x\"\n"),
      ElementsAre(AllOf(StartsWith("F:2: queues.a.kind: invalid value \"river\""), HasSubstr("\"none\" or \"oban\"")),
                  AllOf(StartsWith("F:3: queues.a.url: invalid value "), Not(HasSubstr("sesame"))),
                  StartsWith("F:5: queues.b.kint: unknown key; did you mean kind?"),
                  AllOf(StartsWith("F:10: queues.c.clock_skew: invalid value \"25h\""), HasSubstr("up to \"1d\"")),
                  StartsWith("F:4: queues.b.kind: missing"),
                  StartsWith("F:8: queues.c.schema: conflicts with a table that names its schema"),
                  StartsWith("F:11: queues.d.kind: missing")));
  EXPECT_THAT(mistakes("queues = 1\n"),
              ElementsAre(AllOf(StartsWith("F:1: queues: "), HasSubstr("[queues.mailers]"))));
  EXPECT_THAT(mistakes("[queues]\nkind = \"oban\"\n"),
              ElementsAre(AllOf(StartsWith("F:2: queues.kind: "), HasSubstr("[queues.mailers]"))));
  EXPECT_THAT(mistakes("[queues.\"\"]\nkind = \"oban\"\n"),
              ElementsAre(HasSubstr("invalid name: must be 1 to 64 bytes, has 0")));
  EXPECT_THAT(mistakes("[queues." + std::string(65, 'q') + "]\nkind = \"oban\"\n"),
              ElementsAre(HasSubstr("invalid name: must be 1 to 64 bytes, has 65")));
  EXPECT_THAT(mistakes("[queue.mailers]\nkind = \"oban\"\n"), ElementsAre(HasSubstr("unknown section")));
}

TEST_F(ConfigTest, TheDefaultQueueIsConfiguredOnce) {
  EXPECT_THAT(mistakes("[reconcile.queue]\nkind = \"oban\"\n[queues.default]\nkind = \"oban\"\n"),
              ElementsAre(AllOf(StartsWith("F:2: reconcile.queue.kind: conflicts with [queues.default] (F:3)"),
                                HasSubstr("set one of them"))));
}

TEST_F(ConfigTest, QueuesCanBeSetByFlagAndVariable) {
  ConfigSources sources = with_file("[queues.Web-Mail]\nkind = \"oban\"\nurl = \"postgresql://h/d\"\n");
  sources.environment = {{"RUN_RECORDER_QUEUES_WEB_MAIL_URL", "postgresql://u:sesame@h/d"},
                         {"RUN_RECORDER_QUEUES_NEW_KIND", "oban"},
                         {"RUN_RECORDER_QUEUES_NEW_CLOCK_SKEW", "2s"}};
  sources.flags = {{"--queues-NEW-kind", "oban"}, {"--queues-new-clock-skew", "3s"}};
  const Config config = load_config(sources).value();
  EXPECT_EQ(config.queues.size(), 3U);
  EXPECT_EQ(config.queues.at("Web-Mail").url, "postgresql://u:sesame@h/d");
  EXPECT_EQ(config.queues.at("new").clock_skew, milliseconds(3'000));
  EXPECT_EQ(config.queues.at("NEW").kind, QueueKind::kOban);

  sources = bare();
  sources.environment = {{"RUN_RECORDER_QUEUES_SERVICE_PORT_URL", "80"}};
  EXPECT_TRUE(load_config(sources).value().queues.empty()) << "a port named url of a service of Kubernetes";

  sources = bare();
  sources.environment = {{"RUN_RECORDER_QUEUES_MAILERS_KINT", "oban"}, {"RUN_RECORDER_QUEUES_URL", "x"}};
  EXPECT_THAT(mistakes(sources), testing::Each(HasSubstr("unknown variable")));
  EXPECT_EQ(mistakes(sources).size(), 2U);

  std::vector<std::string> arguments = {"--queues-a-b-url", "sqlite:x", "--queues-a-kind=oban", "--queues-kind",
                                        "list"};
  const auto flags = take_config_flags(arguments).value();
  EXPECT_THAT(flags,
              ElementsAre(testing::Pair("--queues-a-b-url", "sqlite:x"), testing::Pair("--queues-a-kind", "oban")));
  EXPECT_THAT(arguments, ElementsAre("--queues-kind", "list"));
}

TEST_F(ConfigTest, AChangedQueueNeedsARestart) {
  const Config before = load("[queues.a]\nkind = \"oban\"\n[queues.b]\nkind = \"oban\"\n");
  const Config after = load("[queues.b]\nkind = \"oban\"\ntable = \"jobs\"\n[queues.\"c.d\"]\nkind = \"oban\"\n");
  EXPECT_THAT(diff_config(before, after).need_restart,
              ElementsAre("queues.a.kind", "queues.b.table", "queues.\"c.d\".kind"));
  EXPECT_TRUE(with_reloadable(before, after).queues.contains("a")) << "a reload leaves them";
  for (const ConfigKey& key : named_section_keys())
    EXPECT_THAT(config_help(), HasSubstr("  " + key.flag() + " VALUE\n"));
}

TEST_F(ConfigTest, NamesFlagsAndVariablesBySectionAndKey) {
  std::vector<std::string> names;
  for (const ConfigKey& key : config_keys())
    names.push_back(key.full_name() + " " + key.flag() + " " + key.variable());
  EXPECT_THAT(names, testing::IsSupersetOf({
                         "database.table_prefix --database-table-prefix RUN_RECORDER_DATABASE_TABLE_PREFIX",
                         "reconcile.queue.url --reconcile-queue-url RUN_RECORDER_RECONCILE_QUEUE_URL",
                         "limits.line_bytes --limits-line-bytes RUN_RECORDER_LIMITS_LINE_BYTES",
                     }));
}

TEST_F(ConfigTest, ListsAreJoinedByCommasOutsideOfTheFile) {
  ConfigSources sources = bare();
  sources.environment = {{"RUN_RECORDER_EVENTS_EXCLUDE", " a, b.c "}};
  EXPECT_THAT(load_config(sources)->events.exclude, ElementsAre("a", "b.c"));
  sources.environment = {{"RUN_RECORDER_EVENTS_EXCLUDE", ""}};
  EXPECT_THAT(load_config(sources)->events.exclude, IsEmpty());
  sources.environment = {{"RUN_RECORDER_EVENTS_EXCLUDE", "a,,b"}};
  EXPECT_THAT(mistakes(sources),
              ElementsAre(HasSubstr("invalid value \"a,,b\": \"\" is not an event type; must be")));
}

TEST_F(ConfigTest, ReadsRetentionByStatusAndCouncil) {
  const Config config = load(R"([retention]
keep = "30d"
failed = "0s"
stuck = ""
[retention.councils]
"My.Nightly" = "1d12h"
audit = "0s"
)");
  EXPECT_EQ(config.retention.keep, std::chrono::days(30));
  EXPECT_EQ(config.retention.failed, milliseconds(0));
  EXPECT_EQ(config.retention.stuck, std::nullopt);
  EXPECT_EQ(config.retention.completed, std::nullopt);
  EXPECT_THAT(config.retention.councils, ElementsAre(testing::Pair("My.Nightly", std::chrono::hours(36)),
                                                     testing::Pair("audit", milliseconds(0))));
  EXPECT_EQ(load("[retention]\ncouncils = { a = \"1h\" }\n").retention.councils.at("a"), std::chrono::hours(1));
}

TEST_F(ConfigTest, RecordersAreKeptForAMonthAtLeastOrForEver) {
  EXPECT_EQ(load("").retention.recorders, std::chrono::days(400));
  EXPECT_EQ(load("").retention.passes, std::chrono::days(400));
  EXPECT_EQ(load("[retention]\nrecorders = \"30d\"\npasses = \"1h\"\n").retention.recorders, std::chrono::days(30));
  EXPECT_EQ(load("[retention]\nrecorders = \"0s\"\n").retention.recorders, milliseconds(0));
  EXPECT_THAT(mistakes(with_file("[retention]\nrecorders = \"29d\"\n")),
              ElementsAre(HasSubstr("must be a duration from \"30d\" on, or \"0s\" for ever")));
}

TEST_F(ConfigTest, CouncilsOfAFlagReplaceThoseOfTheFile) {
  ConfigSources sources = with_file("[retention.councils]\na = \"1d\"\n");
  sources.environment = {{"RUN_RECORDER_RETENTION_COUNCILS", "b=2d, c.d = 3d"}};
  EXPECT_THAT(load_config(sources)->retention.councils,
              ElementsAre(testing::Pair("b", std::chrono::days(2)), testing::Pair("c.d", std::chrono::days(3))));
  sources.flags = {{"--retention-councils", ""}};
  EXPECT_THAT(load_config(sources)->retention.councils, IsEmpty());
}

TEST_F(ConfigTest, MistakesInRetentionNameTheLineAndTheCouncil) {
  ConfigSources sources = with_file(R"([retention]
failed = "soon"
[retention.councils]
nightly = 30
My.Council = "30d"
fine = "30d"
)");
  EXPECT_THAT(
      mistakes(sources),
      ElementsAre(HasSubstr(":2: retention.failed: invalid value \"soon\": must be a duration"),
                  HasSubstr(":4: retention.councils: invalid value \"30\" of \"nightly\": needs a unit"),
                  HasSubstr(":5: retention.councils: invalid value (a section) of \"My\": a name with dots")));
  sources = bare();
  sources.flags = {{"--retention-councils", "nightly"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(HasSubstr("is not NAME=DURATION")));
  sources.flags = {{"--retention-councils", "nightly=30"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(HasSubstr("needs a unit")));
}

TEST_F(ConfigTest, TellsAllMistakesAtOnceEachWithItsPlace) {
  ConfigSources sources = with_file(R"([limits]
depth = 1000
conections = 5
line_bytes = 1048576
[databse]
url = "x"
[log]
level = "loud"
[database]
migrate = "yes"
table_prefix = 7
[socket]
mode = 660
allow_users = [1]
)");
  sources.environment = {{"RUN_RECORDER_LIMITS_DEPHT", "3"},
                         {"RUN_RECORDER_RECONCILE_GRACE", "30"},
                         {"RUN_RECORDER_RUN_ID", "r1"},
                         {"RUN_RECORDER", "not ours"},
                         {"PATH", "/bin"}};
  sources.flags = {{"--log-format", "xml"}, {"--spool-maxbytes", "1GiB"}, {"--limits-depth", "64"}};
  EXPECT_THAT(
      mistakes(sources),
      ElementsAre(
          "F:2: limits.depth: invalid value \"1000\": must be between 2 and 512",
          "F:3: limits.conections: unknown key; did you mean limits.connections?",
          "F:4: limits.line_bytes: invalid value \"1048576\": needs a unit; must be a size from \"1KiB\" to "
          "\"64MiB\"",
          "F:5: databse: unknown section; did you mean database?",
          "F:8: log.level: invalid value \"loud\": must be \"debug\", \"info\", \"warning\" or \"error\"",
          "F:10: database.migrate: invalid value \"yes\": must be true or false",
          AllOf(StartsWith("F:11: database.table_prefix: invalid value \"7\": must be up to 30")),
          StartsWith("F:13: socket.mode: invalid value \"660\": a decimal number; must be an octal mode"),
          StartsWith("F:14: socket.allow_users: invalid value (a list): elements must be strings; must be a list"),
          "environment RUN_RECORDER_LIMITS_DEPHT: unknown variable; did you mean RUN_RECORDER_LIMITS_DEPTH?",
          StartsWith("environment RUN_RECORDER_RECONCILE_GRACE: reconcile.grace: invalid value \"30\": needs a "
                     "unit; must be a duration"),
          "flag --log-format: log.format: invalid value \"xml\": must be \"text\" or \"json\"",
          "flag --spool-maxbytes: unknown flag; did you mean --spool-max-bytes?"));
}

TEST_F(ConfigTest, SuggestsTheSectionOfAKeyThatHasNone) {
  EXPECT_THAT(mistakes("password_file = \"x\"\n"),
              ElementsAre("F:1: password_file: unknown key; did you mean database.password_file?"));
  EXPECT_THAT(
      mistakes("[spool]\nfrobnicate = 1\n"),
      ElementsAre("F:2: spool.frobnicate: unknown key; the keys of [spool] are path, max_bytes, min_free, keep"));
  EXPECT_THAT(mistakes("[frobnicate]\n"),
              ElementsAre(HasSubstr("unknown section; the sections are database, socket")));
  EXPECT_THAT(mistakes("limits = 3\n"), ElementsAre(HasSubstr("this is a section: write [limits]")));
  EXPECT_THAT(mistakes("[limits.depth]\nx = 1\n"),
              ElementsAre(HasSubstr("limits.depth: invalid value (a section): must be")));
  EXPECT_THAT(mistakes("[[limits]]\ndepth = 3\n"), ElementsAre(HasSubstr("this is a section")));
}

TEST_F(ConfigTest, RefusesEachBadValue) {
  const std::vector<std::pair<std::string, std::string>> bad = {{"--database-url", "mysql://h"},
                                                                {"--database-url", ""},
                                                                {"--database-url", "sqlite:"},
                                                                {"--database-table-prefix", "Big"},
                                                                {"--database-table-prefix", "1a"},
                                                                {"--database-table-prefix", "a\"b"},
                                                                {"--database-table-prefix", std::string(33, 'a')},
                                                                {"--database-migrate", "1"},
                                                                {"--socket-path", ""},
                                                                {"--socket-path", std::string(108, 'a')},
                                                                {"--socket-mode", "0888"},
                                                                {"--socket-mode", "01777"},
                                                                {"--socket-mode", "66"},
                                                                {"--socket-mode", "u+rw"},
                                                                {"--socket-group", "no-such-group-here"},
                                                                {"--socket-allow-users", "no-such-user-here"},
                                                                {"--socket-allow-groups", "no-such-group-here"},
                                                                {"--control-group", "no-such-group-here"},
                                                                {"--spool-max-bytes", "1KiB"},
                                                                {"--spool-max-bytes", "1"},
                                                                {"--spool-max-bytes", "-1GiB"},
                                                                {"--spool-path", ""},
                                                                {"--spool-keep", "-1s"},
                                                                {"--spool-keep", "10000d"},
                                                                {"--limits-line-bytes", "65MiB"},
                                                                {"--limits-line-bytes", "1023B"},
                                                                {"--limits-depth", "1"},
                                                                {"--limits-depth", "513"},
                                                                {"--limits-depth", "6 4"},
                                                                {"--limits-connections", "0"},
                                                                {"--limits-connections", "100001"},
                                                                {"--limits-connections", "1e3"},
                                                                {"--events-exclude", "Upper"},
                                                                {"--events-include", std::string(65, 'a')},
                                                                {"--reconcile-grace", "5"},
                                                                {"--reconcile-silent-after", "0s"},
                                                                {"--reconcile-recorder-timeout", "0s"},
                                                                {"--reconcile-max-stuck", "-1"},
                                                                {"--reconcile-log-rows", "1000001"},
                                                                {"--reconcile-queue-kind", "river"},
                                                                {"--reconcile-queue-table", ""},
                                                                {"--reconcile-queue-table", "a.b.c"},
                                                                {"--reconcile-queue-url", "redis://h"},
                                                                {"--log-level", "INFO"},
                                                                {"--daemon-shutdown-timeout", "soon"},
                                                                {"--metrics-listen", "9100"},
                                                                {"--metrics-listen", "h:0"},
                                                                {"--metrics-listen", "metrics.example:9100"},
                                                                {"--metrics-listen", "::1:9100"},
                                                                {"--metrics-listen", "h:70000"},
                                                                {"--daemon-host", "a\nb"},
                                                                {"--daemon-host", "\xFF"},
                                                                {"--daemon-host", std::string(256, 'h')}};
  for (const auto& [flag, value] : bad) {
    ConfigSources sources = bare();
    sources.flags = {{flag, value}};
    EXPECT_THAT(mistakes(sources), ElementsAre(AllOf(StartsWith("flag " + flag + ": "), HasSubstr("invalid value "),
                                                     HasSubstr("must be "))))
        << flag << " " << value;
  }
}

TEST_F(ConfigTest, NamesAMistypedOptionOfALibpqUri) {
  EXPECT_THAT(
      mistakes("[database]\nurl = \"postgresql://u:sesame@h/d?sslmod=require\"\n"
               "[queues.a]\nkind = \"oban\"\nurl = \"postgres:///d?host=/run&target_session_attr=any\"\n"),
      ElementsAre(AllOf(StartsWith("F:2: database.url: invalid value \"postgresql://***\""),
                        HasSubstr(": unknown option \"sslmod\" (did you mean sslmode?); must be ")),
                  AllOf(StartsWith("F:5: queues.a.url: "), HasSubstr("(did you mean target_session_attrs?)"))));
  // Whether there are such is for libpq to say.
  EXPECT_THAT(load("[database]\nurl = \"postgresql:///d?service=x&of_a_later_version=y\"\n").database.url,
              HasSubstr("later"));
}

TEST_F(ConfigTest, ChecksEverySourceAlsoWhereAStrongerOneWins) {
  ConfigSources sources = with_file("[limits]\ndepth = 1\n");
  sources.flags = {{"--limits-depth", "5"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(StartsWith("F:2: limits.depth: invalid value \"1\":")));
}

TEST_F(ConfigTest, ShowsNoPasswordInAnyMistake) {
  const std::vector<std::string> files = {
      "[database]\nurl = \"mysql://u:sesame@h\"\n",
      "[database]\nurl = \"postgresql://u:ses/ame:sesame@h/d\"\n",
      "[database]\nurl = [\"postgresql://u:sesame@h/d\"]\n",
      "[database]\nurl = \"postgresql://u:sesame@h/d\n",
      "[database]\nurl = postgresql://u:sesame@h/d\n",
      "[database]\nurl = 'host=h password=sesame'\n",
      "[database]\npassword = \"sesame\"\n",
      "[database]\ntable_prefix = \"postgresql://u:sesame@h/d\"\n",
      "[database]\n\"postgresql://u:sesame@h/d\" = 1\n",
      "[log]\nlevel = \"password=sesame\"\n",
      "[reconcile.queue]\nurl = \"postgres://u:sesame%@h\"\n",
      "sesame\n",
      "a = \"\\sesame\"\n",
  };
  for (const std::string& content : files) {
    EXPECT_THAT(mistakes(content), ElementsAre(Not(HasSubstr("sesame")))) << content;
  }
  ConfigSources sources = bare();
  sources.environment = {{"RUN_RECORDER_DATABASE_URL", "u:sesame@h"}};
  sources.flags = {{"--reconcile-queue-url", "u:sesame@h"}, {"--postgres://u:sesame@h", "x"}};
  EXPECT_THAT(mistakes(sources), testing::Each(Not(HasSubstr("sesame"))));
  EXPECT_EQ(mistakes(sources).size(), 3U);
}

TEST_F(ConfigTest, NamesTheLineOfInvalidToml) {
  EXPECT_THAT(mistakes("[limits]\ndepth = 3\ndepth 4\n"),
              ElementsAre(AllOf(StartsWith("F:3: "), HasSubstr("invalid TOML"))));
  EXPECT_THAT(mistakes("[limits]\ndepth = 3\ndepth = 4\n"),
              ElementsAre(AllOf(StartsWith("F:3: "), HasSubstr("duplicate key"))));
  EXPECT_THAT(mistakes("a = \"\xff\"\n"), ElementsAre(StartsWith("F:1: ")));
  // A broken file hides no mistake of the other sources.
  ConfigSources sources = with_file("?");
  sources.flags = {{"--limits-depth", "0"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(StartsWith("F:1: "), StartsWith("flag --limits-depth")));
}

TEST_F(ConfigTest, ShortensLongAndEscapesStrangeValues) {
  ConfigSources sources = bare();
  sources.flags = {{"--log-level", std::string(500, 'x')}, {"--log-format", "a\nb\x1b"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(AllOf(HasSubstr("(500 bytes)"), Not(HasSubstr(std::string(100, 'x')))),
                                             HasSubstr(R"("a\nb\u001b")")));
}

TEST_F(ConfigTest, ANamedFileMustBeThereTheDefaultOneNeedNot) {
  EXPECT_TRUE(load_config(bare()));
  ConfigSources sources = bare();
  sources.flags = {{"--config", folder_.file("none.toml")}};
  EXPECT_THAT(mistakes(sources),
              ElementsAre(AllOf(StartsWith("flag --config: open "), HasSubstr("none.toml: No such"))));
  sources.flags.clear();
  sources.environment = {{"RUN_RECORDER_CONFIG", folder_.file("none.toml")}};
  EXPECT_THAT(mistakes(sources), ElementsAre(StartsWith("environment RUN_RECORDER_CONFIG: open ")));
  sources.environment = {{"RUN_RECORDER_CONFIG", ""}};
  EXPECT_TRUE(load_config(sources));
}

TEST_F(ConfigTest, TheFlagNamesTheFileBeforeTheVariable) {
  ConfigSources sources = bare();
  sources.environment = {{"RUN_RECORDER_CONFIG", folder_.write("env.toml", "[limits]\ndepth = 10\n")}};
  EXPECT_EQ(load_config(sources)->limits.depth, 10U);
  sources.flags = {{"--config", folder_.write("flag.toml", "[limits]\ndepth = 11\n")}};
  EXPECT_EQ(load_config(sources)->limits.depth, 11U);
  EXPECT_EQ(load_config(sources)->file, folder_.file("flag.toml"));
}

TEST_F(ConfigTest, AFileThatIsAFolderOrHugeIsAnError) {
  ConfigSources sources = bare();
  sources.default_file = folder_.path();
  EXPECT_THAT(mistakes(sources), ElementsAre(HasSubstr("Is a directory")));
  EXPECT_THAT(mistakes(std::string(2 << 20, '#')), ElementsAre(HasSubstr("is larger than")));
}

TEST_F(ConfigTest, TheToolGoesOnWithDefaultsWhereItMayNotReadTheFile) {
  // Root may read everything; the test must not run as root for this one.
  ConfigSources sources = with_file("[limits]\ndepth = 10\n");
  chmod(file_.c_str(), 0);
  chmod(folder_.path().c_str(), 0755);
  const uid_t before = geteuid();
  if (before == 0 && seteuid(kNobody) != 0) GTEST_SKIP() << "cannot give up root";
  const LoadedConfig daemon = load_config(sources);
  sources.for_tool = true;
  const LoadedConfig tool = load_config(sources);
  sources.flags = {{"--config", file_}};
  const LoadedConfig named = load_config(sources);
  ASSERT_EQ(seteuid(before), 0);

  ASSERT_FALSE(daemon);
  EXPECT_THAT(daemon.error().text(), HasSubstr("Permission denied"));
  ASSERT_TRUE(tool);
  EXPECT_EQ(tool->limits.depth, 64U);
  EXPECT_THAT(tool->notes, ElementsAre(HasSubstr("Permission denied")));
  EXPECT_FALSE(named);
}

TEST_F(ConfigTest, TheToolNeedsOneKeyAndPassesOverMistakesInOthers) {
  ConfigSources sources = with_file("[limits]\ndepth = 1\n[control]\npath = 3\n[nonsense]\nx = 1\n");
  sources.environment["RUN_RECORDER_LOG_LEVEL"] = "loud";
  sources.for_tool = true;
  sources.needed_keys = {"socket.path"};
  const LoadedConfig config = load_config(sources);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->limits.depth, 64U);
  EXPECT_THAT(config->mistakes, ElementsAre(HasSubstr("limits.depth"), HasSubstr("control.path"),
                                            HasSubstr("nonsense"), HasSubstr("RUN_RECORDER_LOG_LEVEL")));

  sources.needed_keys = {"control.path"};
  ASSERT_FALSE(load_config(sources));
  EXPECT_EQ(load_config(sources).error().all.size(), 1U) << "only what is needed";
  EXPECT_EQ(load_config(sources).error().exit_status(), kExitConfiguration);
  sources.needed_keys.reset();
  EXPECT_EQ(load_config(sources).error().all.size(), 4U);

  sources.needed_keys = {"socket.path"};
  sources.flags = {{"--log-level", "loud"}};
  EXPECT_FALSE(load_config(sources)) << "a flag is always needed";
}

TEST_F(ConfigTest, AFileThatCannotBeReadIsNeededWhereItIsNamed) {
  ConfigSources sources = with_file("no TOML\n");
  const std::string file = sources.default_file;
  sources.for_tool = true;
  sources.needed_keys = {"socket.path"};
  ASSERT_TRUE(load_config(sources));
  EXPECT_THAT(load_config(sources)->mistakes, ElementsAre(HasSubstr("invalid TOML")));
  sources.environment["RUN_RECORDER_CONFIG"] = folder_.file("none.toml");
  EXPECT_TRUE(load_config(sources));
  for (const std::string& named : {file, folder_.file("none.toml")}) {
    sources.flags = {{"--config", named}};
    EXPECT_FALSE(load_config(sources)) << named;
  }
}

TEST_F(ConfigTest, ExcludeAndIncludeAreNotGivenTogether) {
  EXPECT_THAT(mistakes("[events]\nexclude = [\"a\"]\ninclude = [\"b\"]\n"),
              ElementsAre("F:3: events.include: conflicts with events.exclude (F:2): set one of them"));
  ConfigSources sources = with_file("[events]\nexclude = [\"a\"]\n");
  sources.flags = {{"--events-include", "b"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(StartsWith("flag --events-include: events.include: conflicts with")));
  sources.flags.emplace_back("--events-exclude", "");
  EXPECT_THAT(load_config(sources)->events.include, ElementsAre("b"));
  EXPECT_THAT(load("[events]\ninclude = []\n").events.exclude, ElementsAre("member_token"));
}

TEST_F(ConfigTest, PathsFollowSystemd) {
  ConfigSources sources = bare();
  sources.uid = kNobody;
  sources.environment = {
      {"RUNTIME_DIRECTORY", "/run/a:/run/b"}, {"STATE_DIRECTORY", "/var/lib/a"}, {"XDG_RUNTIME_DIR", "/run/user/1"}};
  const Config config = load_config(sources).value();
  EXPECT_EQ(config.socket.path, "/run/a/events.sock");
  EXPECT_EQ(config.control.path, "/run/a/control.sock");
  EXPECT_EQ(config.database.url, "sqlite:/var/lib/a/run-recorder.db");
  EXPECT_EQ(config.spool.path, "/var/lib/a/spool");
}

TEST_F(ConfigTest, PathsOfOthersFollowXdg) {
  ConfigSources sources = bare();
  sources.uid = kNobody;
  sources.environment = {{"XDG_RUNTIME_DIR", "/run/user/1"}, {"HOME", "/home/a"}};
  Config config = load_config(sources).value();
  EXPECT_EQ(config.socket.path, "/run/user/1/run-recorder/events.sock");
  EXPECT_EQ(config.spool.path, "/home/a/.local/state/run-recorder/spool");
  sources.environment["XDG_STATE_HOME"] = "/state";
  config = load_config(sources).value();
  EXPECT_EQ(config.database.url, "sqlite:/state/run-recorder/run-recorder.db");
  sources.environment["XDG_STATE_HOME"] = "relative";  // to be ignored, says XDG
  EXPECT_EQ(load_config(sources)->spool.path, "/home/a/.local/state/run-recorder/spool");
}

TEST_F(ConfigTest, SaysWhichPathsHaveNoDefaultHere) {
  ConfigSources sources = bare();
  sources.uid = kNobody;
  EXPECT_THAT(mistakes(sources),
              ElementsAre(AllOf(StartsWith("defaults: socket.path: "), HasSubstr("$XDG_RUNTIME_DIR")),
                          StartsWith("defaults: control.path: "),
                          AllOf(StartsWith("defaults: database.url: "), HasSubstr("$XDG_STATE_HOME")),
                          StartsWith("defaults: spool.path: ")));
  sources.environment = {
      {"HOME", "/home/a"}, {"RUN_RECORDER_SOCKET_PATH", "/a"}, {"RUN_RECORDER_CONTROL_PATH", "/b"}};
  EXPECT_TRUE(load_config(sources));
  sources.environment.clear();
  sources.for_tool = true;
  EXPECT_TRUE(load_config(sources));
}

TEST_F(ConfigTest, ADefaultPathThatIsTooLongIsRefused) {
  ConfigSources sources = bare();
  sources.environment = {{"RUNTIME_DIRECTORY", "/" + std::string(120, 'x')}};
  EXPECT_THAT(mistakes(sources),
              ElementsAre(HasSubstr("socket.path: invalid value"), HasSubstr("control.path: invalid value")));
}

TEST_F(ConfigTest, TheTwoSocketsMustDiffer) {
  EXPECT_THAT(mistakes("[socket]\npath = \"/a\"\n[control]\npath = \"/a\"\n"),
              ElementsAre(StartsWith("F:4: control.path: must differ from socket.path")));
}

TEST_F(ConfigTest, TheControlSocketIsForItsGroupWhereThereIsOne) {
  const bool exists = find_group("run-recorder-admin").has_value();
  const Config plain = load("");
  EXPECT_EQ(plain.control.group, exists ? "run-recorder-admin" : "");
  EXPECT_EQ(plain.control.mode, exists ? 0660U : 0600U);
  const Config grouped = load("[control]\ngroup = \"root\"\n");
  EXPECT_EQ(grouped.control.group, "root");
  EXPECT_EQ(grouped.control.mode, 0660U);
  EXPECT_EQ(load("[control]\ngroup = \"\"\n").control.mode, 0600U);
  EXPECT_EQ(load("[control]\nmode = \"0666\"\n").control.mode, 0666U);
}

TEST_F(ConfigTest, ThePasswordComesFromItsFile) {
  const std::string secret = folder_.write("secret", "s&same\n");
  const std::string file = "[database]\nurl = \"postgresql://u@h/d\"\npassword_file = \"" + secret + "\"\n";
  const Config config = load(file);
  EXPECT_EQ(config.database.url, "postgresql://u@h/d");
  EXPECT_EQ(config.database.password, "s&same");
  EXPECT_EQ(config.database.connection_url(), "postgresql://u@h/d?password=s%26same");
  EXPECT_EQ(config.connection_url_of(config.queue), config.database.connection_url());
  ConfigSources tool = with_file(file);
  tool.for_tool = true;
  EXPECT_EQ(load_config(tool)->database.password, "");
}

TEST_F(ConfigTest, ACredentialOfTheServiceIsThePasswordWhereNoOtherIsGiven) {
  const std::string credential = folder_.write("database-password", "from systemd\n");
  const std::string folder = credential.substr(0, credential.rfind('/'));
  const auto password = [&](const std::string& database, const std::string& credentials) {
    ConfigSources sources = with_file("[database]\n" + database);
    sources.environment["CREDENTIALS_DIRECTORY"] = credentials;
    return load_config(sources)->database.password;
  };
  EXPECT_EQ(password("url = \"postgresql://u@h/d\"\n", folder), "from systemd");
  EXPECT_EQ(password("url = \"postgresql://u@h/d\"\n", folder + "/none"), "");
  EXPECT_EQ(password("url = \"postgresql://u:own@h/d\"\n", folder), "");
  EXPECT_EQ(password("url = \"sqlite:/x.db\"\n", folder), "");
  const std::string secret = folder_.write("secret", "from the file\n");
  EXPECT_EQ(password("url = \"postgresql://u@h/d\"\npassword_file = \"" + secret + "\"\n", folder), "from the file");
  EXPECT_EQ(password("url = \"postgresql://u@h/d\"\npassword_file = \"\"\n", folder), "");
}

TEST_F(ConfigTest, ByHandTheServicesPasswordIsFoundWhereItsUnitHasIt) {
  const std::string file = "[database]\nurl = \"postgresql://u@h/d\"\n";
  const auto by_hand = [&] {
    ConfigSources sources = with_file(file);
    sources.places.passwords = {folder_.file("none"), folder_.write("credential", "of the unit\n")};
    return sources;
  };
  EXPECT_EQ(load_config(by_hand())->database.password, "of the unit");
  ConfigSources in_unit = by_hand();
  in_unit.environment["CREDENTIALS_DIRECTORY"] = folder_.file("nowhere");
  EXPECT_EQ(load_config(in_unit)->database.password, "");
  ConfigSources another_file = by_hand();
  another_file.flags = {{"--config", folder_.write("mine.toml", file)}};
  EXPECT_EQ(load_config(another_file)->database.password, "");
  // It is for the server that the file names.
  ConfigSources another_server = by_hand();
  another_server.flags = {{"--database-url", "postgresql://u@elsewhere/d"}};
  EXPECT_EQ(load_config(another_server)->database.password, "");
}

TEST_F(ConfigTest, APasswordThatMayNotBeReadIsNamed) {
  ConfigSources sources = with_file("[database]\nurl = \"postgresql://u@h/d\"\n");
  sources.places.passwords = {folder_.file("none"), folder_.write("credential", "secret\n")};
  chmod(sources.places.passwords.back().c_str(), 0);
  chmod(folder_.path().c_str(), 0755);
  chmod(file_.c_str(), 0644);
  const uid_t before = geteuid();
  if (before == 0 && seteuid(kNobody) != 0) GTEST_SKIP() << "cannot give up root";
  const LoadedConfig loaded = load_config(sources);
  ASSERT_EQ(seteuid(before), 0);
  ASSERT_TRUE(loaded) << loaded.error().text();
  EXPECT_EQ(loaded->database.password, "");
  EXPECT_EQ(loaded->password_out_of_reach, sources.places.passwords.back());
}

TEST_F(ConfigTest, TheServicesFoldersAreThoseOfTheirOwnerToo) {
  ConfigSources sources = bare();
  sources.uid = geteuid() == 0 ? kNobody : geteuid();
  sources.places = {"/run/rr", folder_.path(), {}};
  sources.environment = {{"XDG_RUNTIME_DIR", "/run/user/1"}, {"HOME", "/home/u"}};
  ASSERT_EQ(chown(folder_.path().c_str(), sources.uid, static_cast<gid_t>(-1)), 0);
  EXPECT_EQ(load_config(sources)->spool.path, folder_.file("spool"));
  EXPECT_EQ(load_config(sources)->socket.path, "/run/rr/events.sock");
  sources.places.state = "/nonexistent";
  EXPECT_EQ(load_config(sources)->spool.path, "/home/u/.local/state/run-recorder/spool");
  EXPECT_EQ(load_config(sources)->socket.path, "/run/user/1/run-recorder/events.sock");
}

TEST_F(ConfigTest, WhatServesNobodyNeedsNoPlaceForSockets) {
  ConfigSources sources = bare();
  sources.uid = kNobody;
  sources.environment = {{"HOME", "/home/u"}};
  sources.places.state = "/nonexistent";
  EXPECT_THAT(mistakes(sources),
              ElementsAre(HasSubstr("socket.path: no default"), HasSubstr("control.path: no default")));
  sources.without_sockets = true;
  EXPECT_THAT(mistakes(sources), IsEmpty());
  EXPECT_THAT(load_config(sources)->no_socket_paths, HasSubstr("$XDG_RUNTIME_DIR"));
}

TEST_F(ConfigTest, APasswordFileMustHoldOneAndBeTheOnlyPlace) {
  const std::string empty = folder_.write("empty", "\n");
  const auto file = [&](const std::string& url, const std::string& path) {
    return "[database]\nurl = \"" + url + "\"\npassword_file = \"" + path + "\"\n";
  };
  EXPECT_THAT(mistakes(file("postgresql://h/d", empty)), ElementsAre(HasSubstr("invalid file")));
  EXPECT_THAT(mistakes(file("postgresql://h/d", folder_.file("none"))), ElementsAre(HasSubstr("No such file")));
  EXPECT_THAT(mistakes(file("postgresql://u:sesame@h/d", folder_.write("secret", "x"))),
              ElementsAre(AllOf(HasSubstr("set one of them"), Not(HasSubstr("sesame")))));
  EXPECT_EQ(load(file("sqlite:x", folder_.file("none"))).database.connection_url(), "sqlite:x");
}

TEST_F(ConfigTest, AFailedLoadThrowsTheExitStatusOfConfiguration) {
  try {
    load_config(with_file("[limits]\ndepth = 1\n")).value();
    FAIL() << "a bad file was loaded";
  } catch (const StartError& error) {
    EXPECT_EQ(error.exit_status(), kExitConfiguration);
    EXPECT_THAT(error.what(), HasSubstr("limits.depth"));
  }
}

TEST(ConfigFlags, AreTakenOutOfTheArguments) {
  using List = std::vector<std::string>;
  using Flags = std::vector<std::pair<std::string, std::string>>;
  List arguments = {"list", "--limits-depth", "3", "--json", "--log-level=debug", "--config", "f",
                    "--",   "--log-level",    "x"};
  const auto flags = take_config_flags(arguments);
  ASSERT_TRUE(flags);
  EXPECT_EQ(*flags, (Flags{{"--limits-depth", "3"}, {"--log-level", "debug"}, {"--config", "f"}}));
  EXPECT_EQ(arguments, (List{"list", "--json", "--", "--log-level", "x"}));
  List open = {"--config"};
  EXPECT_EQ(take_config_flags(open).error().message, "--config: a value is missing");
  List twice = {"--log-level=debug", "--log-level", "info"};
  EXPECT_EQ(take_config_flags(twice).error().message, "--log-level: given twice");
  List cut = {"--config", "--"};
  EXPECT_FALSE(take_config_flags(cut));
}

TEST(ConfigEnvironment, IsReadFromTheBlockOfTheProcess) {
  const char* const block[] = {"A=1", "B=x=y", "C=", "broken", nullptr};
  EXPECT_EQ(environment_of(block), (Environment{{"A", "1"}, {"B", "x=y"}, {"C", ""}}));
  EXPECT_TRUE(environment_of(nullptr).empty());
}

void listen_at(const std::string& path, UniqueFd& fd) {
  fd = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
}

TEST(ClientPaths, AreTheConfiguredElseXdgsElseTheSystems) {
  const TempFolder folder;
  const Environment environment = {{"XDG_RUNTIME_DIR", folder.path().string()}};
  ConfigSources sources = bare();
  sources.for_tool = true;
  sources.uid = kNobody;
  sources.environment = environment;
  const Config config = load_config(sources).value();
  EXPECT_EQ(client_socket_path(config, environment), "/run/run-recorder/events.sock");
  EXPECT_EQ(client_control_path(config, environment), "/run/run-recorder/control.sock");

  std::filesystem::create_directory(folder.file("run-recorder"));
  folder.write("run-recorder/control.sock", "no socket");
  UniqueFd listener;
  listen_at(folder.file("run-recorder/events.sock"), listener);
  EXPECT_EQ(client_socket_path(config, environment), folder.file("run-recorder/events.sock"));
  EXPECT_EQ(client_control_path(config, environment), "/run/run-recorder/control.sock");
  EXPECT_EQ(client_socket_path(config, {}), "/run/run-recorder/events.sock");

  sources.flags = {{"--socket-path", "/given"}};
  EXPECT_EQ(client_socket_path(load_config(sources).value(), environment), "/given");
}

TEST_F(ConfigTest, AReloadChangesOnlyWhatItMay) {
  const Config before = load("");
  const Config after = load(
      "[limits]\ndepth = 10\n[database]\nmigrate = false\n[log]\nlevel = \"error\"\n[events]\ninclude = [\"a\"]\n"
      "[reconcile.queue]\nkind = \"oban\"\n");
  const ConfigDifference difference = diff_config(before, after);
  EXPECT_THAT(difference.reloadable, ElementsAre("limits.depth", "events.exclude", "events.include", "log.level"));
  EXPECT_THAT(difference.need_restart, ElementsAre("database.migrate", "reconcile.queue.kind"));

  const Config merged = with_reloadable(before, after);
  EXPECT_EQ(merged.limits.depth, 10U);
  EXPECT_EQ(merged.log.level, LogLevel::kError);
  EXPECT_THAT(merged.events.exclude, IsEmpty());
  EXPECT_TRUE(merged.database.migrate);
  EXPECT_EQ(merged.queue.kind, QueueKind::kNone);
  EXPECT_THAT(diff_config(merged, after).reloadable, IsEmpty());
  EXPECT_THAT(diff_config(before, before).need_restart, IsEmpty());
}

TEST_F(ConfigTest, ExpectationsHaveSectionsOfTheirOwn) {
  const Config config = load(
      "[expect]\nlearn = true\n[expect.nightly]\ncouncil = \"backup-*\"\ncron = \"@daily\"\ntimezone = \"Europe/Berlin\"\n"
      "[expect.pulse]\ncouncil = \"pulse\"\nevery = \"5m\"\nmargin = \"0s\"\nmax_duration = \"1h\"\n");
  EXPECT_TRUE(config.expect.learn);
  Expectation nightly{.council = "backup-*"};
  nightly.cron = "@daily";
  nightly.timezone = "Europe/Berlin";
  Expectation pulse{.council = "pulse"};
  pulse.every = minutes(5);
  pulse.margin = minutes(0);
  pulse.max_duration = hours(1);
  EXPECT_THAT(config.expect.named, ElementsAre(Pair("nightly", nightly), Pair("pulse", pulse)));

  Config before = load("");
  EXPECT_THAT(diff_config(before, config).reloadable, Contains("expect.pulse.every"));
  EXPECT_EQ(with_reloadable(before, config).expect.named, config.expect.named);

  ConfigSources sources = with_file("[expect.nightly]\ncouncil = \"backup-*\"\n");
  sources.environment["RUN_RECORDER_EXPECT_NIGHTLY_CRON"] = "0 3 * * *";
  EXPECT_EQ(load_config(sources).value().expect.named.at("nightly").cron, "0 3 * * *");
}

TEST_F(ConfigTest, AMistakeInAnExpectationNamesTheField) {
  const auto mistake = [this](const std::string& keys) { return mistakes(with_file("[expect.e]\n" + keys)); };
  const std::string council = "council = \"c\"\n";
  EXPECT_THAT(mistake(council + "cron = \"0 3 31 2 *\"\n"),
              ElementsAre(HasSubstr("expect.e.cron: invalid value \"0 3 31 2 *\": it names no day of any year")));
  EXPECT_THAT(mistake(council + "cron = \"0 61 * * *\"\n"), ElementsAre(HasSubstr("the hour \"61\"")));
  EXPECT_THAT(mistake(council + "cron = \"@daily\"\ntimezone = \"Europe/Berln\"\n"),
              ElementsAre(AllOf(HasSubstr("expect.e.timezone: "), HasSubstr("did you mean Europe/Berlin?"))));
  EXPECT_THAT(mistake(council + "cron = \"@daily\"\nevery = \"1h\"\n"),
              ElementsAre(HasSubstr("expect.e.cron: conflicts with every")));
  EXPECT_THAT(mistake(council),
              ElementsAre(HasSubstr("expect.e: expects nothing: must have every, cron or max_duration")));
  EXPECT_THAT(mistake("every = \"1h\"\n"), ElementsAre(HasSubstr("expect.e.council: missing")));
  EXPECT_THAT(mistake(council + "every = \"1h\"\nevry = 1\n"), ElementsAre(HasSubstr("did you mean every?")));
  EXPECT_THAT(mistakes(with_file("[expect]\nlern = true\n")), ElementsAre(HasSubstr("did you mean expect.learn?")));
}

TEST(ConfigReload, TakesTheseKeys) {
  std::vector<std::string> reloadable;
  for (const ConfigKey& key : config_keys()) {
    if (key.reloadable) reloadable.push_back(key.full_name());
  }
  EXPECT_THAT(reloadable,
              ElementsAre("socket.allow_users", "socket.allow_groups", "spool.max_bytes", "spool.min_free",
                          "spool.keep", "limits.line_bytes", "limits.depth", "limits.connections", "events.exclude",
                          "events.include", "reconcile.grace", "reconcile.interval", "reconcile.silent_after",
                          "reconcile.recorder_timeout", "reconcile.max_stuck", "reconcile.log_rows", "retention.keep",
                          "retention.completed", "retention.failed", "retention.cancelled", "retention.stuck",
                          "retention.councils", "retention.passes", "retention.recorders", "retention.interval",
                          "expect.learn", "log.level", "log.format", "daemon.shutdown_timeout"));
}

TEST_F(ConfigTest, AnotherPasswordNeedsARestart) {
  Config before = load("");
  Config after = before;
  after.database.password = "new";
  EXPECT_THAT(diff_config(before, after).need_restart, ElementsAre("database.password_file"));
}

TEST(ConfigHelp, NamesEveryFlag) {
  for (const ConfigKey& key : config_keys()) {
    EXPECT_THAT(config_help(), HasSubstr("  " + key.flag() + " VALUE\n"));
    EXPECT_FALSE(key.doc.empty());
    EXPECT_FALSE(key.allowed().empty());
  }
}

// The file that is shipped. ctest tells where the tree is; by hand the tests run inside of it.
std::string shipped_file() {
  const char* const tree = std::getenv("RR_SOURCE_DIR");
  return read_file(std::filesystem::path(tree ? tree : ".") / "config/run-recorder.toml", 1 << 20).value();
}

TEST_F(ConfigTest, TheShippedFileLoadsAndChangesNothing) {
  const Config config = load(shipped_file());
  const Config defaults = load("");
  EXPECT_THAT(diff_config(defaults, config).reloadable, IsEmpty());
  EXPECT_THAT(diff_config(defaults, config).need_restart, IsEmpty());
}

// What Kubernetes gives every container for a service named run-recorder, and for others whose names begin so.
Environment service_links() {
  Environment links;
  for (const std::string name : {"RUN_RECORDER", "RUN_RECORDER_METRICS", "RUN_RECORDER_SOCKET", "RUN_RECORDER_2"}) {
    for (const char* rest :
         {"_SERVICE_HOST", "_SERVICE_PORT", "_SERVICE_PORT_HTTP_METRICS", "_PORT", "_PORT_9090_TCP",
          "_PORT_9090_TCP_PROTO", "_PORT_9090_TCP_PORT", "_PORT_9090_TCP_ADDR", "_PORT_53_UDP_ADDR"}) {
      links[name + rest] = "tcp://10.0.0.1:9090";
    }
  }
  return links;
}

TEST_F(ConfigTest, VariablesOfKubernetesServicesArePassedOverWithOneLine) {
  ConfigSources sources = bare();
  sources.environment = service_links();
  for (const bool for_tool : {false, true}) {
    sources.for_tool = for_tool;
    const LoadedConfig loaded = load_config(sources);
    ASSERT_TRUE(loaded) << loaded.error().text();
    EXPECT_THAT(loaded->warnings,
                ElementsAre(AllOf(HasSubstr("RUN_RECORDER_2_PORT and 35 more: ignored"), HasSubstr("Kubernetes"))));
  }
}

TEST_F(ConfigTest, NoKeysVariableHasTheFormOfAService) {
  // A known key would be taken, not ignored; none may look like a service's, or nobody could tell them apart.
  for (const ConfigKey& key : config_keys()) {
    EXPECT_THAT(key.variable(), Not(testing::MatchesRegex(".*_(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_[0-9]+_.*)")));
  }
}

TEST_F(ConfigTest, OtherUnknownVariablesStopTheDaemonAndOnlyWarnTheTool) {
  ConfigSources sources = bare();
  sources.environment = {{"RUN_RECORDER_LIMITS_DEPHT", "5"},
                         {"RUN_RECORDER_PORT_HTTP", "5"},
                         {"RUN_RECORDER_PORTS", "5"},
                         {"RUN_RECORDER_SERVICE_HOSTS", "5"},
                         {"RUN_RECORDER_service_PORT", "5"}};
  EXPECT_EQ(mistakes(sources).size(), 5U);
  sources.for_tool = true;
  const LoadedConfig loaded = load_config(sources);
  ASSERT_TRUE(loaded) << loaded.error().text();
  EXPECT_EQ(loaded->warnings.size(), 5U);
  EXPECT_EQ(loaded->warnings.front(),
            "environment RUN_RECORDER_LIMITS_DEPHT: unknown variable; did you mean RUN_RECORDER_LIMITS_DEPTH?; "
            "ignored");
}

TEST_F(ConfigTest, AnUnknownUserOrGroupEndsWithStatus69) {
  const auto status_of = [this](const std::string& content) {
    const LoadedConfig loaded = load_config(with_file(content));
    return loaded ? kExitDone : loaded.error().exit_status();
  };
  const std::string unknown = "[socket]\ngroup = \"no-such-group-here\"\nallow_users = [\"no-such-user-here\"]\n";
  EXPECT_EQ(status_of(unknown), kExitNotThere);
  EXPECT_EQ(status_of(unknown + "mode = \"0888\"\n"), kExitConfiguration);
  EXPECT_EQ(status_of("[socket]\nmode = \"0888\"\n"), kExitConfiguration);
}

TEST_F(ConfigTest, AMistakeNeverShowsAPasswordThatIsInAPath) {
  ConfigSources sources = bare();
  sources.flags = {{"--config", "postgresql://u:PASSWORD@h/d"}};
  EXPECT_THAT(mistakes(sources), ElementsAre(AllOf(HasSubstr("postgresql://u:***@h/d"), Not(HasSubstr("PASSWORD")))));
}

TEST_F(ConfigTest, AFileWithAPasswordThatOthersMayReadIsExposed) {
  const auto exposed = [this](const std::string& content, mode_t mode) {
    const Config config = load(content);
    EXPECT_EQ(::chmod(file_.c_str(), mode), 0);
    return exposed_files(config);
  };
  const std::string with_password = "[database]\nurl = \"postgresql://u:secret@h/d\"\n";
  const auto found = exposed(with_password, 0644);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_THAT(found[0].found, AllOf(HasSubstr(file_), HasSubstr("mode 0644"), HasSubstr("any user of this host")));
  EXPECT_THAT(found[0].advice, HasSubstr("chmod 0600 " + file_));
  EXPECT_THAT(exposed(with_password, 0600), IsEmpty());
  EXPECT_THAT(exposed("[database]\nurl = \"postgresql://u@h/d\"\n", 0644), IsEmpty());
  EXPECT_EQ(exposed("[reconcile.queue]\nkind = \"oban\"\nurl = \"postgresql://u:secret@h/d\"\n", 0604).size(), 1U);

  const std::string password = folder_.write("password", "secret\n");
  const std::string by_file = "[database]\nurl = \"postgresql://u@h/d\"\npassword_file = \"" + password + "\"\n";
  EXPECT_EQ(::chmod(password.c_str(), 0604), 0);
  EXPECT_THAT(exposed(by_file, 0644).at(0).found, HasSubstr(password + " holds the database's password"));
  EXPECT_EQ(::chmod(password.c_str(), 0600), 0);
  EXPECT_THAT(exposed(by_file, 0644), IsEmpty());
}

TEST_F(ConfigTest, AFileWithAPasswordThatAGroupOfSeveralMayReadIsExposed) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root gives files to any group";
  const Config config = load("[database]\nurl = \"postgresql://u:secret@h/d\"\n");
  EXPECT_EQ(::chmod(file_.c_str(), 0640), 0);
  EXPECT_THAT(exposed_files(config), IsEmpty());  // root's group
  constexpr gid_t kNamedByNobody = 54'321;
  EXPECT_EQ(::chown(file_.c_str(), 0, kNamedByNobody), 0);
  EXPECT_THAT(exposed_files(config).at(0).found, HasSubstr("the members of the group 54321 may read it"));
}

TEST_F(ConfigTest, TheShippedFileNamesEveryKeyWithItsDefault) {
  // "#key = value" is a key that is commented out, "# text" is prose.
  std::string uncommented;
  std::vector<std::string> found;
  std::string section;
  std::istringstream stream(shipped_file());
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with('[')) section = line.substr(1, line.size() - 2);
    if (line.starts_with('#') && line.size() > 1 && line[1] != ' ') {
      line.erase(0, 1);
      found.push_back(section + "." + line);
    }
    uncommented += line + "\n";
  }
  std::vector<std::string> expected;
  for (const ConfigKey& key : config_keys()) expected.push_back(key.full_name() + " = " + key.default_text());
  EXPECT_EQ(found, expected);

  ConfigSources sources = with_file(uncommented);
  sources.for_tool = true;  // the group run-recorder-admin need not exist here
  EXPECT_THAT(mistakes(sources), IsEmpty());
}

}  // namespace
}  // namespace run_recorder
