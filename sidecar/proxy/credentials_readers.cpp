#include "proxy/credentials_readers.h"

#include <utility>

namespace carpool::proxy {

CredentialsReaders::CredentialsReaders(net::Loop& loop, net::Aside& aside, CredentialsPlan plan,
                                       const Bytes& salt_secret, Told told)
    : plan_(std::move(plan)), told_(std::move(told)) {
  for (const CredentialsPart part : kCredentialsParts) {
    const CredentialsPlan alone = plan_.part(part);
    if (!alone.needs_files()) continue;
    Part& mine = parts_[static_cast<std::size_t>(part)];
    mine.reader = std::make_unique<CredentialsReader>(
        loop, aside, alone, salt_secret,
        [this, part, &mine](CredentialsReader&, Result<Credentials> credentials) {
          mine.last = std::move(credentials);
          // A copy: this may go.
          const Told tell = told_;
          tell(*this, part);
        });
  }
}

void CredentialsReaders::read() {
  for (const Part& part : parts_) {
    if (part.reader != nullptr) part.reader->read();
  }
}

const CredentialsReader* CredentialsReaders::latest() const {
  const CredentialsReader* latest = nullptr;
  for (const Part& part : parts_) {
    const CredentialsReader* reader = part.reader.get();
    if (reader == nullptr) continue;
    if (latest == nullptr || reader->reading_us() > latest->reading_us()) latest = reader;
  }
  return latest;
}

Micros CredentialsReaders::reading_us() const {
  const CredentialsReader* reader = latest();
  return reader == nullptr ? 0 : reader->reading_us();
}

std::string CredentialsReaders::describe() const {
  const CredentialsReader* reader = latest();
  return reader == nullptr ? "" : reader->describe();
}

std::optional<Result<Credentials>> CredentialsReaders::all() const {
  for (const Part& part : parts_) {
    if (part.reader != nullptr && part.last && !*part.last) return *part.last;
  }
  Credentials all = Credentials::without_files(plan_);
  for (const CredentialsPart part : kCredentialsParts) {
    if (part_of(part).reader == nullptr) continue;
    if (!last(part)) return std::nullopt;
    all.take(part, **last(part));
  }
  return Result<Credentials>(std::move(all));
}

void CredentialsReaders::forget() {
  for (Part& part : parts_) part.last.reset();
}

}  // namespace carpool::proxy
