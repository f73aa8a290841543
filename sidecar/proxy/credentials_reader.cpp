#include "proxy/credentials_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace carpool::proxy {

// Shared with the thread, which fills `read` before its end is told on the loop.
struct CredentialsReader::Job {
  Job(const CredentialsPlan& p, const Bytes& s, const std::string& k)
      : plan(p), salt_secret(s), known(k) {}
  const CredentialsPlan plan;
  const Bytes salt_secret;
  const std::string known;
  ReadingProgress progress;
  CredentialsRead read;
};

CredentialsReader::CredentialsReader(net::Loop& loop, net::Aside& aside, CredentialsPlan plan,
                                     Bytes salt_secret, Told told)
    : loop_(loop),
      aside_(aside),
      plan_(std::move(plan)),
      salt_secret_(std::move(salt_secret)),
      told_(std::move(told)) {}

void CredentialsReader::read() {
  if (std::exchange(read_us_, loop_.now_us()) == loop_.now_us()) return;
  if (asked_us_ == 0) asked_us_ = loop_.now_us();
  if (jobs_.size() == kAtOnce) {
    again_ = true;
  } else {
    start();
  }
}

void CredentialsReader::start() {
  const std::uint64_t number = ++numbers_;
  auto job = std::make_shared<Job>(plan_, salt_secret_, told_fingerprint_);
  // Where there is no thread, the next read() tries again: one comes with each look at the files.
  again_ = !aside_.run(
      [job] {
        job->read = read_credentials(job->plan, job->salt_secret, job->known, job->progress);
      },
      [this, number, alive = std::weak_ptr(alive_)] {
        if (!alive.expired()) ended(number);
      });
  if (!again_) jobs_.emplace(number, std::move(job));
}

void CredentialsReader::ended(std::uint64_t number) {
  const std::shared_ptr<Job> job = std::move(jobs_.extract(number).mapped());
  if (again_) start();
  if (number < told_number_) return;  // it was overtaken
  told_number_ = number;
  const bool outstanding = again_ || (!jobs_.empty() && jobs_.rbegin()->first > number);
  asked_us_ = outstanding ? loop_.now_us() : 0;
  CredentialsRead& read = job->read;
  if (read.fingerprint == told_fingerprint_) return;
  if (!read.credentials) {  // as they were when it began, and another has told else since
    read_us_ = -1;
    return this->read();
  }
  told_fingerprint_ = read.fingerprint;
  // A copy: it may be replaced, or go together with this.
  const Told told = told_;
  told(*this, std::move(*read.credentials));
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
