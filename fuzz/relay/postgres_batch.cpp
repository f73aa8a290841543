// Postgres, the extended protocol.
#include <algorithm>

#include "pg/messages.h"
#include "relay/postgres.h"
#include "relay/tag.h"

namespace carpool::fuzz {
namespace {

std::size_t parameters_of(std::string_view text) {
  std::size_t most = 0;
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '$' && text[i + 1] >= '1' && text[i + 1] <= '9') {
      most = std::max<std::size_t>(most, static_cast<std::size_t>(text[i + 1] - '0'));
    }
  }
  return most;
}

}  // namespace

void Postgres::parse(ByteSpan body) {
  Reader reader(body);
  const std::string name(reader.cstring());
  const std::string text(reader.cstring());
  std::vector<std::uint32_t> types;
  const std::size_t count = reader.u16();
  for (std::size_t i = 0; i < count && reader.ok(); ++i) types.push_back(reader.u32());
  if (!reader.ok() || !reader.rest().empty()) return error("08P01", "");
  const std::string_view tag = tag_in(text);
  if (name.empty()) session_.prepared().erase("");
  const std::vector<Statement> statements = split(text);
  if (statements.size() > 1) return error("42601", tag);
  const bool ends = statements.size() == 1 && statements[0].ends_transaction();
  if (session_.status() == 'E' && !ends) return error("25P02", tag);
  session_.begin();
  if (fails(tag)) return;
  types.resize(std::max(types.size(), parameters_of(text)), kTextType);
  if (!session_.prepared().emplace(name, SqlSession::Prepared{text, types, false}).second) {
    return error("42P05", tag);
  }
  empty('1');
}

void Postgres::bind(ByteSpan body) {
  Reader reader(body);
  const std::string name(reader.cstring());
  const std::string statement(reader.cstring());
  const std::size_t formats = reader.u16();
  reader.bytes(formats * 2);
  const std::size_t values = reader.u16();
  std::string tag;
  for (std::size_t i = 0; i < values && reader.ok(); ++i) {
    const std::uint32_t size = reader.u32();
    if (size == 0xffffffff) continue;
    const std::string_view value = as_text(reader.bytes(size));
    if (tag.empty()) tag = tag_in(value);
  }
  const std::size_t results = reader.u16();
  reader.bytes(results * 2);
  if (!reader.ok() || !reader.rest().empty()) return error("08P01", tag);
  const auto found = session_.prepared().find(statement);
  if (found == session_.prepared().end()) return error("26000", tag);
  if (tag.empty()) tag = tag_in(found->second.text);
  const std::vector<Statement> statements = split(found->second.text);
  const bool ends = statements.size() == 1 && statements[0].ends_transaction();
  if (session_.status() == 'E' && !ends) return error("25P02", tag);
  if (values != found->second.types.size()) return error("08P01", tag);
  session_.begin();
  // What PostgreSQL says to have lost it has lost.
  if (failure_ == kLost) session_.prepared().erase(found);
  if (fails(tag)) return;
  if (!name.empty() && portals_.contains(name)) return error("42P03", tag);
  portals_[name] = {found->second.text, tag, false};
  empty('2');
}

void Postgres::describe(ByteSpan body) {
  Reader reader(body);
  const char kind = static_cast<char>(reader.u8());
  const std::string name(reader.cstring());
  if (!reader.ok() || !reader.rest().empty()) return error("08P01", "");
  session_.begin();
  std::string text;
  if (kind == 'S') {
    const auto found = session_.prepared().find(name);
    if (found == session_.prepared().end()) return error("26000", "");
    text = found->second.text;
  } else if (kind == 'P') {
    const auto found = portals_.find(name);
    if (found == portals_.end()) return error("34000", "");
    text = found->second.text;
  } else {
    return error("08P01", "");
  }
  const std::vector<Statement> statements = split(text);
  const bool rows = !statements.empty() && SqlSession::has_rows(statements[0]);
  if (session_.status() == 'E' && rows) return error("25P02", tag_in(text));
  if (fails(tag_in(text))) return;
  if (kind == 'S') {
    const std::vector<std::uint32_t>& types = session_.prepared().find(name)->second.types;
    const std::size_t start = pg::begin_message(out_, 't');
    append_u16(out_, static_cast<std::uint16_t>(types.size()));
    for (const std::uint32_t type : types) append_u32(out_, type);
    pg::finish_message(out_, start);
  }
  rows ? row_description() : empty('n');
}

void Postgres::execute(ByteSpan body) {
  Reader reader(body);
  const std::string name(reader.cstring());
  const std::uint32_t rows_max = reader.u32();
  if (!reader.ok() || !reader.rest().empty()) return error("08P01", "");
  const auto found = portals_.find(name);
  if (found == portals_.end()) return error("34000", "");
  const Portal portal = found->second;
  const std::vector<Statement> statements = split(portal.text);
  if (statements.empty()) return empty('I');
  const Statement& statement = statements[0];
  const bool rows = SqlSession::has_rows(statement);
  if (portal.done && !rows) return error("55000", portal.tag);
  const bool alone = !std::exchange(executed_, true);
  if (rows && rows_max > 0 && rows_max < rows_ && !portal.done && session_.status() != 'E') {
    if (fails(portal.tag)) return;
    const SqlSession::Done done = session_.run(statement, portal.tag, alone);
    if (done.sqlstate != nullptr) return error(done.sqlstate, portal.tag);
    for (std::uint32_t i = 0; i < rows_max; ++i) row(done.row);
    found->second.done = true;
    return empty('s');
  }
  found->second.done = true;
  if (portal.done) return complete("SELECT 0");
  run(statement, portal.tag, alone, false);
  if (!session_.in_transaction()) portals_.clear();
}

void Postgres::close(ByteSpan body) {
  Reader reader(body);
  const char kind = static_cast<char>(reader.u8());
  const std::string name(reader.cstring());
  if (!reader.ok() || !reader.rest().empty() || (kind != 'S' && kind != 'P')) {
    return error("08P01", "");
  }
  kind == 'S' ? session_.prepared().erase(name) : portals_.erase(name);
  empty('3');
}

}  // namespace carpool::fuzz
