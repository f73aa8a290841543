#include "pg/session_effect.h"

#include <utility>

#include "pg/sql_lexer.h"

namespace carpool::pg {
namespace {

using Kind = SessionEffect::Kind;

constexpr std::pair<Kind, std::string_view> kWords[] = {
    {Kind::Set, "set"},
    {Kind::SetLocal, "set_local"},
    {Kind::SetUnknown, "set_unknown"},
    {Kind::Reset, "reset"},
    {Kind::ResetAll, "reset_all"},
    {Kind::Listen, "listen"},
    {Kind::Unlisten, "unlisten"},
    {Kind::UnlistenAll, "unlisten_all"},
    {Kind::SqlPrepare, "prepare"},
    {Kind::SqlDeallocate, "deallocate"},
    {Kind::DeallocateAll, "deallocate_all"},
    {Kind::CreateTemp, "create_temp"},
    {Kind::DropRelation, "drop"},
    {Kind::RenameRelation, "rename"},
    {Kind::DeclareHold, "declare_hold"},
    {Kind::CloseCursor, "close"},
    {Kind::CloseAllCursors, "close_all"},
    {Kind::AdvisoryLock, "advisory_lock"},
    {Kind::AdvisoryUnlock, "advisory_unlock"},
    {Kind::AdvisoryUnlockAll, "advisory_unlock_all"},
    {Kind::Load, "load"},
    {Kind::DiscardAll, "discard_all"},
    {Kind::DiscardTemp, "discard_temp"},
    {Kind::DiscardPlans, "discard_plans"},
    {Kind::DiscardSequences, "discard_sequences"},
    {Kind::Begin, "begin"},
    {Kind::Commit, "commit"},
    {Kind::Rollback, "rollback"},
    {Kind::Savepoint, "savepoint"},
    {Kind::Release, "release"},
    {Kind::RollbackTo, "rollback_to"},
    {Kind::PrepareTransaction, "prepare_transaction"},
};

// Parameters whose flat text is a list of quoted names (GUC_LIST_QUOTE): 'a, b' is one name for
// SET and two for set_config.
constexpr std::string_view kListParameters[] = {"search_path",
                                                "temp_tablespaces",
                                                "session_preload_libraries",
                                                "local_preload_libraries",
                                                "shared_preload_libraries",
                                                "unix_socket_directories"};

bool is_list_parameter(std::string_view name) {
  for (const std::string_view list : kListParameters) {
    if (name == list) return true;
  }
  return false;
}

}  // namespace

bool came_true(const SessionEffect& effect, ByteSpan row) {
  if (effect.column == 0) return true;
  if (row.empty()) return false;
  if (effect.kind != Kind::AdvisoryLock && effect.kind != Kind::AdvisoryUnlock) return true;
  Reader reader(row);
  const std::uint16_t columns = reader.u16();
  ByteSpan value;
  for (std::uint16_t i = 0; i < effect.column && effect.column <= columns; ++i) {
    const auto size = static_cast<std::int32_t>(reader.u32());
    value = size > 0 ? reader.bytes(static_cast<std::size_t>(size)) : ByteSpan();
  }
  // A boolean, as text or binary. pg_advisory_lock() answers nothing, and has the lock.
  const int answer = reader.ok() && value.size() == 1 ? value[0] : -1;
  return effect.kind == Kind::AdvisoryUnlock ? answer == 't' || answer == 1
                                             : answer != 'f' && answer != 0;
}

std::string_view to_string(Kind kind) {
  for (const auto& [known, word] : kWords) {
    if (known == kind) return word;
  }
  return "unknown";
}

std::string set_sql(std::string_view parameter, std::string_view value) {
  if (is_list_parameter(parameter)) {
    return "SELECT pg_catalog.set_config(" + quote_literal(parameter) + ", " +
           quote_literal(value) + ", false)";
  }
  if (parameter == "role") return "SET ROLE " + quote_literal(value);
  if (parameter == "session_authorization") {
    return "SET SESSION AUTHORIZATION " + quote_literal(value);
  }
  return "SET " + quote_parameter(parameter) + " TO " + quote_literal(value);
}

std::optional<std::string> value_set_by(std::string_view sql) {
  SqlLexer lexer(sql, true);
  Token token = lexer.next();
  while (!token.is('=') && !token.is("to")) {
    if (token.type == TokenType::End) return std::nullopt;
    token = lexer.next();
  }
  token = lexer.next();
  const Token behind = lexer.next();
  if (behind.type != TokenType::End && !behind.is(';')) return std::nullopt;
  if (token.type == TokenType::Word || token.type == TokenType::Number) {
    return std::string(token.text);
  }
  return decode_string(token, true);
}

std::string quote_parameter(std::string_view parameter) {
  std::string out;
  std::size_t at = 0;
  while (true) {
    const std::size_t dot = parameter.find('.', at);
    out += quote_name(parameter.substr(at, dot - at));
    if (dot == std::string_view::npos) return out;
    out.push_back('.');
    at = dot + 1;
  }
}

}  // namespace carpool::pg
