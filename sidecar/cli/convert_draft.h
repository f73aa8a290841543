// The configuration that `carpool convert` is making: which key gets which value and what that
// comes from, and a note for all that gets none. It knows Carpool's keys and YAML, and nothing of
// PgBouncer's.
//
// Invariant: every value it holds was accepted by its key; a value that was not is a note.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/keys.h"
#include "config/load.h"

namespace carpool::cli {

// How a value is written in PgBouncer's files.
enum class As : std::uint8_t {
  Text,     // as ours
  Seconds,  // a number of seconds, perhaps with a fraction
  File,     // a path, which is another in a pod
};

struct Line {
  std::string text;  // as YAML
  std::string from;  // what it comes from
};
using Lines = std::map<std::string, Line>;  // by the key's path

class Draft {
 public:
  struct Database {
    std::string name;
    Lines lines;
    bool own_user = false;                         // servers are opened as a user of its own
    std::optional<std::uint64_t> connections_max;  // its own max_db_connections; 0: none
  };

  // The sections above `databases`. Whoever writes to it answers for the value's form.
  Lines lines;
  std::vector<Database> databases;
  int carried = 0;  // settings that stand in the output

  // Takes `text` over as the key `path`, or notes why that cannot be. A number or a time that is a
  // variable gets our default, in case that it is not set.
  void carry(Lines& to, const std::string& path, As as, const std::string& text,
             const std::string& from);
  // Once, however often it is said.
  void note(std::string text);
  std::size_t notes() const { return notes_.size(); }

  // The same for a file, whose place in a pod is the mounted Secret.
  void carry_file(Lines& to, const std::string& path, const std::string& file,
                  const std::string& from);

  // Sets a line, and names what stood there before.
  static void replace(Lines& lines, const std::string& path, const std::string& text,
                      const std::string& from);

  // Turns what the loader refuses, such as a minimum above the size, into a note. False: it is
  // nothing that stands here.
  bool drop_refused(const config::Problem& problem);

  std::string yaml() const;

  // Variables that stand in the output without a default.
  bool needs(const std::string& variable) const { return variables_.contains(variable); }

 private:
  void carry_variable(Lines& to, const config::Key& key, As as, const std::string& text,
                      const std::string& from);

  std::vector<std::string> notes_;
  std::set<std::string> variables_;
  std::map<std::string, std::string> files_;  // names in the Secret, and which file each is
};

// Where the charts, the components and `carpool inject` mount the Secret.
inline constexpr const char* kSecretDirectory = "/etc/carpool-secrets";

// A text as YAML that means exactly that text.
std::string yaml_text(std::string_view text);
// Whether a text is one ${VARIABLE} or ${VARIABLE:-default}, which whatever writes PgBouncer's file
// fills in, and Carpool itself.
bool is_variable(std::string_view text);
// Without what would end a comment.
std::string one_line(std::string_view text);

}  // namespace carpool::cli
