// Which file systems cannot keep what a spool promises.
#include "spool/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using ::testing::HasSubstr;

TEST(FileSystem, MemoryForgetsAndANetworkIsNotReliedOn) {
  const auto tmpfs = weakness_of(0x01021994, "tmpfs");
  ASSERT_TRUE(tmpfs);
  EXPECT_EQ(tmpfs->words("/run/spool"),
            "/run/spool is on tmpfs: acknowledged events do not survive a restart of the host");
  const auto nfs = weakness_of(0x6969, "nfs4");
  ASSERT_TRUE(nfs);
  EXPECT_THAT(nfs->words("/net"), HasSubstr("/net is on nfs: locks and syncs over a network"));
  EXPECT_TRUE(weakness_of(0xff534d42, "cifs"));
  EXPECT_TRUE(weakness_of(0x01021997, "9p"));
}

TEST(FileSystem, DisksOverlaysAndLocalFuseAreFine) {
  EXPECT_FALSE(weakness_of(0xef53, "ext4"));
  EXPECT_FALSE(weakness_of(0x58465342, "xfs"));
  EXPECT_FALSE(weakness_of(0x9123683e, "btrfs"));
  EXPECT_FALSE(weakness_of(0x794c7630, "overlay"));
  EXPECT_FALSE(weakness_of(0x65735546, "fuse.fuse-overlayfs"));
  EXPECT_FALSE(weakness_of(0x65735546, ""));
  const auto sshfs = weakness_of(0x65735546, "fuse.sshfs");
  ASSERT_TRUE(sshfs);
  EXPECT_EQ(sshfs->type, "fuse.sshfs");
}

TEST(FileSystem, AFolderThatIsNotThereYetIsJudgedByTheOneAbove) {
  const auto above = weak_file_system("/proc");
  EXPECT_FALSE(above) << "no folder for a spool, but none of these kinds";
  const auto shared_memory = weak_file_system("/dev/shm");
  const auto below = weak_file_system("/dev/shm/not/there/yet");
  EXPECT_EQ(shared_memory.has_value(), below.has_value());
  EXPECT_FALSE(weak_file_system(""));
}

TEST(FileSystem, SpaceIsThatOfTheNearestFolderThatIsThere) {
  const auto below = disk_space("/proc/self/none/of/these");
  ASSERT_TRUE(below);
  EXPECT_EQ(below->path, "/proc/self");
  EXPECT_EQ(below->free_bytes, 0U) << "it is no disk";
  const auto root = disk_space("/none/of/these");
  ASSERT_TRUE(root);
  EXPECT_EQ(root->path, "/");
}

}  // namespace
}  // namespace run_recorder
