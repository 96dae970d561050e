// What tables of runs show, and how short.
#include "cli/run_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <clocale>

#include "cli/local_time.h"

namespace run_recorder {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Terminal kNarrow{true, false, 80};

class RunViews : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { std::setlocale(LC_CTYPE, "C.UTF-8"); }
  const Timestamp now_ = *parse_rfc3339("2026-07-02T08:04:05Z");

  std::string table_of(const std::vector<std::string>& runs, const RunLayout& layout, const Terminal& terminal) {
    RunView view(layout, terminal, now_);
    Table table(view.columns(), terminal);
    for (const std::string& run : runs) view.include(JsonObject(run));
    for (const std::string& run : runs) table.add(view.cells(JsonObject(run)));
    return table.render();
  }
};

const std::string kFailed =
    R"({"run_id":"9c8b7a6d-1111-4222-8333-444455556666","council":"nightly-backup-of-everything","status":"failed",)"
    R"("attempt":1,"started_at":"2026-07-02T08:00:00.000000Z","finalized_at":"2026-07-02T08:01:02.000000Z",)"
    R"("error":{"errors":[{"message":"connection to db1.example refused after 3 tries"}]}})";
const std::string kDone =
    R"({"run_id":"import-7","council":"import","status":"completed","attempt":2,)"
    R"("started_at":"2026-07-02T08:00:00.000000Z","finalized_at":"2026-07-02T08:00:01.500000Z"})";

TEST_F(RunViews, AtEightyColumnsNamesAndReasonsAreReadable) {
  const std::string table = table_of({kFailed}, usual_layout(), kNarrow);
  EXPECT_THAT(table, ::testing::StartsWith("RUN       NAME"));
  EXPECT_THAT(table, HasSubstr("9c8b7a6d  nightly-backup-"));
  EXPECT_THAT(table, HasSubstr("connection to db1"));
  EXPECT_THAT(table, ::testing::Not(HasSubstr("JOB")));
}

TEST_F(RunViews, IntoAPipeNothingIsCutOrLeftOut) {
  const std::string table = table_of({kFailed}, usual_layout(), Terminal{});
  for (const char* words : {"RUN ", "NAME ", "JOB", "9c8b7a6d-1111-4222-8333-444455556666",
                            "nightly-backup-of-everything", "connection to db1.example refused after 3 tries"}) {
    EXPECT_THAT(table, HasSubstr(words));
  }
}

TEST_F(RunViews, AColumnThatComesInIsTitled) {
  RunView view(usual_layout(), kNarrow, now_);
  Table table(view.columns(), kNarrow);
  table.add(view.cells(JsonObject(kDone)));
  EXPECT_THAT(table.render(), ::testing::Not(HasSubstr("NOTE")));
  table.add(view.cells(JsonObject(kDone)));
  EXPECT_THAT(table.render(), ::testing::Not(HasSubstr("NAME")));
  table.add(view.cells(JsonObject(kFailed)));
  EXPECT_THAT(table.render(), HasSubstr("NOTE"));
}

TEST_F(RunViews, ColumnsAreChosenByTheirNameOrTheRows) {
  const auto layout = layout_of("took,run_id,council,attempt");
  ASSERT_TRUE(layout);
  EXPECT_EQ(table_of({kDone}, *layout, kNarrow),
            " TOOK  RUN       NAME    ATTEMPT\n1.5 s  import-7  import        2\n");
  for (const char* names : {"", "run,", "run,nope", "RUN"}) {
    const auto refused = layout_of(names);
    ASSERT_FALSE(refused) << names;
    EXPECT_THAT(refused.error().message, HasSubstr("one of run, name, status, note")) << names;
  }
}

TEST_F(RunViews, AreSortedByAnyOfThem) {
  const std::string running =
      R"({"run_id":"r","council":"a","status":"running","started_at":"2026-07-02T08:04:00.000000Z"})";
  const std::string waiting = R"({"run_id":"w","council":"b","status":"queued"})";
  const auto sorted = [&](const char* by) {
    std::vector<std::string> runs = {waiting, kDone, kFailed, running};
    RunSorting::parse(by).value().sort(runs, now_);
    std::vector<std::string> names;
    for (const std::string& run : runs) names.push_back(JsonObject(run).text("council").substr(0, 2));
    return names;
  };
  EXPECT_THAT(sorted("took"), ElementsAre("im", "a", "ni", "b"));
  EXPECT_THAT(sorted("-took"), ElementsAre("ni", "a", "im", "b"));
  EXPECT_THAT(sorted("name"), ElementsAre("a", "b", "im", "ni"));
  EXPECT_THAT(sorted("-attempt"), ElementsAre("im", "ni", "b", "a"));
  RunLayout layout = usual_layout();
  RunSorting::parse("-took").value().show_in(layout);
  EXPECT_THAT(table_of({kFailed}, layout, kNarrow), HasSubstr("1 min 2 s"));
  EXPECT_FALSE(RunSorting::parse("nope"));
  EXPECT_FALSE(RunSorting::parse(""));
}

TEST(ShortIds, AreAsLongAsTellsThemApart) {
  ShortIds ids(kNarrow);
  ids.include("9c8b7a6d-1111-4222-8333-444455556666");
  EXPECT_EQ(ids.of("9c8b7a6d-1111-4222-8333-444455556666"), "9c8b7a6d");
  ids.include("9c8b7a6d-1121-4222-8333-444455556666");
  EXPECT_EQ(ids.of("9c8b7a6d-1121-4222-8333-444455556666"), "9c8b7a6d-112");
  ids.include("import-2026-07-02-with-a-name-of-36-c");
  EXPECT_EQ(ids.of("import-2026-07-02-with-a-name-of-36-c"), "import-2026-07-02-with-a-name-of-36-c");
  // The first eight digits of one that begins with the time are the same for a minute.
  EXPECT_EQ(ShortIds(kNarrow).of("01890a5d-ac96-774b-bcce-b302099a8057"), "01890a5d-ac96");
}

TEST(ShortIds, AreWholeInPipesAndOnWideTerminals) {
  const std::string id = "9c8b7a6d-1111-4222-8333-444455556666";
  EXPECT_EQ(ShortIds(Terminal{}).of(id), id);
  EXPECT_EQ(ShortIds(Terminal{true, true, 160}).of(id), id);
  EXPECT_EQ(ShortIds(Terminal{true, true, 159}).of(id), "9c8b7a6d");
}

}  // namespace
}  // namespace run_recorder
