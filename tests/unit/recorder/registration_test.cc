// Who records under a spool's id, against a real database: a fresh recorder, a restart, and a copy beside its
// original.
#include "recorder/registration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recorder_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using Claimed = std::optional<Checkpoint>;

constexpr auto kSilence = 24h;  // by the clock that is given; the database's own makes no difference
const std::chrono::steady_clock::time_point kNow{};

class RegistrationTest : public RecorderFixture {
 protected:
  void SetUp() override {
    RecorderFixture::SetUp();
    store_ = open_new_store();
    begin();
  }
  void begin(bool sole_writer = false) {
    registration_ = std::make_unique<Registration>(*spool_, health_, "host-1", "0.1.0", sole_writer, kSilence);
  }
  void reopen() {
    spool_.reset();
    open_spool();
  }
  // The folder as it was, at another place, beside a process that goes on in the original.
  void open_copy() {
    copy_spool("copy");
    spool_.reset();
    spool_options_.path = folder_.path() / "copy";
    open_spool();
  }
  Claimed claim(std::chrono::steady_clock::time_point now = kNow) {
    return registration_->claim(*store_, now).value();
  }
  std::string holder() const { return query("SELECT incarnation FROM council_ex_recorders"); }

  std::unique_ptr<Store> store_;
  DatabaseHealth health_{"sqlite:runs.db"};
  std::unique_ptr<Registration> registration_;
};

TEST_P(RegistrationTest, RegistersAFreshRecorder) {
  ASSERT_TRUE(registration_->wait_settled(0ms)) << "nobody else can have its id";
  const Claimed checkpoint = claim();
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->ledger, Ledger());
  EXPECT_EQ(registration_->self().id, spool_->id());
  EXPECT_EQ(holder(), spool_->incarnations().back().id);
}

TEST_P(RegistrationTest, TakesOverFromItsOwnEarlierIncarnation) {
  ASSERT_TRUE(claim());
  const std::string before = spool_->id();
  reopen();
  begin();
  ASSERT_TRUE(claim());
  EXPECT_EQ(registration_->self().id, before);
  EXPECT_EQ(holder(), spool_->incarnations().back().id);
}

TEST_P(RegistrationTest, OfACopyWaitsWhileTheOriginalMayBeAlive) {
  ASSERT_TRUE(claim());
  const std::string original = holder();
  open_copy();
  begin();
  EXPECT_FALSE(registration_->wait_settled(0ms));
  EXPECT_FALSE(claim());
  EXPECT_FALSE(registration_->wait_settled(0ms));
  EXPECT_FALSE(health_.backoff().over());
  EXPECT_THAT(health_.status().error, HasSubstr("another incarnation of recorder " + spool_->id()));
  EXPECT_EQ(holder(), original);
}

TEST_P(RegistrationTest, OfACopyTakesOverFromAnOriginalThatStaysSilent) {
  ASSERT_TRUE(claim());
  open_copy();
  begin();
  ASSERT_FALSE(claim());
  ASSERT_TRUE(claim(kNow + kSilence));
  EXPECT_TRUE(registration_->wait_settled(0ms));
  EXPECT_EQ(holder(), spool_->incarnations().back().id);
  EXPECT_FALSE(spool_->may_be_copy());
}

TEST_P(RegistrationTest, OfACopyTakesANewIdBesideAnOriginalThatIsAlive) {
  ASSERT_TRUE(claim());
  const std::string original = spool_->id();
  open_copy();
  begin();
  ASSERT_FALSE(claim());
  execute("UPDATE council_ex_recorders SET last_seen = '2026-01-01T00:00:00.000000Z'");  // it has shown itself
  const Claimed checkpoint = claim();
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->ledger, Ledger());
  EXPECT_NE(registration_->self().id, original);
  EXPECT_EQ(registration_->self().id, spool_->id());
  EXPECT_EQ(registration_->self().origin, original) << "positions stay where they are";
  EXPECT_TRUE(registration_->wait_settled(0ms));
  EXPECT_EQ(count("recorders"), 2U);
}

TEST_P(RegistrationTest, OfASoleWriterTakesOverFromAnybody) {
  ASSERT_TRUE(claim());
  open_copy();
  begin(true);
  ASSERT_TRUE(claim());
  EXPECT_EQ(holder(), spool_->incarnations().back().id);
}

TEST_P(RegistrationTest, ReturnsTheStoresErrors) {
  execute("ALTER TABLE council_ex_recorders RENAME TO gone");
  EXPECT_FALSE(registration_->claim(*store_, kNow));
}

INSTANTIATE_TEST_SUITE_P(Recorder, RegistrationTest, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
