// CredentialsReader: reads the files of one CredentialsPlan, again and again, on threads that may
// hang for ever, and tells on the loop what has become of them. It decides nothing: who owns it
// takes the credentials over, or leaves the old ones in force.
//
//   read() --> a thread each, two at once --> told, unless a later reading was told before
//
// Where one hangs, the next overtakes it; what comes of the older one is then dropped. Where two
// hang, others overtake them, more and more seldom, up to kAtOnceMax and to half of the threads
// that there are, so that the files of another plan can be read. A read() for which there is no
// thread is made up for when one ends, or by the next read(), so that the last content is told.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "net/aside.h"
#include "net/loop.h"
#include "proxy/credentials.h"

namespace carpool::proxy {

class CredentialsReader {
 public:
  static constexpr std::size_t kAtOnceMax = 8;
  // Only where they differ from what was told before. It may destroy the reader.
  using Told = std::function<void(CredentialsReader&, Result<Credentials>)>;

  // `loop` and `aside` must outlive it.
  CredentialsReader(net::Loop& loop, net::Aside& aside, CredentialsPlan plan, Bytes salt_secret,
                    Told told);
  CredentialsReader(const CredentialsReader&) = delete;
  CredentialsReader& operator=(const CredentialsReader&) = delete;

  const CredentialsPlan& plan() const { return plan_; }
  // The files may have changed. Never calls `told` from inside; once a turn of the loop is enough.
  void read();
  // How long what was asked for has been outstanding; 0: it is told.
  Micros reading_us() const;
  // What is being read, and for how long: "reading auth.usersFile /a has taken 12 s".
  std::string describe() const;

 private:
  struct Making;
  struct Job;
  bool may_start() const;
  void start();
  void ended(std::uint64_t number);
  void read_again();

  net::Loop& loop_;
  net::Aside& aside_;
  const CredentialsPlan plan_;
  Bytes salt_secret_;         // of the latest that were good
  bool salts_known_ = false;  // there were some
  const Told told_;
  const std::shared_ptr<Making> making_;
  std::map<std::uint64_t, std::shared_ptr<Job>> jobs_;  // that run, by number; later is greater
  std::uint64_t numbers_ = 0;
  std::uint64_t told_number_ = 0;   // the latest that was told
  std::string told_fingerprint_;    // of what was told last; empty: nothing yet
  bool again_ = false;              // a read() that could not be begun
  bool relies_on_another_ = false;  // one found that what it read was being made already
  Micros read_us_ = -1;             // the turn of the last read()
  Micros asked_us_ = 0;             // when what is outstanding was asked for; 0: nothing is
  std::shared_ptr<int> alive_ = std::make_shared<int>();  // for what comes later
};

}  // namespace carpool::proxy
