// ServerSession, the replies: what came true of the requests, and what did not.
#include "base/check.h"
#include "pg/error_response.h"
#include "proxy/session.h"

namespace carpool::proxy {

using Kind = pg::SessionEffect::Kind;

namespace {

constexpr std::string_view kChanged = "cached plan must not change result type";
constexpr std::string_view kChangedRoutine = "RevalidateCachedQuery";

bool is_lost(std::string_view sqlstate) {
  return sqlstate == pg::sqlstate::kInvalidSqlStatementName;
}

// The message could not be converted from the client's encoding, and so was not looked at; or a
// string in it, which is later.
bool may_be_unread(std::string_view sqlstate) {
  return sqlstate == pg::sqlstate::kCharacterNotInRepertoire ||
         sqlstate == pg::sqlstate::kUntranslatableCharacter;
}

bool has_changed(std::string_view sqlstate, std::string_view message) {
  // A server that translates its messages (lc_messages) is not understood: its error is passed on.
  return sqlstate == pg::sqlstate::kFeatureNotSupported &&
         message.find(kChanged) != std::string_view::npos;
}

}  // namespace

void ServerSession::apply(const pg::SessionEffect& effect, ClientSession* client) {
  follower_.apply(effect);
  if (client != nullptr) {
    const bool was_pinned = client->pins.any();
    client->follower.apply(effect);
    client->pins.apply(effect, reported_);
    if (!was_pinned && client->pins.any()) {
      counters_.pins[static_cast<std::size_t>(client->pin_cause())]++;
    }
  }
  switch (effect.kind) {
    case Kind::Load:
      tainted_ = true;
      break;
    case Kind::SqlDeallocate:
      forget_by_name(effect.name);
      break;
    case Kind::DiscardAll:
    case Kind::DeallocateAll:
      // Not the unnamed one: PostgreSQL's DropAllPreparedStatements() leaves it.
      statements_.clear();
      if (client != nullptr) {
        client->statements.clear();
        if (effect.kind == Kind::DiscardAll) client->pinned_by_setting = false;
      }
      break;
    default:
      break;
  }
}

void ServerSession::forget_by_name(std::string_view server_name) {
  if (const pg::StatementRef statement = statements_.find_name(server_name)) {
    statements_.forget(*statement.get());
  }
}

void ServerSession::row(ByteSpan body) {
  Pending* pending = find_pending(tracker_.front_tag());
  if (pending == nullptr || pending->scan == nullptr) return;
  // No columns: there was a row, and what it says is not known.
  const Bytes unknown = {0, 0};
  if (body.empty() || body.size() > kRowBytesMax) body = unknown;
  for (const pg::SessionEffect& effect : pending->scan->effects) {
    if (effect.column == 0 || effect.statement != pending->statements_done) continue;
    pending->row.assign(body.begin(), body.end());
    return;
  }
}

void ServerSession::completed(const pg::ReplyTracker::Entry& entry, ClientSession* client) {
  Pending* pending = find_pending(entry.tag);
  if (pending == nullptr || pending->scan == nullptr) return;
  // A text of several statements is told of one by one.
  for (const pg::SessionEffect& effect : pending->scan->effects) {
    if (effect.statement != pending->statements_done) continue;
    if (pg::came_true(effect, pending->row)) apply(effect, client);
  }
  pending->row.clear();
  pending->statements_done++;
}

void ServerSession::described(char type, ByteSpan body) {
  Pending* pending = find_pending(tracker_.front_tag());
  if (pending != nullptr && pending->describes) pending->shape = pg::result_shape(type, body);
}

pg::StatementRef ServerSession::statement_of(const pg::ReplyTracker::Entry& entry) {
  if (entry.tag == kForeignTag) return {};
  if ((entry.tag & kBindTag) != 0) return statements_.find_id(entry.tag & ~kBindTag);
  const Pending* pending = find_pending(entry.tag);
  return pending != nullptr && pending->describes ? pending->statement : pg::StatementRef();
}

bool ServerSession::can_heal(const pg::ReplyTracker::Entry& entry, std::string_view sqlstate,
                             std::string_view message) {
  // What came before it in the transaction, or behind it in a pipeline, would be out of order.
  if (batch_state_ != Batch::Whole || !tracker_.owes_only_sync() || tracker_.status() != 'I') {
    return false;
  }
  if (!is_lost(sqlstate) && !has_changed(sqlstate, message)) return false;
  if (!statement_of(entry)) return false;
  return is_lost(sqlstate) || batch_takes_any_;
}

Bytes ServerSession::take_batch() {
  batch_state_ = Batch::None;
  tracker_.swallow_sync();
  return std::move(batch_);
}

std::optional<ServerSession::Instead> ServerSession::failed(const pg::ReplyTracker::Entry& entry,
                                                            ClientSession* client,
                                                            std::string_view sqlstate,
                                                            std::string_view message) {
  const Pending* pending = find_pending(entry.tag);
  const bool deallocates =
      entry.request == pg::Request::Query && pending != nullptr && pending->closes;
  std::optional<Instead> instead;
  if (pending != nullptr && pending->changed) {
    if (is_lost(sqlstate)) {
      instead = {pg::sqlstate::kFeatureNotSupported, std::string(kChanged), kChangedRoutine};
    }
  } else if (is_lost(sqlstate) || has_changed(sqlstate, message)) {
    // Every server's plan for it is old, or gone: each prepares it again before its next use.
    pg::StatementRef statement = statement_of(entry);
    if (!statement && (entry.tag & kBindTag) == 0) statement = unnamed_;
    if (statement) statement->version++;
  }
  if (pending != nullptr && pending->refused &&
      sqlstate == pg::sqlstate::kDuplicatePreparedStatement) {
    instead = {sqlstate, "prepared statement \"" + pending->name + "\" already exists", {}};
  }
  if (pending != nullptr && pending->scan != nullptr && client != nullptr) {
    std::vector<pg::SessionEffect> effects;
    for (const pg::SessionEffect& effect : pending->scan->effects) {
      if (effect.statement == pending->statements_done) effects.push_back(effect);
    }
    client->pins.apply_failed(effects);
  }
  follower_.on_error();
  if (client != nullptr) {
    client->follower.on_error();
    client->pins.on_error();
  }
  // Of a simple query more replies come; the others are over.
  undo_skipped(client);
  const bool unread = may_be_unread(sqlstate);
  if (entry.request != pg::Request::Query || deallocates) {
    undo(entry, client, !unread);
  } else if (unread) {
    keep_unnamed(entry, client);
  }
  return instead;
}

void ServerSession::keep_unnamed(const pg::ReplyTracker::Entry& query, ClientSession* client) {
  if (unnamed_) return;  // a later one is under way
  unnamed_unknown_ = true;
  const Pending* pending = find_pending(query.tag);
  if (pending == nullptr || !pending->unnamed || (client != nullptr && client->unnamed)) return;
  unnamed_ = pending->server_had;
  unnamed_version_ = unnamed_ ? unnamed_->version : 0;
  if (client != nullptr) client->unnamed = pending->statement;
}

void ServerSession::lose_unnamed(ClientSession* client) {
  for (Pending& later : pending_) {
    if (!later.unnamed) continue;
    if (client != nullptr) later.statement = {};
    later.server_had = {};
    return;
  }
  unnamed_ = {};
  unnamed_unknown_ = true;
  if (client != nullptr) client->unnamed = {};
}

// Backwards: of several that change one name, what was before the first is what is left.
void ServerSession::undo_skipped(ClientSession* client) {
  for (std::size_t i = skipped_.size(); i > 0; --i) undo(skipped_[i - 1], client, false);
  skipped_.clear();
}

void ServerSession::undo(const pg::ReplyTracker::Entry& entry, ClientSession* client, bool failed) {
  Pending* pending = find_pending(entry.tag);
  if (pending != nullptr && pending->asks) asking_ = false;
  if (pending != nullptr && pending->unnamed) {
    // A Parse that fails leaves no unnamed statement; one that is skipped leaves the one before it.
    unnamed_ = failed ? pg::StatementRef() : pending->server_had;
    unnamed_version_ = unnamed_ ? unnamed_->version : 0;
    unnamed_unknown_ = unnamed_unknown_ || !unnamed_;
    if (client != nullptr && !entry.ours) {
      client->unnamed = failed ? pg::StatementRef() : pending->statement;
    }
    return drop_pending(entry.tag);
  }
  switch (entry.request) {
    case pg::Request::Parse:
      if (entry.tag == kForeignTag || (pending != nullptr && pending->refused)) break;
      if (pending == nullptr) {
        lose_unnamed(entry.ours ? nullptr : client);
        break;
      }
      statements_.forget(*pending->statement.get());
      if (client != nullptr && !entry.ours) client->statements.erase(pending->name);
      break;
    case pg::Request::Local:
      // What was answered in the client's name is not so: PostgreSQL skips to the Sync.
      if (pending == nullptr || client == nullptr || !pending->statement) break;
      if (pending->closes) {
        client->statements.set(pending->name, pending->statement);
      } else {
        client->statements.erase(pending->name);
      }
      break;
    case pg::Request::Query:  // a DEALLOCATE
      if (pending == nullptr || !pending->closes) break;
      if (pending->server_had) statements_.restore(pending->server_had, pending->version);
      if (client != nullptr) client->statements.set(pending->name, pending->statement);
      break;
    case pg::Request::Close:
      // One of ours that was not carried out: the server still has it.
      if (pending != nullptr && pending->closes) {
        statements_.restore(pending->statement, pending->version);
      }
      break;
    default:
      break;
  }
  drop_pending(entry.tag);
}

void ServerSession::ended(const pg::ReplyTracker::Entry& entry, ClientSession* client) {
  const Pending* pending = find_pending(entry.tag);
  if (pending != nullptr && pending->refused) {
    // The name had become free, and what is now under the one that stands for it is the client's.
    if (client != nullptr && pending->statement) {
      client->statements.set(pending->name, pending->statement);
    }
    if (tables_.stand_in) tables_.stand_in->version++;
  }
  if (pending != nullptr && pending->describes) {
    if (pending->asks) asking_ = false;
    if (pending->shape != pg::kShapeUnknown) {
      statements_.set_shape(*pending->statement.get(), pending->version, pending->shape);
      if (client != nullptr && !pending->asks) {
        client->statements.tell(pending->name, pending->statement, pending->shape);
      }
    }
  }
  drop_pending(entry.tag);
}

void ServerSession::ready(char status, ClientSession* client) {
  undo_skipped(client);
  follower_.settle(now_);
  follower_.on_ready(status);
  if (tracker_.idle()) {
    // Not those of a batch that has been sent meanwhile: their Execute may be still to come.
    if (status == 'I') portals_.clear();
    reading_changes_ = encoding_changes_ = false;
    if (status == 'I') reading_ends_ = reading_unseen_ = false;
  }
  if (client == nullptr) return;
  client->follower.settle(now_);
  client->follower.on_ready(status);
  client->pins.on_ready(status);
}

void ServerSession::parameter(std::string_view name, std::string_view value,
                              ClientSession* client) {
  now_.set(name, value);
  if (tracker_.front_is_our_query()) return;  // known once it is done
  if (follower_.expects(name, value, reported_)) return;
  follower_.learn(name, value, reported_);
  if (client != nullptr) client->follower.learn(name, value, reported_);
}

void ServerSession::own_query_done(std::string_view sql) {
  const pg::Scan scan = pg::scan(sql);
  for (const pg::SessionEffect& effect : scan.effects) apply(effect, nullptr);
  // What the server says of itself counts for more.
  for (const auto& [name, value] : now_.values()) {
    if (!follower_.expects(name, value, reported_)) follower_.learn(name, value, reported_);
  }
}

Bytes ServerSession::local_answer(const pg::ReplyTracker::Entry& entry, bool* ends_query) {
  Pending* pending = find_pending(entry.tag);
  CHECK(pending != nullptr);
  Bytes bytes = std::move(pending->answer);
  *ends_query = pending->ends_query;
  drop_pending(entry.tag);
  return bytes;
}

}  // namespace carpool::proxy
