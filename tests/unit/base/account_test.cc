// Users and groups as the static tool finds them, without NSS.
#include "base/account.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/account_entries.h"
#include "support/temp_folder.h"

namespace run_recorder {
namespace {

using testing::ElementsAre;

class AccountsInFilesTest : public testing::Test {
 protected:
  AccountsInFiles accounts(const std::string& users, const std::string& groups) const {
    return AccountsInFiles(folder_.write("passwd", users), folder_.write("group", groups));
  }

 private:
  const TempFolder folder_;
};

TEST_F(AccountsInFilesTest, FindsUsersByNameAndNumber) {
  const AccountsInFiles found = accounts("root:x:0:0:root:/root:/bin/sh\nworker:x:1000:10001::/home/worker:\n", "");
  EXPECT_EQ(found.user_named("worker")->uid, 1000U);
  EXPECT_EQ(found.user_with(1000)->name, "worker");
  EXPECT_EQ(found.user_with(1000)->gid, 10001U);
  EXPECT_EQ(found.user_with(1000)->home, "/home/worker");
  EXPECT_FALSE(found.user_named("1000"));
  EXPECT_FALSE(found.user_with(1001));
}

TEST_F(AccountsInFilesTest, FindsGroupsWithTheirMembers) {
  const AccountsInFiles found =
      accounts("worker:x:1000:5::/:\n", "first:x:5:worker\none:x:6:a,worker\nother:x:7:workers\n");
  EXPECT_EQ(found.group_named("one")->gid, 6U);
  EXPECT_THAT(found.group_with(6)->members, ElementsAre("a", "worker"));
  EXPECT_FALSE(found.group_with(8));
  EXPECT_THAT(found.groups_of(*found.user_named("worker")), ElementsAre(5, 6));
}

TEST_F(AccountsInFilesTest, TakesLinesOfAnyUsualLength) {
  std::string members = "m0";
  for (int i = 1; i < 5'000; ++i) members += ",m" + std::to_string(i);
  const AccountsInFiles found = accounts("worker:x:1000:5:" + std::string(5'000, 'c') + ":/home/worker:\n",
                                         "many:x:6:" + members + "\nlast:x:7:m4999\n");
  EXPECT_EQ(found.user_named("worker")->home, "/home/worker");
  EXPECT_EQ(found.group_with(6)->members.size(), 5'000U);
  EXPECT_EQ(found.group_named("last")->gid, 7U);
}

TEST_F(AccountsInFilesTest, PassesOverLinesThatAreNone) {
  const AccountsInFiles found = accounts("\n# worker\nworker:x:many:5::/:\nworker:x:1000:5::/:\n", "");
  EXPECT_EQ(found.user_named("worker")->uid, 1000U);
}

TEST(AccountsInFiles, WithoutTheFilesThereIsNobody) {
  const AccountsInFiles found("/does/not/exist", "/does/not/exist");
  EXPECT_FALSE(found.user_with(0));
  EXPECT_FALSE(found.group_named("root"));
}

TEST(AccountsInFiles, AgreesWithTheHostAboutItsFiles) {
  for (const uid_t uid : {0U, 1U, ::getuid()}) {
    const auto in_file = AccountsInFiles().user_with(uid);
    if (!in_file) continue;  // from elsewhere
    const auto by_nss = AccountsByNss().user_with(uid);
    ASSERT_TRUE(by_nss);
    EXPECT_EQ(in_file->name, by_nss->name);
    EXPECT_EQ(in_file->gid, by_nss->gid);
    EXPECT_EQ(in_file->home, by_nss->home);
    EXPECT_EQ(user_with(uid)->home, by_nss->home);
    EXPECT_THAT(AccountsInFiles().groups_of(*in_file), testing::IsSubsetOf(groups_of(uid)));
  }
}

}  // namespace
}  // namespace run_recorder
