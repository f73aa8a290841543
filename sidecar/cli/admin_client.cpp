#include "cli/admin_client.h"

#include <fmt/format.h>
#include <httplib.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

namespace carpool::cli {
namespace {

Error not_understood(const std::string& text) {
  return Error{
      fmt::format("`{}` is not an address; write HOST:PORT, as in {}", text, kDefaultAdmin)};
}

// cpp-httplib 0.11 writes an IPv6 host without brackets, so the header is ours.
httplib::Client client_of(const Endpoint& endpoint) {
  httplib::Client client(endpoint.host, endpoint.port);
  client.set_connection_timeout(std::chrono::microseconds(kAnswer_us_max));
  client.set_read_timeout(std::chrono::microseconds(kAnswer_us_max));
  client.set_write_timeout(std::chrono::microseconds(kAnswer_us_max));
  client.set_default_headers({{"Host", endpoint.text()}});
  return client;
}

const char* reason_of(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
      return "nobody listens";
    case httplib::Error::ConnectionTimeout:
      return "no connection in time";
    case httplib::Error::Read:
      return "no answer in time";
    default:
      return "the connection broke";
  }
}

Result<Reply> reply_of(const Endpoint& endpoint, const httplib::Result& answer) {
  if (answer) return Reply{answer->status, answer->body};
  return Error{fmt::format(
      "carpool does not answer at {} ({}): is it running there? --admin or CARPOOL_ADMIN names "
      "another address",
      endpoint.text(), reason_of(answer.error()))};
}

}  // namespace

std::string Endpoint::text() const {
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<Endpoint> parse_endpoint(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return not_understood(text);
  std::string_view host = rest.substr(0, colon);
  const std::string_view digits = rest.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":/[]") != std::string_view::npos) {
    return not_understood(text);
  }
  Endpoint out{std::string(host), 0};
  const auto [end, failed] =
      std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
  if (failed != std::errc() || end != digits.data() + digits.size() || out.port == 0) {
    return not_understood(text);
  }
  if (out.host.empty()) out.host = "127.0.0.1";
  return out;
}

Result<Reply> get(const Endpoint& endpoint, const std::string& path) {
  return reply_of(endpoint, client_of(endpoint).Get(path));
}

Result<Reply> post(const Endpoint& endpoint, const std::string& path) {
  return reply_of(endpoint, client_of(endpoint).Post(path));
}

std::string percent_encoded(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string error_of(const Reply& reply) {
  const nlohmann::json body = nlohmann::json::parse(reply.body, nullptr, false);
  if (body.is_object() && body.contains("error") && body["error"].is_string()) {
    return body["error"].get<std::string>();
  }
  return fmt::format("HTTP status {}", reply.status);
}

}  // namespace carpool::cli
