#include "config/url.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "config/text.h"

namespace carpool::config {
namespace {

bool is_secret(std::string_view name) {
  const LibpqParameter* parameter = find_parameter(name);
  return parameter != nullptr && parameter->secret;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// `what` names the part for the error.
Result<std::string> percent_decoded(std::string_view text, std::string_view what) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    int high = i + 1 < text.size() ? hex_value(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return Error{
          fmt::format("the {} has a `%` without two hexadecimal digits; write `%25` for a "
                      "percent sign",
                      what)};
    }
    if (high == 0 && low == 0) return Error{fmt::format("the {} holds a %00", what)};
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

Status check_ports(std::string_view ports) {
  while (true) {
    std::size_t comma = ports.find(',');
    std::string_view port = ports.substr(0, comma);
    std::optional<int> number = libpq_number(port);
    // An empty one is libpq's default.
    if (!port.empty() && (!number || *number < 1 || *number > 65535)) {
      // Not quoted: behind an unescaped `@` or `/` it may be the end of a password.
      return Error{
          "the port is not a number from 1 to 65535 (in a password, `@`, `:`, `/`, `?` "
          "and `#` have to be percent-encoded)"};
    }
    if (comma == std::string_view::npos) return Ok{};
    ports.remove_prefix(comma + 1);
  }
}

Error unknown_parameter(const std::string& name, const Libpq& libpq) {
  if (const LibpqParameter* parameter = find_parameter(name)) {
    return Error{fmt::format("`{}` is a parameter of libpq {} and later, and this is libpq {}",
                             name, parameter->since, libpq.version)};
  }
  std::vector<std::string> known;
  for (const LibpqParameter& parameter : libpq_parameters()) known.emplace_back(parameter.name);
  std::string meant = nearest_name(name, known);
  return Error{fmt::format("{} is not a parameter that libpq knows{}", quote(name),
                           meant.empty() ? "" : fmt::format("; did you mean `{}`?", meant))};
}

// Takes one string apart, for one libpq.
class Parser {
 public:
  // `libpq` must outlive this object.
  explicit Parser(const Libpq& libpq) : libpq_(libpq) {}

  Result<UrlParts> parse_uri(std::string_view rest);
  Result<UrlParts> parse_keywords(std::string_view text);

 private:
  Result<std::string> decode(std::string_view text, std::string_view what) const;
  Status add(const std::string& name, std::string value);
  Status add_hosts(std::string_view authority);
  Status add_query(std::string_view query);

  const Libpq& libpq_;
  UrlParts parts_;
};

// Since 18 libpq leaves out the spaces around a part, and takes none inside.
Result<std::string> Parser::decode(std::string_view text, std::string_view what) const {
  if (libpq_.version < 18) return percent_decoded(text, what);
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  if (text.find(' ') != std::string_view::npos) {
    return Error{fmt::format("the {} holds a space; write `%20`", what)};
  }
  return percent_decoded(text, what);
}

Status Parser::add(const std::string& name, std::string value) {
  // The older way to say it, which libpq's list of parameters does not have.
  if (name == kRequireSsl) return add("sslmode", asks_for_tls(value) ? "require" : "prefer");
  if (!libpq_.knows(name)) return unknown_parameter(name, libpq_);
  if (name == "port") {
    if (Status ports = check_ports(value); !ports) return ports.error();
  }
  // To libpq an empty value is none.
  parts_.erase(name);
  if (!value.empty()) parts_[name] = std::move(value);
  if (parts_.size() > kUrlParts_max) return Error{"has too many parameters"};
  return Ok{};
}

// "h1:1,h2:2" or "[::1]:5432" into `host` and `port`, comma-separated as libpq keeps them.
Status Parser::add_hosts(std::string_view authority) {
  std::string hosts;
  std::string ports;
  bool any_port = false;
  while (true) {
    std::size_t comma = authority.find(',');
    std::string_view one = authority.substr(0, comma);
    std::string_view host = one;
    std::string_view port;
    if (one.starts_with('[')) {
      std::size_t close = one.find(']');
      if (close == std::string_view::npos) return Error{"the IPv6 address lacks its `]`"};
      host = one.substr(1, close - 1);
      if (host.empty()) return Error{"the IPv6 address between `[` and `]` is empty"};
      std::string_view rest = one.substr(close + 1);
      if (!rest.empty() && rest.front() != ':') {
        return Error{"after the `]` of an IPv6 address only `:port` may follow"};
      }
      if (!rest.empty()) port = rest.substr(1);
    } else if (std::size_t colon = one.find(':'); colon != std::string_view::npos) {
      host = one.substr(0, colon);
      port = one.substr(colon + 1);
    }
    hosts += host;
    ports += port;
    any_port = any_port || !port.empty();
    if (comma == std::string_view::npos) break;
    hosts += ',';
    ports += ',';
    authority.remove_prefix(comma + 1);
  }
  Result<std::string> decoded = decode(hosts, "host");
  if (!decoded) return decoded.error();
  if (!decoded->empty()) parts_["host"] = *decoded;
  if (!any_port) return Ok{};
  Result<std::string> decoded_ports = decode(ports, "port");
  if (!decoded_ports) return decoded_ports.error();
  return add("port", *decoded_ports);
}

Status Parser::add_query(std::string_view query) {
  while (!query.empty()) {
    std::size_t end = std::min(query.find('&'), query.size());
    std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos) {
      return Error{"a parameter after `?` lacks its `=`"};
    }
    if (pair.find('=', equals + 1) != std::string_view::npos) {
      return Error{"a value after `?` holds a `=`; write `%3D` there"};
    }
    Result<std::string> name = decode(pair.substr(0, equals), "name of a parameter");
    if (!name) return name.error();
    Result<std::string> value = decode(pair.substr(equals + 1), "value of a parameter");
    if (!value) return value.error();
    if (*name == "ssl") {
      if (*value != "true") return Error{"`ssl` can only be `true`; use `sslmode`"};
      *name = "sslmode";
      *value = "require";
    }
    if (Status added = add(*name, *value); !added) return added.error();
  }
  return Ok{};
}

Result<UrlParts> Parser::parse_uri(std::string_view rest) {
  // The first `@` before any `/` ends the login, whatever else stands before it.
  std::size_t at = rest.find_first_of("@/");
  if (at != std::string_view::npos && rest[at] == '@') {
    std::string_view login = rest.substr(0, at);
    rest = rest.substr(at + 1);
    std::size_t colon = login.find(':');
    Result<std::string> user = decode(login.substr(0, colon), "user");
    if (!user) return user.error();
    if (!user->empty()) parts_["user"] = *user;
    if (colon != std::string_view::npos) {
      Result<std::string> password = decode(login.substr(colon + 1), "password");
      if (!password) return password.error();
      if (!password->empty()) parts_["password"] = *password;
    }
  }
  std::string_view query;
  if (std::size_t mark = rest.find('?'); mark != std::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  std::string_view path;
  if (std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    path = rest.substr(slash + 1);
    rest = rest.substr(0, slash);
  }
  if (rest.find('@') != std::string_view::npos) {
    return Error{"has more than one `@`; in a user or password write `%40`"};
  }
  if (Status hosts = add_hosts(rest); !hosts) return hosts.error();
  Result<std::string> database = decode(path, "database");
  if (!database) return database.error();
  if (!database->empty()) parts_["dbname"] = *database;
  if (Status added = add_query(query); !added) return added.error();
  return parts_;
}

bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

// One name = value of a keyword string, as positions in it, so that it can be masked in place.
struct Pair {
  std::string name;
  std::string value;
  std::size_t value_begin = 0;
  std::size_t value_end = 0;
};

// The next pair from `at` on; empty at the end of the text.
Result<std::optional<Pair>> next_pair(std::string_view text, std::size_t& at) {
  while (at < text.size() && is_space(text[at])) at++;
  if (at == text.size()) return std::optional<Pair>();
  Pair pair;
  while (at < text.size() && text[at] != '=' && !is_space(text[at])) pair.name += text[at++];
  while (at < text.size() && is_space(text[at])) at++;
  if (at == text.size() || text[at] != '=') {
    return Error{"a `name=value` lacks its `=` (a value with spaces needs single quotes)"};
  }
  at++;
  while (at < text.size() && is_space(text[at])) at++;
  pair.value_begin = at;
  bool quoted = at < text.size() && text[at] == '\'';
  if (quoted) at++;
  while (at < text.size() && (quoted ? text[at] != '\'' : !is_space(text[at]))) {
    if (text[at] == '\\' && ++at == text.size()) break;
    pair.value += text[at++];
  }
  if (quoted) {
    if (at == text.size()) return Error{"a quoted value lacks its closing `'`"};
    at++;
  }
  pair.value_end = at;
  return std::optional<Pair>(std::move(pair));
}

Result<UrlParts> Parser::parse_keywords(std::string_view text) {
  std::size_t at = 0;
  while (true) {
    Result<std::optional<Pair>> pair = next_pair(text, at);
    if (!pair) return pair.error();
    if (!pair->has_value()) return parts_;
    Status added = add((*pair)->name, (*pair)->value);
    if (!added) return added.error();
  }
}

// The values of secret parameters in "a=b&password=c" hidden.
std::string masked_query(std::string_view query) {
  std::string out;
  while (true) {
    std::size_t end = std::min(query.find('&'), query.size());
    std::string_view pair = query.substr(0, end);
    std::size_t equals = pair.find('=');
    Result<std::string> name = percent_decoded(pair.substr(0, equals), "name");
    // A name that cannot be decoded might be any.
    if (equals != std::string_view::npos && (!name || is_secret(*name))) {
      out += pair.substr(0, equals + 1);
      out += kMasked;
    } else {
      out += pair;
    }
    if (end == query.size()) return out;
    out += '&';
    query.remove_prefix(end + 1);
  }
}

std::string masked_uri(std::string_view url, std::size_t scheme_end) {
  std::string out(url.substr(0, scheme_end));
  std::string_view rest = url.substr(scheme_end);
  // An unescaped `@`, `/` or `?` inside a password would end it early: from the first `:` to the
  // last `@` is taken for it, unless that `:` stands behind the `?`.
  std::size_t colon = rest.find(':');
  std::size_t at = rest.rfind('@');
  if (at != std::string_view::npos && colon < at && colon < rest.find('?')) {
    out += rest.substr(0, colon + 1);
    out += kMasked;
    rest.remove_prefix(at);
  }
  std::size_t mark = rest.find('?');
  out += rest.substr(0, mark);
  if (mark == std::string_view::npos) return out;
  return out + '?' + masked_query(rest.substr(mark + 1));
}

std::string masked_keywords(std::string_view text) {
  std::string out;
  std::size_t copied = 0;
  std::size_t at = 0;
  while (true) {
    Result<std::optional<Pair>> pair = next_pair(text, at);
    // What cannot be taken apart might hold a password anywhere.
    if (!pair) return out + std::string(kMasked);
    if (!pair->has_value()) return out + std::string(text.substr(copied));
    const Pair& found = **pair;
    bool hidden = is_secret(found.name);
    out += text.substr(copied, (hidden ? found.value_begin : found.value_end) - copied);
    if (hidden) out += kMasked;
    copied = found.value_end;
  }
}

}  // namespace

Result<UrlParts> parse_url(std::string_view url, const Libpq& libpq) {
  for (std::string_view scheme : {"postgres://", "postgresql://"}) {
    if (url.starts_with(scheme)) return Parser(libpq).parse_uri(url.substr(scheme.size()));
  }
  std::size_t scheme_end = url.find("://");
  if (scheme_end != std::string_view::npos && scheme_end < url.find('=')) {
    return Error{
        fmt::format("has the scheme {}; it must start with `postgres://` or "
                    "`postgresql://`",
                    quote(url.substr(0, scheme_end)))};
  }
  if (url.find('=') == std::string_view::npos) {
    return Error{"is neither `postgres://user@host:5432/database` nor `host=... dbname=...`"};
  }
  return Parser(libpq).parse_keywords(url);
}

bool is_uri(std::string_view url) {
  return url.starts_with("postgres://") || url.starts_with("postgresql://");
}

bool has_query(std::string_view url) {
  url.remove_prefix(url.find("://") + 3);
  std::size_t at = url.find_first_of("@/");
  if (at != std::string_view::npos && url[at] == '@') url.remove_prefix(at);
  return url.find('?') != std::string_view::npos;
}

std::string mask_url(std::string_view url) {
  std::size_t scheme = url.find("://");
  if (scheme != std::string_view::npos && scheme < url.find('=')) {
    return masked_uri(url, scheme + 3);
  }
  if (url.find('=') != std::string_view::npos) return masked_keywords(url);
  // Neither form: show nothing of what may be a bare password.
  return url.empty() ? std::string() : std::string(kMasked);
}

}  // namespace carpool::config
