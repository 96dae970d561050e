#include "database/pg_policies.h"

#include <fmt/format.h>

namespace run_recorder {
namespace {

// A policy without USING shows nothing where it is permissive, and hides nothing where it is restrictive.
constexpr const char* kHides =
    "WITH policy AS (SELECT p.polcmd AS command, p.polpermissive AS permissive, "
    "pg_get_expr(p.polqual, p.polrelid) AS shows FROM pg_policy p WHERE p.polrelid = to_regclass($1) "
    "AND (0 = ANY (p.polroles) OR EXISTS (SELECT 1 FROM unnest(p.polroles) role "
    "WHERE role <> 0 AND pg_has_role(role, 'USAGE')))) "
    "SELECT row_security_active(c.oid) AND EXISTS (SELECT 1 FROM unnest($2::text[]) wanted "
    "WHERE NOT EXISTS (SELECT 1 FROM policy WHERE permissive AND command::text IN ('*', wanted) AND shows = 'true') "
    "OR EXISTS (SELECT 1 FROM policy WHERE NOT permissive AND command::text IN ('*', wanted) AND shows <> 'true')) "
    "FROM pg_class c WHERE c.oid = to_regclass($1) AND c.relrowsecurity";

}  // namespace

Result<bool> policies_may_hide_rows(PgConnection& connection, const std::string& table, std::string_view commands) {
  const auto rows = connection.exec(kHides, {table, commands});
  if (!rows) return rows.error();
  return !rows->empty() && (*rows)[0][0].c_str()[0] == 't';
}

std::string advice_for_hidden_rows(std::string_view table) {
  return fmt::format(
      "row level security may hide rows of {0} from this role: give the role BYPASSRLS, or a policy that shows every "
      "row (CREATE POLICY … ON {0} TO … USING (true))",
      table);
}

}  // namespace run_recorder
