// What makes, renames and drops temporary relations, and cursors that outlive a transaction.
#include <utility>

#include "pg/sql_scanner.h"

namespace carpool::pg {

void Scanner::create() {
  advance();
  if (accept("or")) accept("replace");
  if (token_.is("local") || token_.is("global")) advance();
  bool temp = is_temp(token_);
  if (temp) advance();
  accept("unlogged");
  accept("foreign");
  accept("recursive");
  const bool materialized = accept("materialized");
  const bool table = token_.is("table");
  const bool routine = token_.is("function") || token_.is("procedure");
  const bool relation = table || token_.is("view") || token_.is("sequence");
  const bool named =
      relation || routine || token_.is("type") || token_.is("domain") || token_.is("aggregate");
  std::string name;
  if (named) {
    advance();
    if (token_.is("if") && peek().is("not")) {
      advance();
      advance();
      accept("exists");
    }
    temp = temp || (is_temp_schema(token_) && peek().is('.'));
    name = take_qualified_name();
    // Names of their own kind: DROP TABLE does not end them.
    if (!relation) name.clear();
  }
  if (routine) {
    if (temp) emit(Kind::CreateTemp, std::move(name));
    // A body in SQL has statements of its own, up to the END that is not a CASE's.
    std::size_t blocks = 0;
    bool label = false;  // behind AS, where keywords are names
    while (token_.type != TokenType::End && (blocks > 0 || !at_end())) {
      const bool begins = blocks > 0 ? token_.is("case") : token_.is("begin");
      if (begins && !label && (blocks > 0 || peek().is("atomic"))) ++blocks;
      if (token_.is("end") && !label && blocks > 0) --blocks;
      label = token_.is("as");
      advance();
    }
    return;
  }
  // The bounds of a partition are computed, also of one that is made with its schema.
  if (!temp) return rest(table || materialized || token_.is("schema"), false);
  // ON COMMIT DROP is gone with its transaction.
  bool drops = false;
  const Token first = token_;
  SqlLexer ahead = lexer_;
  std::size_t depth = 0;
  for (Token token = first; token.type != TokenType::End; token = ahead.next()) {
    if (token.is('(')) ++depth;
    if (token.is(')') && depth > 0) --depth;
    if (depth == 0 && token.is(';')) break;
    if (depth == 0 && token.is("commit")) {
      SqlLexer next = ahead;
      drops = next.next().is("drop");
      break;
    }
    if (depth == 0 && (token.is("as") || token.is("select"))) break;
  }
  if (!drops) emit(Kind::CreateTemp, std::move(name));
  rest(true, false);
}

void Scanner::drop() {
  advance();
  if (!token_.is("table") && !token_.is("view") && !token_.is("sequence")) return;
  advance();
  if (accept("if")) accept("exists");
  while (is_name(token_)) {
    // A relation of another schema is not the temporary one of that name.
    const bool temp = !peek().is('.') || is_temp_schema(token_);
    std::string name = take_qualified_name();
    if (temp) emit(Kind::DropRelation, std::move(name));
    if (!token_.is(',')) break;
    advance();
  }
}

// What matters is RENAME, which takes a temporary relation's name from it.
void Scanner::alter() {
  advance();
  if (token_.is("function") || token_.is("procedure") || token_.is("routine")) return;
  if (token_.is("table") || token_.is("view") || token_.is("sequence")) {
    advance();
    if (accept("if")) accept("exists");
    if (token_.is("only") && is_name(peek())) advance();
    std::string name = take_qualified_name();
    if (token_.is('*')) advance();
    if (token_.is("rename")) emit(Kind::RenameRelation, std::move(name));
  }
  rest(true, false);
}

void Scanner::declare() {
  advance();
  std::string name = take_name();
  while (!at_end() && !token_.is("cursor")) advance();
  accept("cursor");
  if (accept("with") && token_.is("hold")) emit(Kind::DeclareHold, std::move(name));
  for_later_ = true;
  rest(true, false);
}

}  // namespace carpool::pg
