#include "net/listener.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "base/result.h"
#include "base/socket_path.h"
#include "gtest/gtest.h"
#include "support/temp_folder.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;

struct stat status_of(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

bool can_connect(const fs::path& path) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = socket_address(path.native()).value();
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// The exit status and the sentence with which it is refused; 0 when it is not.
std::pair<int, std::string> refusal_at(const fs::path& path, const std::string& group = {}) {
  try {
    Listener::at(path, 0660, group);
    return {0, ""};
  } catch (const StartError& error) {
    return {error.exit_status(), error.what()};
  }
}

class ListenerTest : public ::testing::Test {
 protected:
  void TearDown() override { ::umask(umask_); }
  TempFolder folder;
  const fs::path path = folder.path() / "events.sock";
  const mode_t umask_ = [] {
    const mode_t mask = ::umask(022);
    ::umask(mask);
    return mask;
  }();
};

TEST_F(ListenerTest, ModeIsTheConfiguredOneWhateverTheUmask) {
  for (const mode_t mask : {0U, 022U, 077U, 0777U}) {
    ::umask(mask);
    const Listener listener = Listener::at(path, 0660, "");
    EXPECT_EQ(status_of(path).st_mode & 07777U, 0660U) << mask;
    EXPECT_TRUE(can_connect(path));
  }
  ::umask(0);
  const Listener listener = Listener::at(path, 0600, "");
  EXPECT_EQ(status_of(path).st_mode & 07777U, 0600U);
}

TEST_F(ListenerTest, GroupMayBeANameOrANumber) {
  const gid_t own = ::getegid();
  const struct group* entry = ::getgrgid(own);
  ASSERT_NE(entry, nullptr);
  for (const std::string& group : {std::string(entry->gr_name), std::to_string(own)}) {
    const Listener listener = Listener::at(path, 0660, group);
    EXPECT_EQ(status_of(path).st_gid, own);
  }
  if (::geteuid() == 0) {
    const Listener listener = Listener::at(path, 0660, "12345");
    EXPECT_EQ(status_of(path).st_gid, 12345U);
  }
}

TEST_F(ListenerTest, UnknownGroupIsAMistakeOfTheConfiguration) {
  const auto [exit_status, sentence] = refusal_at(path, "no-such-group");
  EXPECT_EQ(exit_status, kExitNotThere);
  EXPECT_NE(sentence.find("no-such-group"), std::string::npos);
  EXPECT_FALSE(fs::exists(fs::symlink_status(path)));
}

TEST_F(ListenerTest, CreatesMissingFoldersWithMode0755) {
  ::umask(077);
  const Listener listener = Listener::at(folder.path() / "a" / "b" / "events.sock", 0660, "");
  EXPECT_EQ(status_of(folder.path() / "a").st_mode & 07777U, 0755U);
  EXPECT_EQ(status_of(folder.path() / "a" / "b").st_mode & 07777U, 0755U);
}

TEST_F(ListenerTest, SocketThatNobodyListensOnIsReplaced) {
  {
    const Listener killed = Listener::at(path, 0660, "");
    fs::rename(path, folder.path() / "kept");
  }
  fs::rename(folder.path() / "kept", path);  // as after kill -9: the file is there, nobody listens
  ASSERT_TRUE(fs::is_socket(path));
  EXPECT_FALSE(can_connect(path));
  const Listener listener = Listener::at(path, 0660, "");
  EXPECT_TRUE(can_connect(path));
}

TEST_F(ListenerTest, SocketOfALiveListenerIsLeftAlone) {
  const Listener live = Listener::at(path, 0660, "");
  const auto [exit_status, sentence] = refusal_at(path);
  EXPECT_EQ(exit_status, kExitNotThere);
  EXPECT_NE(sentence.find("another process listens there"), std::string::npos) << sentence;
  EXPECT_TRUE(can_connect(path));
}

// Everybody who may read the folder can lock it.
TEST_F(ListenerTest, ALockOnTheFolderDoesNotKeepItFromStarting) {
  const UniqueFd other(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  const Listener listener = Listener::at(path, 0660, "");
  EXPECT_TRUE(fs::is_socket(path));
}

TEST_F(ListenerTest, RegularFileIsLeftAlone) {
  std::ofstream(path) << "precious";
  const auto [exit_status, sentence] = refusal_at(path);
  EXPECT_EQ(exit_status, kExitNotThere);
  EXPECT_NE(sentence.find("not a socket"), std::string::npos) << sentence;
  EXPECT_EQ(fs::file_size(path), 8U);
}

TEST_F(ListenerTest, SymbolicLinkIsNotFollowed) {
  const fs::path target = folder.path() / "target";
  for (const bool dangling : {true, false}) {
    if (!dangling) {
      std::ofstream(target) << "precious";
    }
    fs::create_symlink(target, path);
    const auto [exit_status, sentence] = refusal_at(path);
    EXPECT_EQ(exit_status, kExitNotThere);
    EXPECT_NE(sentence.find("symbolic link"), std::string::npos) << sentence;
    EXPECT_TRUE(fs::is_symlink(path));
    EXPECT_EQ(fs::exists(target), !dangling);
    fs::remove(path);
  }
}

TEST_F(ListenerTest, LinkToALiveSocketIsNotFollowedEither) {
  const Listener live = Listener::at(folder.path() / "other.sock", 0660, "");
  fs::create_symlink(folder.path() / "other.sock", path);
  EXPECT_EQ(refusal_at(path).first, kExitNotThere);
}

TEST_F(ListenerTest, PathThatIsTooLongForASocketIsAMistakeOfTheConfiguration) {
  const auto [exit_status, sentence] = refusal_at(folder.path() / std::string(120, 'x'));
  EXPECT_EQ(exit_status, kExitConfiguration);
  EXPECT_NE(sentence.find("107"), std::string::npos) << sentence;
}

TEST_F(ListenerTest, FolderThatIsAFileIsRefused) {
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_EQ(refusal_at(folder.path() / "file" / "events.sock").first, kExitNotThere);
}

TEST_F(ListenerTest, RemovesItsFileButNotTheOneOfAnother) {
  {
    Listener listener = Listener::at(path, 0660, "");
    listener.remove_file();
    EXPECT_FALSE(fs::exists(path));
    const Listener another = Listener::at(path, 0660, "");
    listener.remove_file();
    EXPECT_TRUE(fs::exists(path));
  }
  Listener first = Listener::at(path, 0660, "");
  fs::remove(path);
  const Listener second = Listener::at(path, 0660, "");
  first.remove_file();
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(ListenerTest, InheritedSocketMustListenAndItsFileStays) {
  Listener outer = Listener::at(path, 0660, "");
  {
    Listener inherited = Listener::inherited(::dup(outer.fd()));
    EXPECT_GE(inherited.fd(), 0);
    inherited.remove_file();
  }
  EXPECT_TRUE(fs::exists(path));
  const UniqueFd silent(::socket(AF_UNIX, SOCK_STREAM, 0));
  const UniqueFd file(::open("/dev/null", O_RDONLY));
  EXPECT_THROW(Listener::inherited(silent.get()), StartError);
  EXPECT_THROW(Listener::inherited(file.get()), StartError);
}

}  // namespace
}  // namespace run_recorder
