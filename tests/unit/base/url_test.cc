#include "base/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace run_recorder {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Url, IsOfTheKindItsSchemeSays) {
  EXPECT_EQ(database_kind("sqlite:/var/x.db"), DatabaseKind::kSqlite);
  EXPECT_EQ(database_kind("postgresql://h/d"), DatabaseKind::kPostgres);
  EXPECT_EQ(database_kind("postgres://h/d"), DatabaseKind::kPostgres);
  EXPECT_EQ(database_kind("mysql://h/d"), std::nullopt);
  EXPECT_EQ(database_kind("host=h dbname=d"), std::nullopt);
  EXPECT_EQ(database_kind(""), std::nullopt);
  EXPECT_EQ(sqlite_path("sqlite:/var/x.db"), "/var/x.db");
}

TEST(Url, AcceptsWhatLibpqAccepts) {
  for (const char* url :
       {"sqlite:x.db", "sqlite:/var/lib/x y.db", "postgresql://", "postgresql://h", "postgresql:///d?host=/run/pg",
        "postgresql://u@h:5432/d", "postgresql://u:p%40w@h1,h2:5433/d?target_session_attrs=read-write",
        "postgres://[::1]:5432/d", "postgres://[::1],h/d", "postgresql://u:@h/d", "postgresql://h:/d",
        "postgresql://%2Frun%2Fpg/d", "postgresql://h/d?application_name=a%20b&connect_timeout=3"}) {
    EXPECT_EQ(problem_of_url(url), std::nullopt) << url;
  }
}

TEST(Url, RefusesWhatIsMalformedWithoutQuotingIt) {
  for (const char* url : {"mysql://u:secret@h/d",
                          "host=h password=secret",
                          "sqlite:",
                          "sqlite::memory:",
                          "postgresql://u:sec/ret@h/d",
                          "postgresql://u:sec@ret@h/d",
                          "postgresql://u:12/secret@h",
                          "postgresql://u:secret%zz@h/d",
                          "postgresql://u:secret%00@h/d",
                          "postgresql://h:secret/d",
                          "postgresql://h:0/d",
                          "postgresql://h:65536/d",
                          "postgresql://[::1/d",
                          "postgresql://[::1]secret/d",
                          "postgresql://h/d?password=sec&ret",
                          "postgresql://h/d?password=sec=ret",
                          "postgresql://h/d?p%61ssword=secret",
                          "postgresql://h/d\n",
                          "sqlite:a\x01",
                          "postgresql://h/secret@d"}) {
    const std::optional<std::string> problem = problem_of_url(url);
    ASSERT_TRUE(problem) << url;
    EXPECT_THAT(*problem, Not(HasSubstr("sec"))) << url;
    if (database_kind(url) != DatabaseKind::kSqlite) {
      EXPECT_THAT(redact_url(url), Not(HasSubstr("sec"))) << url;
    }
  }
}

TEST(Url, NamesItsOptionsButNoPieceOfAPassword) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  EXPECT_THAT(option_names("postgresql://u@h/d?sslmod=require&connect_timeout=3"),
              ElementsAre("sslmod", "connect_timeout"));
  EXPECT_THAT(option_names("postgresql:///?service=app"), ElementsAre("service"));
  for (const char* url : {"postgresql://h/d", "postgresql://h/d?", "sqlite:x?mode=ro", "mysql://h/d?ssl=1", "x",
                          "postgresql://u:12/x?secret=y@h", "postgresql://h/d?a=b=c"}) {
    EXPECT_THAT(option_names(url), IsEmpty()) << url;
  }
}

TEST(Url, IsShownWithoutItsPasswords) {
  EXPECT_EQ(redact_url("postgresql://u:secret@h:5432/d"), "postgresql://u:***@h:5432/d");
  EXPECT_EQ(redact_url("postgresql://u:secret@h/d?password=other&sslmode=require&sslpassword=third"),
            "postgresql://u:***@h/d?password=***&sslmode=require&sslpassword=***");
  EXPECT_EQ(redact_url("postgresql://u@h1:1,h2:2/d?application_name=a%40b"),
            "postgresql://u@h1:1,h2:2/d?application_name=a%40b");
  EXPECT_EQ(redact_url("postgres://u:@h/d"), "postgres://u:@h/d");
  EXPECT_EQ(redact_url("sqlite:/a:b@c?password=d"), "sqlite:/a:b@c?password=d");
  EXPECT_EQ(redact_url("mysql://u:secret@h"), "mysql://***");
  EXPECT_EQ(redact_url("user=u password=secret"), "***");
  EXPECT_TRUE(has_password("postgresql://u:secret@h/d"));
  EXPECT_TRUE(has_password("postgresql://h/d?password=x"));
  EXPECT_FALSE(has_password("postgresql://u@h:5432/d"));
  EXPECT_FALSE(has_password("sqlite:/x"));
}

TEST(Url, PasswordsAreHiddenInMessagesOfDrivers) {
  const std::string url = "postgresql://u:s%23cret@h/d";
  EXPECT_EQ(without_password("cannot use \"" + url + "\"", url), "cannot use \"postgresql://u:***@h/d\"");
  EXPECT_EQ(without_password("bad token s%23cret, s#cret", url), "bad token ***, ***");
  EXPECT_EQ(without_password("nothing", url), "nothing");
  EXPECT_EQ(without_password("at postgresql://u@h/d", "postgresql://u@h/d"), "at postgresql://u@h/d");
}

TEST(Url, TakesAPasswordAsParameter) {
  EXPECT_EQ(with_password("postgresql://u@h/d", "a&b=c d%"), "postgresql://u@h/d?password=a%26b%3Dc%20d%25");
  EXPECT_EQ(with_password("postgresql://h/d?sslmode=require", "x"), "postgresql://h/d?sslmode=require&password=x");
  EXPECT_EQ(with_password("postgresql://h", "x"), "postgresql://h?password=x");
  EXPECT_EQ(with_password("postgresql://h/d?", "x"), "postgresql://h/d?password=x");
  EXPECT_EQ(problem_of_url(with_password("postgresql://u@h/d", "ä:/?#@")), std::nullopt);
  EXPECT_EQ(redact_url(with_password("postgresql://u@h/d", "a&b")), "postgresql://u@h/d?password=***");
}

// The arguments as main gets them: writable.
std::vector<std::string> hidden(std::vector<std::string> arguments) {
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  hide_passwords_in_arguments(static_cast<int>(pointers.size()), pointers.data());
  return arguments;
}

TEST(Arguments, ShowNoPasswordInTheProcessList) {
  using List = std::vector<std::string>;
  EXPECT_EQ(hidden({"x", "--database-url", "postgresql://u:secret@h/d", "--reconcile-queue-url=postgres://q:pw@h/d"}),
            (List{"x", "--database-url", "postgresql://u:******@h/d", "--reconcile-queue-url=postgres://q:**@h/d"}));
  EXPECT_EQ(hidden({"x", "--database-url=host=h password=secret"}),
            (List{"x", "--database-url=**********************"}));
  EXPECT_EQ(hidden({"x", "--database-url", "sqlite:/a", "--log-level", "info", "--database-url"}),
            (List{"x", "--database-url", "sqlite:/a", "--log-level", "info", "--database-url"}));
}

TEST(Arguments, ShowNoPasswordInTheProcessListWhateverTheFlag) {
  using List = std::vector<std::string>;
  EXPECT_EQ(hidden({"x", "--queues-mail-url", "postgresql://u:secret@h/d", "--databse=postgresql://u:pa ss@h/d"}),
            (List{"x", "--queues-mail-url", "postgresql://u:******@h/d", "--databse=postgresql://u:*****@h/d"}));
  EXPECT_EQ(hidden({"x", "postgresql://u:secret@h/d?sslpassword=third", "host=h password=secret"}),
            (List{"x", "postgresql://u:******@h/d?sslpassword=*****", "host=h password=******"}));
}

TEST(Arguments, AreQuotedInMessagesWithoutWhatMayBeAPassword) {
  EXPECT_EQ(argument_for_message("--databse-url=postgresql://u:PASSWORD@h/d"), "--databse-url=***");
  EXPECT_EQ(argument_for_message("--dbpass=PASSWORD"), "--dbpass=***");
  EXPECT_EQ(argument_for_message("postgresql://u:PASSWORD@h/d"), "postgresql://u:***@h/d");
  EXPECT_EQ(argument_for_message("postgresql://u:PASS WORD@x@h/d?password=PASSWORD"),
            "postgresql://u:***@h/d?password=***");
  EXPECT_EQ(argument_for_message("-dpostgresql://u:PASSWORD@h/d?a=b"), "-dpostgresql://u:***@h/d?a=***");
  EXPECT_EQ(argument_for_message("u:PASSWORD@h"), "u:***@h");
  EXPECT_EQ(argument_for_message("host=h user=u PASSWORD='PASS WORD' dbname=d"),
            "host=h user=u PASSWORD='***' dbname=d");
  EXPECT_EQ(argument_for_message("--chekc"), "--chekc");
  EXPECT_EQ(argument_for_message("lst\x1b[2J\xE2\x80\xAE"), "lst\\x1b[2J\\u202e");
}

TEST(Arguments, AreHiddenInMessagesOfAParser) {
  const std::vector<std::string> arguments = {"list", "--limit=postgresql://u:PASS WORD@h/d", "u:PASSWORD@h"};
  EXPECT_EQ(without_arguments_passwords("Could not convert: --limit = postgresql://u:PASS WORD@h/d", arguments),
            "Could not convert: --limit = postgresql://u:***@h/d");
  EXPECT_EQ(without_arguments_passwords("not expected: u:PASSWORD@h", arguments), "not expected: u:***@h");
  EXPECT_EQ(without_arguments_passwords("list is no number", arguments), "list is no number");
}

TEST(Url, APasswordInTheWrongSchemeIsHiddenToo) {
  EXPECT_EQ(redact_url("sqlite://u:PASSWORD@127.0.0.1/db").find("PASSWORD"), std::string::npos);
  EXPECT_EQ(redact_url("sqlite:/var/lib/run-recorder/run-recorder.db"),
            "sqlite:/var/lib/run-recorder/run-recorder.db");
  EXPECT_EQ(redact_url("sqlite:///srv/a@b.db").find("srv"), std::string::npos)
      << "it may be a password: all is hidden";
}

TEST(Url, PasswordsAreHiddenInAnyText) {
  EXPECT_EQ(hide_passwords("open postgresql://u:PASSWORD@h/d: no such file"),
            "open postgresql://u:***@h/d: no such file");
  EXPECT_EQ(hide_passwords("see https://h/a:b and mail u@h"), "see https://h/a:b and mail u@h");
  EXPECT_EQ(hide_passwords("conninfo \"password=PASSWORD host=h\""), "conninfo \"password=*** host=h\"");
  EXPECT_EQ(hide_passwords("postgresql://u@h/d"), "postgresql://u@h/d");
}

TEST(Arguments, OfTheWrappedCommandAreLeftAlone) {
  const std::vector<std::string> arguments = {"x",   "exec",           "--",
                                              "cmd", "--database-url", "postgresql://u:secret@h/d"};
  EXPECT_EQ(hidden(arguments), arguments);
}

}  // namespace
}  // namespace run_recorder
