#include "cli/own_place.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

TEST(UnitOf, IsTheUnitOfTheCgroup) {
  EXPECT_EQ(systemd_unit_of("0::/system.slice/backup.service\n"), "backup.service");
  EXPECT_EQ(systemd_unit_of("0::/system.slice/system-report.slice/report@1.service/inner\n"), "report@1.service");
  EXPECT_EQ(systemd_unit_of("0::/user.slice/user-1000.slice/user@1000.service/app.slice/job.service\n"),
            "job.service");
  EXPECT_EQ(systemd_unit_of("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n"), "init.scope");
  EXPECT_EQ(systemd_unit_of("0::/user.slice/user-1000.slice/user@1000.service\n"), "user@1000.service");
  EXPECT_EQ(systemd_unit_of("0::/system.slice/worker.service/payload.service\n"), "worker.service");
  EXPECT_EQ(systemd_unit_of("0::/machine.slice/machine-m.scope/payload/system.slice/in.service\n"),
            "machine-m.scope");
  EXPECT_EQ(systemd_unit_of("0::/user.slice/user-1000.slice/session-3.scope\n"), "session-3.scope");
  EXPECT_EQ(systemd_unit_of("0::/system.slice/_a.service\n"), "a.service");
  EXPECT_EQ(systemd_unit_of("0::/system.slice/a\\x2db:c.service"), "a\\x2db:c.service");
}

TEST(UnitOf, IsTakenFromSystemdsHierarchyWhereThereAreSeveral) {
  EXPECT_EQ(
      systemd_unit_of("12:cpu,cpuacct:/other.service\n1:name=systemd:/system.slice/cron.service\n0::/gone.scope\n"),
      "cron.service");
  EXPECT_EQ(systemd_unit_of("12:cpu,cpuacct:/other.service\n0::/system.slice/cron.service\n"), "cron.service");
}

TEST(UnitOf, IsNoneOutsideOfUnits) {
  for (const char* text : {"", "0::/\n", "0::/user.slice\n", "0::/docker/0123\n", "0::/.service\n", "nonsense\n",
                           "3:cpu:/a.service\n", "0:a.service"}) {
    EXPECT_EQ(systemd_unit_of(text), std::nullopt) << text;
  }
  EXPECT_EQ(systemd_unit_of("0::/" + std::string(260, 'x') + ".service\n"), std::nullopt);
}

TEST(OwnPlace, KnowsTheUserAndTheFolder) {
  const OwnPlace place = own_place();
  EXPECT_TRUE(place.user);
  ASSERT_TRUE(place.cwd);
  EXPECT_TRUE(place.cwd->starts_with('/'));
}

}  // namespace
}  // namespace run_recorder
