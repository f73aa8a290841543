// An application's DATABASE_URL as libpq can take it: frameworks write the driver into the scheme
// and parameters of their own behind the `?`, and a Secret made with `echo` ends in a line feed.
//
// It never guesses: a parameter that is nearly one of libpq's stays, so that the misspelling is
// told, and so does the scheme of another database system. Whoever takes a url from people or from
// the environment calls it first; what is behind that knows libpq's form alone.
//
// Source: the manuals of SQLAlchemy, Django and dj-database-url, GeoDjango, Rails, Prisma,
// Doctrine.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace carpool::config {

struct PlainUrl {
  std::string url;
  std::vector<std::string> left_out;  // names of parameters that are not for libpq
};

PlainUrl plain_url(std::string_view url);

// What is to be said of parameters that were left out.
std::string left_out_warning(const std::vector<std::string>& names);

}  // namespace carpool::config
