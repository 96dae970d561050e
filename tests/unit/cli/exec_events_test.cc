#include "cli/exec_events.h"

#include <gtest/gtest.h>

#include <csignal>

#include "base/utf8.h"
#include "cli/json_object.h"

namespace run_recorder {
namespace {

AttemptEnd end_with(Ending ending, int asked_to_stop_by = 0) {
  AttemptEnd end;
  end.run_id = "r1";
  end.event_id = "e1";
  end.ending = ending;
  end.asked_to_stop_by = asked_to_stop_by;
  end.command = "backup";
  end.stderr_tail = {"no space left"};
  return end;
}

// The text must outlive what is read from it.
JsonObject error_of(const std::string& line) {
  const auto errors = JsonObject(line).elements("errors");
  return errors.size() == 1 ? JsonObject(errors[0]) : JsonObject();
}

TEST(EndedLine, SuccessIsCompletedWithStatusAndDuration) {
  const std::string line = ended_line(end_with({}));
  EXPECT_EQ(JsonObject(line).text("type"), "run_completed");
  EXPECT_EQ(JsonObject(line).object("result").integer("exit_status"), 0);
  EXPECT_EQ(JsonObject(line).object("result").integer("duration_ms"), 0);
}

TEST(EndedLine, AnExitStatusIsFailedWithTheLastWords) {
  const std::string line = ended_line(end_with({.exit_status = 3}));
  EXPECT_EQ(JsonObject(line).text("type"), "run_failed");
  EXPECT_EQ(error_of(line).text("kind"), "exit");
  EXPECT_EQ(error_of(line).text("message"), "exited with status 3");
  EXPECT_EQ(error_of(line).integer("exit_status"), 3);
  EXPECT_EQ(error_of(line).raw("stderr_tail"), R"(["no space left"])");
}

TEST(EndedLine, ASignalIsNamed) {
  const std::string line = ended_line(end_with({.signal = SIGKILL}));
  EXPECT_EQ(error_of(line).text("kind"), "signal");
  EXPECT_EQ(error_of(line).text("signal"), "SIGKILL");
  EXPECT_EQ(error_of(line).integer("signal_number"), 9);
}

TEST(EndedLine, ACommandThatCannotBeRunSaysWhy) {
  const std::string line = ended_line(end_with({.exit_status = 127, .start_error = ENOENT}));
  EXPECT_EQ(error_of(line).text("message"), "backup could not be run: No such file or directory");
  EXPECT_EQ(error_of(line).integer("exit_status"), 127);
}

TEST(WasCancelled, OnlyWhenExecWasAskedToStopAndTheCommandFailed) {
  EXPECT_TRUE(was_cancelled(end_with({.signal = SIGTERM}, SIGTERM)));
  EXPECT_TRUE(was_cancelled(end_with({.exit_status = 1}, SIGINT)));
  EXPECT_TRUE(was_cancelled(end_with({.signal = SIGKILL}, SIGTERM)));
  EXPECT_FALSE(was_cancelled(end_with({.signal = SIGTERM})));
  EXPECT_FALSE(was_cancelled(end_with({}, SIGTERM)));
  // A hangup is how daemons are told to reload.
  EXPECT_FALSE(was_cancelled(end_with({.exit_status = 1}, SIGHUP)));
  EXPECT_TRUE(was_cancelled(end_with({.signal = SIGHUP}, SIGHUP)));
}

TEST(EndedLine, ATimeoutIsFailedHoweverTheCommandEnded) {
  for (const Ending& ending : {Ending{.signal = SIGTERM}, Ending{.exit_status = 3}, Ending{}}) {
    AttemptEnd end = end_with(ending, SIGTERM);
    end.timed_out_after = std::chrono::minutes(30);
    const std::string line = ended_line(end);
    EXPECT_EQ(JsonObject(line).text("type"), "run_failed");
    EXPECT_EQ(error_of(line).text("kind"), "timeout");
    EXPECT_EQ(error_of(line).text("message"), "did not end within 30m");
    EXPECT_EQ(error_of(line).integer("timeout_ms"), 1'800'000);
    EXPECT_FALSE(was_cancelled(end));
    EXPECT_EQ(error_of(line).text("signal"), ending.signal == 0 ? "" : "SIGTERM");
    if (ending.signal == 0) {
      EXPECT_EQ(error_of(line).integer("exit_status"), ending.exit_status);
    }
  }
}

TEST(EndedLine, LostOutputIsFailedAlsoWhereTheCommandDiedOfIt) {
  for (const Ending& ending : {Ending{}, Ending{.signal = SIGPIPE}}) {
    AttemptEnd end = end_with(ending);
    end.output_error = ENOSPC;
    const std::string line = ended_line(end);
    EXPECT_EQ(JsonObject(line).text("type"), "run_failed");
    EXPECT_EQ(error_of(line).text("kind"), "output");
    EXPECT_EQ(error_of(line).text("message"), "could not write its standard output: No space left on device");
    EXPECT_TRUE(worth_retrying(end));
  }
}

TEST(WorthRetrying, AFailureAndATimeoutButNotWhatWasAskedToStop) {
  EXPECT_TRUE(worth_retrying(end_with({.exit_status = 3})));
  EXPECT_FALSE(worth_retrying(end_with({})));
  EXPECT_FALSE(worth_retrying(end_with({.exit_status = 127, .start_error = ENOENT})));
  EXPECT_FALSE(worth_retrying(end_with({.signal = SIGTERM}, SIGTERM)));
  AttemptEnd timed_out = end_with({});
  timed_out.timed_out_after = std::chrono::seconds(1);
  EXPECT_TRUE(worth_retrying(timed_out));
  timed_out.asked_to_stop_by = SIGINT;
  EXPECT_FALSE(worth_retrying(timed_out));
}

TEST(CommandInput, HoldsArgumentsOnlyWhenAsked) {
  const std::vector<std::string> command = {"/usr/bin/rsync", "--password=x", "\xFF"};
  EXPECT_EQ(command_input(command, false), R"({"command":"rsync"})");
  EXPECT_EQ(command_input(command, true), "{\"command\":\"/usr/bin/rsync\",\"args\":[\"--password=x\",\"\uFFFD\"]}");
}

TEST(StartedLine, SaysWhereItRuns) {
  AttemptStart start;
  start.input = "{}";
  start.unit = "a.service";
  start.user = "worker";
  start.cwd = "/srv";
  start.command_text = "./a";
  const std::string line = started_line(start);
  EXPECT_EQ(JsonObject(line).text("unit"), "a.service");
  EXPECT_EQ(JsonObject(line).text("user"), "worker");
  EXPECT_EQ(JsonObject(line).text("cwd"), "/srv");
  EXPECT_EQ(JsonObject(line).text("command"), "./a");
  EXPECT_EQ(JsonObject(line).raw("log"), "");
  start.log = "/var/log/jobs/r1.log";
  EXPECT_EQ(JsonObject(started_line(start)).text("log"), "/var/log/jobs/r1.log");
  start.log = "/\xFF";
  EXPECT_TRUE(valid_utf8(started_line(start)));
  EXPECT_EQ(JsonObject(line).raw("host"), "") << "the daemon knows its host";
}

TEST(KeptLine, NamesTheHostWhereARunStarts) {
  AttemptStart start;
  start.run_id = "r1";
  start.input = "{}";
  const std::string started = started_line(start);
  const std::string kept = kept_line(started, "h \"1\"");
  EXPECT_EQ(JsonObject(kept).text("host"), "h \"1\"");
  EXPECT_TRUE(kept.ends_with("," + started.substr(1))) << kept;
  EXPECT_EQ(kept_line(started, std::nullopt), started);
  const std::string ended = ended_line(end_with({}));
  EXPECT_EQ(kept_line(ended, "h1"), ended);
}

TEST(CommandText, HoldsArgumentsOnlyWhenAsked) {
  const std::vector<std::string> command = {"./rsync", "-a", "--password=x y", "it's", "", "\xFF", "a/b:c@d"};
  EXPECT_EQ(command_text(command, false), "./rsync");
  EXPECT_EQ(command_text({"./my tool"}, false), "./my tool");
  EXPECT_EQ(command_text({"./my tool", "-a"}, true), "'./my tool' -a");
  EXPECT_EQ(command_text(command, true), "./rsync -a '--password=x y' 'it'\\''s' '' '\uFFFD' a/b:c@d");
}

TEST(CommandText, IsCutToWhatARowHolds) {
  EXPECT_EQ(command_text({std::string(1'024, 'x')}, false), std::string(1'024, 'x'));
  const std::string cut = command_text({"sh", std::string(2'000, 'x')}, true);
  EXPECT_EQ(cut, "sh " + std::string(1'018, 'x') + "…");
  EXPECT_EQ(cut.size(), 1'024U);
}

TEST(CouncilOf, IsTheFileNameWithinTheProtocolsLimits) {
  EXPECT_EQ(council_of("./backup.sh"), "backup.sh");
  EXPECT_EQ(council_of("/usr/bin/true"), "true");
  EXPECT_EQ(council_of("dir/"), "dir");
  EXPECT_EQ(council_of("/"), "/");
  EXPECT_EQ(council_of(""), "command");
  EXPECT_EQ(council_of(std::string(300, 'x')).size(), 255U);
}

}  // namespace
}  // namespace run_recorder
