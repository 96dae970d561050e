// kill -9 at any moment, and all threads at once.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/file.h"
#include "spool/inspect.h"
#include "spool/spool.h"
#include "spool_fixture.h"

namespace run_recorder {
namespace {

// Appends groups for ever and tells each acknowledged number through the pipe; releases and deletes a part on the
// way.
[[noreturn]] void append_until_killed(const SpoolOptions& options, int acknowledged_fd, std::uint64_t seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  SpoolOpening opening;
  Result<std::unique_ptr<Spool>> spool = Spool::open(options, opening);
  if (!spool || opening.damaged_records > 0) _exit(1);
  std::mt19937_64 random(seed);
  while (true) {
    const std::uint64_t count = 1 + random() % 40;
    const std::uint64_t first = (*spool)->usage().last_seq + 1;
    std::vector<std::string> bodies;
    for (std::uint64_t i = 0; i < count; ++i) bodies.push_back(body_of(first + i));
    std::vector<Spool::Entry> entries;
    for (const std::string& body : bodies) entries.push_back({body, true});
    const auto appended = (*spool)->append(entries);
    if (!appended || appended->first_seq != first) _exit(2);
    const std::uint64_t last = first + count - 1;
    if (write(acknowledged_fd, &last, sizeof last) != sizeof last) _exit(3);
    if (random() % 8 == 0) {
      (*spool)->release(last > 3000 ? last - 3000 : 0);
      (*spool)->delete_expired(now_utc());
    }
  }
}

// Starts the above, lets it acknowledge so many groups, kills it. The last number that was acknowledged.
std::uint64_t run_and_kill(const SpoolOptions& options, std::uint64_t groups, std::uint64_t seed) {
  int ends[2];
  if (pipe(ends) != 0) return 0;
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = fork();
  if (child == 0) append_until_killed(options, write_end.get(), seed);
  write_end.reset();
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < groups; ++i) {
    if (read(read_end.get(), &last, sizeof last) != sizeof last) break;
  }
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself with " << WEXITSTATUS(status);
  while (read(read_end.get(), &last, sizeof last) == sizeof last) continue;
  return last;
}

TEST(SpoolCrash, EveryAcknowledgedRecordSurvivesKillingTheWriter) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.segment_bytes = 1;
  options.keep = std::chrono::milliseconds(0);
  std::mt19937_64 random(20260102);
  std::uint64_t acknowledged = 0;
  for (std::uint64_t round = 0; round < 150; ++round) {
    SCOPED_TRACE(round);
    const std::uint64_t last = run_and_kill(options, random() % 25, random());
    acknowledged = std::max(acknowledged, last);
    const Opened opened = open_spool(options);
    ASSERT_TRUE(opened.spool);
    EXPECT_EQ(opened.opening.damaged_records, 0U) << joined(opened.opening.set_aside);
    const SpoolUsage usage = opened.spool->usage();
    EXPECT_GE(usage.last_seq, acknowledged);
    const Reading reading = read_from(*opened.spool, 1, 1000);
    EXPECT_EQ(reading.seqs, range(usage.first_seq, usage.last_seq));
    EXPECT_TRUE(reading.damage.empty()) << joined(reading.damage);
    if (HasFailure()) return;
    acknowledged = usage.last_seq;
  }
  EXPECT_GT(acknowledged, 10'000U);
}

TEST(SpoolThreads, AppendReadReleaseAndInspectConcurrently) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.segment_bytes = 1;
  options.keep = std::chrono::milliseconds(0);
  const Opened opened = open_spool(options);
  Spool& spool = *opened.spool;
  constexpr std::uint64_t kRecords = 20'000;
  std::atomic<bool> done = false;
  std::thread appender([&] {
    while (spool.usage().last_seq < kRecords) append_group(spool, 25);
  });
  std::thread looker([&] {
    while (!done) {
      const Result<SpoolReport> report = inspect_spool(folder.path(), InspectionDepth::kRecords);
      EXPECT_TRUE(report) << report.error().message;
      EXPECT_TRUE(report && report->is_sound());
      spool.set_hint("position");
      EXPECT_FALSE(spool.incarnations().empty());
      EXPECT_EQ(spool.hint(), "position");
    }
  });
  std::uint64_t next = 1;
  std::vector<std::string> damage;
  while (next <= kRecords) {
    const auto records = spool.read(next, 300, 1 << 20, damage);
    ASSERT_TRUE(records);
    for (const SpoolRecord& record : *records) {
      ASSERT_EQ(record.seq, next);
      ASSERT_EQ(record.body, body_of(next));
      ++next;
    }
    spool.release(next - 1);
    spool.delete_expired(now_utc());
  }
  done = true;
  appender.join();
  looker.join();
  EXPECT_TRUE(damage.empty());
  EXPECT_EQ(spool.usage().pending_bytes, 0U);
}

}  // namespace
}  // namespace run_recorder
