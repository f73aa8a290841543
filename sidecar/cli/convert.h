// `carpool convert pgbouncer.ini [userlist.txt]`: the configuration that does what a PgBouncer's
// does, on standard output, and in it a comment for all that could not be carried over. It reads
// the two files and nothing else, and copies no secret: where PgBouncer had a password, the output
// names a file to put it in.
//
// Invariant: what it writes passes `carpool check`, with whatever environment; where the ini had a
// variable in place of a text, with that variable.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

#include "base/result.h"

namespace carpool::cli {

struct Converted {
  std::string yaml;
  int carried = 0;      // settings of the ini that stand in the output
  int not_carried = 0;  // comments that say what does not, and why
};

// `userlist` is null where none was given. An error completes "FILE: ...".
Result<Converted> convert_pgbouncer(std::string_view ini, const std::string* userlist);

// The configuration goes to `out`, a summary and errors to `err`. Returns 0, 66 where a file cannot
// be read, or 78 where one cannot be understood.
int run_convert(const std::string& ini_file, const std::string& userlist_file, std::ostream& out,
                std::ostream& err);

}  // namespace carpool::cli
