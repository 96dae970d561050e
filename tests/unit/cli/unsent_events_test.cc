#include "cli/unsent_events.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/account.h"

namespace run_recorder::testing {
namespace {

class UnsentFolderTest : public ::testing::Test {
 protected:
  UnsentFolderTest() {
    char name[] = "/tmp/rr-unsent-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~UnsentFolderTest() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(UnsentFolderTest, IsBelowTheStateFolderElseTheHome) {
  const uid_t self = ::geteuid();
  EXPECT_EQ(unsent_folder({{"XDG_STATE_HOME", folder_ + "/new/state"}, {"HOME", folder_}}, self),
            folder_ + "/new/state/run-recorder/unsent");
  EXPECT_EQ(unsent_folder({{"XDG_STATE_HOME", "relative"}, {"HOME", folder_}}, self),
            folder_ + "/.local/state/run-recorder/unsent");
}

// sudo -E leaves root the folders of whoever called it.
TEST_F(UnsentFolderTest, IsNotAmongTheFilesOfAnotherUser) {
  constexpr uid_t kNobody = 65'534;
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::chown(folder_.c_str(), kNobody, kNobody), 0);
  }
  const uid_t user = root ? 0 : kNobody;
  const auto own = user_with(user);
  ASSERT_TRUE(own);
  const std::string expected = own->home + "/.local/state/run-recorder/unsent";
  EXPECT_EQ(unsent_folder({{"HOME", folder_}}, user), expected);
  EXPECT_EQ(unsent_folder({{"XDG_STATE_HOME", folder_ + "/.local/state"}, {"HOME", folder_}}, user), expected);
}

}  // namespace
}  // namespace run_recorder::testing
