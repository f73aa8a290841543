#include "proxy/credentials_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

namespace carpool::proxy {

// What threads are making of which content: no two of them the same.
struct CredentialsReader::Making {
  bool begin(const std::string& fingerprint) {
    const std::lock_guard lock(mutex);
    return fingerprints.insert(fingerprint).second;
  }
  void end(const std::string& fingerprint) {
    const std::lock_guard lock(mutex);
    fingerprints.erase(fingerprint);
  }
  std::mutex mutex;
  std::set<std::string> fingerprints;
};

// Shared with its thread, which has filled it in when its end is told on the loop.
struct CredentialsReader::Job {
  Job(const CredentialsPlan& p, const Bytes& s, bool salts, const std::string& k,
      std::shared_ptr<Making> m, Micros since)
      : plan(p),
        salt_secret(s),
        salts_known(salts),
        known(k),
        making(std::move(m)),
        since_us(since) {}

  void run() {
    const std::vector<CredentialsFile> files = read_files(plan, progress);
    fingerprint = fingerprint_of(files);
    if (fingerprint == known) return;
    if (!making->begin(fingerprint)) {
      made_by_another = true;
      return;
    }
    credentials = make_credentials(plan, files, salt_secret, progress, salts_known);
    making->end(fingerprint);
  }

  const CredentialsPlan plan;
  const Bytes salt_secret;
  const bool salts_known;
  const std::string known;
  const std::shared_ptr<Making> making;
  const Micros since_us;
  ReadingProgress progress;
  std::string fingerprint;
  std::optional<Result<Credentials>> credentials;  // none: nothing was to be made
  bool made_by_another = false;
};

CredentialsReader::CredentialsReader(net::Loop& loop, net::Aside& aside, CredentialsPlan plan,
                                     Bytes salt_secret, Told told)
    : loop_(loop),
      aside_(aside),
      plan_(std::move(plan)),
      salt_secret_(std::move(salt_secret)),
      told_(std::move(told)),
      making_(std::make_shared<Making>()) {}

void CredentialsReader::read() {
  if (std::exchange(read_us_, loop_.now_us()) == loop_.now_us()) return;
  if (asked_us_ == 0) asked_us_ = loop_.now_us();
  if (may_start()) {
    start();
  } else {
    again_ = true;
  }
}

bool CredentialsReader::may_start() const {
  const std::size_t running = jobs_.size();
  if (running == 0) return true;
  // Half of the threads are for other files, which may be good.
  if (aside_.running() >= net::Aside::kThreadsMax / 2) return false;
  if (running == 1) return true;
  // 4 s after the second, 8 s after the third, ...
  const Micros rest_us = kMicrosPerSecond << running;
  return running < kAtOnceMax && loop_.now_us() - jobs_.rbegin()->second->since_us >= rest_us;
}

void CredentialsReader::start() {
  const std::uint64_t number = ++numbers_;
  auto job = std::make_shared<Job>(plan_, salt_secret_, salts_known_, told_fingerprint_, making_,
                                   loop_.now_us());
  // Where there is no thread, the next read() tries again: one comes with each look at the files.
  again_ = !aside_.run([job] { job->run(); },
                       [this, number, alive = std::weak_ptr(alive_)] {
                         if (!alive.expired()) ended(number);
                       });
  if (!again_) jobs_.emplace(number, std::move(job));
}

void CredentialsReader::ended(std::uint64_t number) {
  const std::shared_ptr<Job> job = std::move(jobs_.extract(number).mapped());
  if (again_ && may_start()) start();
  if (job->made_by_another) {  // who will tell
    relies_on_another_ = true;
    return;
  }
  if (number < told_number_) {  // it was overtaken
    if (std::exchange(relies_on_another_, false)) read_again();
    return;
  }
  told_number_ = number;
  const bool outstanding = again_ || (!jobs_.empty() && jobs_.rbegin()->first > number);
  asked_us_ = outstanding ? loop_.now_us() : 0;
  if (job->fingerprint == told_fingerprint_) return;
  if (!job->credentials) return read_again();  // as when it began; another has told else since
  told_fingerprint_ = job->fingerprint;
  if (const Result<Credentials>& made = *job->credentials; made && !made->salt_secret.empty()) {
    salt_secret_ = made->salt_secret;
    salts_known_ = true;
  }
  // A copy: this may go together with the reader.
  const Told told = told_;
  told(*this, std::move(*job->credentials));
}

void CredentialsReader::read_again() {
  read_us_ = -1;
  read();
}

Micros CredentialsReader::reading_us() const {
  return asked_us_ == 0 ? 0 : std::max<Micros>(loop_.now_us() - asked_us_, 1);
}

std::string CredentialsReader::describe() const {
  const double taken = seconds(reading_us());
  if (jobs_.empty()) {
    return fmt::format("{}: not read for {:.0f} s, since {} other readings hang", plan_.describe(),
                       taken, aside_.running());
  }
  std::string what = jobs_.rbegin()->second->progress.what();
  if (!what.starts_with("hashing")) what = "reading " + what;
  return fmt::format("{} has taken {:.0f} s ({})", what, taken, plan_.describe());
}

}  // namespace carpool::proxy
