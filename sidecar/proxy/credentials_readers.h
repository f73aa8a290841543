// CredentialsReaders: reads the files of a CredentialsPlan, each part of them by a
// CredentialsReader of its own, so that a certificate that hangs or is broken does not keep
// somebody in the users' file who was taken out of it, nor a broken users' file an old certificate
// in use.
//
//   read() --> a reader for each part of the plan --> told of that part
//
// It decides nothing: who owns it takes a part over alone, or waits for all of them.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "net/aside.h"
#include "net/loop.h"
#include "proxy/credentials.h"
#include "proxy/credentials_reader.h"

namespace carpool::proxy {

class CredentialsReaders {
 public:
  // What is new of that part stands in last(). It may destroy the readers.
  using Told = std::function<void(CredentialsReaders&, CredentialsPart)>;

  // As those of a CredentialsReader.
  CredentialsReaders(net::Loop& loop, net::Aside& aside, CredentialsPlan plan,
                     const Bytes& salt_secret, Told told);
  CredentialsReaders(const CredentialsReaders&) = delete;
  CredentialsReaders& operator=(const CredentialsReaders&) = delete;

  const CredentialsPlan& plan() const { return plan_; }
  void read();
  // Of that which has been outstanding for longest.
  Micros reading_us() const;
  std::string describe() const;

  // Nothing before it was told of, and once it is forgotten.
  const std::optional<Result<Credentials>>& last(CredentialsPart part) const {
    return part_of(part).last;
  }
  // Of all parts together: nothing until each has been read; an error where one of them is bad.
  std::optional<Result<Credentials>> all() const;
  // What was read is in force, and kept there.
  void forget();

 private:
  struct Part {
    std::unique_ptr<CredentialsReader> reader;  // null: the plan has none of it
    std::optional<Result<Credentials>> last;
  };
  const Part& part_of(CredentialsPart part) const { return parts_[static_cast<std::size_t>(part)]; }
  const CredentialsReader* latest() const;

  const CredentialsPlan plan_;
  const Told told_;
  std::array<Part, kCredentialsParts.size()> parts_;
};

}  // namespace carpool::proxy
