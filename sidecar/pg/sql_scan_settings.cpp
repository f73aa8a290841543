// What sets and resets parameters: SET, RESET and set_config in their spellings.
#include <optional>
#include <utility>

#include "pg/sql_scanner.h"

namespace carpool::pg {
namespace {

// They last for one transaction however they are set, or are no settings at all.
bool is_transaction_parameter(std::string_view name) {
  return name == "transaction_isolation" || name == "transaction_read_only" ||
         name == "transaction_deferrable" || name == "seed";
}

bool takes_values(const SessionEffect& effect) {
  return effect.name_parameter != 0 || effect.value_parameter != 0 || effect.local_parameter != 0;
}

std::string_view effect_name(const SessionEffect* effect) {
  return effect == nullptr ? std::string_view() : effect->name;
}

// The parameter values of a Bind: manual, "Message Formats".
class BindValues {
 public:
  struct Value {
    Value() = default;
    explicit Value(std::string known) : text(std::move(known)) {}
    std::optional<std::string> text;  // none: NULL
  };

  explicit BindValues(ByteSpan bind) {
    Reader reader(bind);
    std::uint16_t formats = reader.u16();
    for (; formats > 0 && reader.ok(); --formats) formats_.push_back(reader.u16());
    std::uint16_t count = reader.u16();
    for (; count > 0 && reader.ok(); --count) {
      const auto size = static_cast<std::int32_t>(reader.u32());
      values_.push_back(
          size < 0 ? Value()
                   : Value(std::string(as_text(reader.bytes(static_cast<std::size_t>(size))))));
    }
    ok_ = reader.ok();
  }

  // False also after one was asked for that is not there.
  bool ok() const { return ok_; }
  // A text is the same bytes in either format.
  Value text(std::uint32_t number) const {
    if (number <= values_.size()) return values_[number - 1];
    ok_ = false;
    return {};
  }
  std::optional<bool> boolean(std::uint32_t number) const {
    const Value value = text(number);
    if (!value.text) return false;
    const std::uint16_t format = formats_.empty()            ? std::uint16_t{0}
                                 : formats_.size() == 1      ? formats_[0]
                                 : number <= formats_.size() ? formats_[number - 1]
                                                             : std::uint16_t{0};
    if (format == 1) return !value.text->empty() && (*value.text)[0] != 0;
    Argument argument;
    argument.type = Argument::Type::Value;
    argument.value = *value.text;
    return boolean_of(argument);
  }

 private:
  std::vector<std::uint16_t> formats_;
  std::vector<Value> values_;
  mutable bool ok_ = false;
};

}  // namespace

void Scanner::set() {
  advance();
  bool local = false;
  if (accept("local")) {
    local = true;
  } else if (token_.is("session")) {
    const Token after = peek();
    if (after.is("characteristics")) return set_characteristics();
    if (!after.is("authorization")) advance();
  }
  const Token after = peek();
  const bool generic = after.is("to") || after.is('=') || after.is('.');
  if (!generic) {
    if (token_.is("session") && after.is("authorization")) return set_session_authorization(local);
    if (token_.is("constraints")) return;
    if (token_.is("transaction")) {
      emit(Kind::SetLocal, "transaction");
      return;
    }
    if (accept("role")) return set_values("role", local);
    if (token_.is("time") && after.is("zone")) {
      advance();
      advance();
      if (token_.is("local")) {
        emit(local ? Kind::SetLocal : Kind::Reset, "timezone");
        return;
      }
      return set_values("timezone", local);
    }
    if (accept("names")) return set_values("client_encoding", local);
    if (accept("schema")) return set_values("search_path", local);
    if (token_.is("xml") && after.is("option")) {
      advance();
      advance();
      return set_values("xmloption", local);
    }
  }
  std::string name;
  while (is_name(token_)) {
    name += to_lower(decode_name(token_));
    advance();
    if (!token_.is('.')) break;
    name.push_back('.');
    advance();
  }
  if (!token_.is('=') && !token_.is("to")) return;  // no SET that PostgreSQL takes
  advance();
  set_values(std::move(name), local);
}

void Scanner::set_session_authorization(bool local) {
  advance();
  advance();
  set_values("session_authorization", local);
}

// From the values to the end of the statement. A list of plain values is put down as literals, so
// that equal settings are equal texts and no setting of the session changes what they mean;
// anything else (an INTERVAL) as it was written.
void Scanner::set_values(std::string name, bool local) {
  const bool is_default = at_end() || token_.is("default");  // SET NAMES alone is a default, too
  if (local) {
    emit(Kind::SetLocal, std::move(name));
    return;
  }
  if (is_transaction_parameter(name)) {
    emit(Kind::SetLocal, std::move(name));
    return;
  }
  if (is_default) {
    emit(Kind::Reset, std::move(name));
    return;
  }
  std::string_view prefix;
  if (name == "role") prefix = "SET ROLE ";
  if (name == "session_authorization") prefix = "SET SESSION AUTHORIZATION ";
  std::string values;
  std::string verbatim;
  bool plain = true;
  bool want_value = true;
  TokenType before = TokenType::Symbol;
  for (; !at_end(); advance()) {
    if (values.size() + verbatim.size() > 2 * kSetSqlBytesMax) break;
    const bool comma = token_.is(',');
    if (before != TokenType::Symbol && token_.type != TokenType::Symbol) verbatim += ' ';
    verbatim += token_.text;
    before = token_.type;
    if (comma) {
      plain = plain && !want_value;
      want_value = true;
      values += ", ";
      continue;
    }
    if (token_.is('-') || token_.is('+')) {
      plain = plain && want_value;
      values += token_.text;
      continue;
    }
    plain = plain && want_value;
    want_value = false;
    const auto text = decode_string(token_, lexer_.standard_conforming_strings());
    if (text) {
      values += quote_literal(*text);
    } else if (is_name(token_)) {
      values += quote_literal(decode_name(token_));
    } else {
      plain = plain && token_.type == TokenType::Number;
      values += token_.text;
    }
  }
  plain = plain && !want_value;
  std::string sql;
  if (!prefix.empty()) {
    sql = std::string(prefix) + (plain ? values : verbatim);
  } else if (!plain && name == "timezone") {
    sql = "SET TIME ZONE " + verbatim;
  } else {
    sql = "SET " + quote_parameter(name) + " TO " + (plain ? values : verbatim);
  }
  if (!at_end() || sql.size() > kSetSqlBytesMax) {
    emit(Kind::SetUnknown, std::move(name));
  } else {
    emit(Kind::Set, std::move(name), std::move(sql));
  }
}

// SET SESSION CHARACTERISTICS AS TRANSACTION sets the defaults of the transactions to come.
void Scanner::set_characteristics() {
  const auto set_default = [this](std::string_view what, std::string_view value) {
    std::string name = "default_transaction_" + std::string(what);
    std::string sql = set_sql(name, value);
    emit(Kind::Set, std::move(name), std::move(sql));
  };
  for (; !at_end(); advance()) {
    if (token_.is("serializable")) set_default("isolation", "serializable");
    if (token_.is("repeatable")) set_default("isolation", "repeatable read");
    if (token_.is("committed")) set_default("isolation", "read committed");
    if (token_.is("uncommitted")) set_default("isolation", "read uncommitted");
    if (token_.is("only")) set_default("read_only", "on");
    if (token_.is("write")) set_default("read_only", "off");
    if (token_.is("deferrable")) set_default("deferrable", "on");
    if (token_.is("not") && peek().is("deferrable")) {
      advance();
      set_default("deferrable", "off");
    }
  }
}

void Scanner::reset() {
  advance();
  const Token after = peek();
  if (token_.is("all")) {
    emit(Kind::ResetAll);
  } else if (token_.is("session") && after.is("authorization")) {
    emit(Kind::Reset, "session_authorization");
  } else if (token_.is("time") && after.is("zone")) {
    emit(Kind::Reset, "timezone");
  } else if (token_.is("transaction") && after.is("isolation")) {
    emit(Kind::SetLocal, "transaction");
  } else {
    std::string name;
    while (is_name(token_)) {
      name += to_lower(decode_name(token_));
      advance();
      if (!token_.is('.')) break;
      name.push_back('.');
      advance();
    }
    emit(Kind::Reset, std::move(name));
  }
}

void Scanner::set_config_effect(const Call& call, bool exact) {
  using Type = Argument::Type;
  const Argument& name_at = call.arguments[0];
  const Argument& value = call.arguments[1];
  const Argument& local_at = call.arguments[2];
  std::string name;
  if (name_at.type == Type::Value) name = to_lower(name_at.value);
  const std::optional<bool> local = call.count == 3 ? boolean_of(local_at) : std::nullopt;
  if (local == std::optional<bool>(true) || is_transaction_parameter(name)) {
    emit(Kind::SetLocal, std::move(name));
    return;
  }
  const bool short_enough = value.value.size() < kSetSqlBytesMax / 4;
  const bool known = exact && call.count == 3 && !name.empty() && local;
  if (known && value.type == Type::Value && short_enough) {
    std::string sql = set_sql(name, value.value);
    emit(Kind::Set, std::move(name), std::move(sql));
    return;
  }
  if (known && value.type == Type::Null) {
    emit(Kind::Reset, std::move(name));
    return;
  }
  SessionEffect* effect = emit(Kind::SetUnknown, std::move(name));
  const bool by_values =
      exact && call.count == 3 &&
      (name_at.type == Type::Parameter || !effect_name(effect).empty()) &&
      (local_at.type == Type::Parameter || local) &&
      (value.type == Type::Parameter || (value.type == Type::Value && short_enough));
  if (effect == nullptr || !by_values) return;
  if (name_at.type == Type::Parameter) effect->name_parameter = name_at.parameter;
  if (local_at.type == Type::Parameter) effect->local_parameter = local_at.parameter;
  if (value.type == Type::Parameter) {
    effect->value_parameter = value.parameter;
  } else {
    effect->sql = value.value;
  }
}

bool wants_values(const Scan& scan) {
  for (const SessionEffect& effect : scan.effects) {
    if (takes_values(effect)) return true;
  }
  return false;
}

std::size_t bytes_of(const Scan& scan) {
  std::size_t bytes = scan.effects.size() * sizeof(SessionEffect);
  for (const SessionEffect& effect : scan.effects) bytes += effect.name.size() + effect.sql.size();
  return bytes;
}

Scan with_values(const Scan& scan, ByteSpan bind, TextEncoding encoding) {
  using Kind = SessionEffect::Kind;
  Scan out = scan;
  const BindValues values(bind);
  for (SessionEffect& effect : out.effects) {
    if (!takes_values(effect)) continue;
    const auto name = effect.name_parameter == 0 ? BindValues::Value(effect.name)
                                                 : values.text(effect.name_parameter);
    const auto value = effect.value_parameter == 0 ? BindValues::Value(effect.sql)
                                                   : values.text(effect.value_parameter);
    const std::optional<bool> local = effect.local_parameter == 0
                                          ? std::optional(effect.is_local)
                                          : values.boolean(effect.local_parameter);
    // set_config(NULL, ...) does nothing that succeeds, and a NULL for is_local means false.
    if (!values.ok() || !name.text || !local) continue;
    const bool quotable = encoding == TextEncoding::AsciiSafe ||
                          (is_ascii(*name.text) && (!value.text || is_ascii(*value.text)));
    if (!quotable) continue;
    SessionEffect told{
        .kind = Kind::Set, .statement = effect.statement, .name = to_lower(*name.text)};
    told.column = effect.column;
    if (*local || is_transaction_parameter(told.name)) {
      told.kind = Kind::SetLocal;
    } else if (!value.text) {
      told.kind = Kind::Reset;
    } else if (value.text->size() >= kSetSqlBytesMax / 4) {
      continue;
    } else {
      told.sql = set_sql(told.name, *value.text);
    }
    effect = std::move(told);
  }
  return out;
}

}  // namespace carpool::pg
