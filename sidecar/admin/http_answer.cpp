#include "admin/http_answer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace carpool::admin {
namespace {

// Reads from the request, appends to the response.
class MemoryStream final : public httplib::Stream {
 public:
  explicit MemoryStream(const std::string& in) : in_(in) {}

  bool is_readable() const override { return read_ < in_.size(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, std::size_t size) override {
    const std::size_t n = std::min(size, in_.size() - read_);
    std::memcpy(to, in_.data() + read_, n);
    read_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* from, std::size_t size) override {
    out_.append(from, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return 0; }  // the library refuses what select() cannot take

  std::string take() { return std::move(out_); }

 private:
  const std::string& in_;
  std::size_t read_ = 0;
  std::string out_;
};

// What the library itself found wrong, before any handler was asked.
std::string describe(int status) {
  switch (status) {
    case 400:
      return "this is not a well-formed HTTP request";
    case 414:
      return "the request's path is too long";
    case 416:
      return "ranges are not served";
    case 417:
      return "that expectation cannot be met";
    default:
      return "this request could not be answered";
  }
}

std::string message_json(const char* key, const std::string& message) {
  using nlohmann::json;
  return json{{key, message}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

void set_json(httplib::Response& response, int status, std::string json) {
  response.status = status;
  json += '\n';
  response.set_content(json, "application/json");
}

void set_error(httplib::Response& response, int status, const std::string& message) {
  set_json(response, status, message_json("error", message));
}

void set_done(httplib::Response& response, const std::string& message) {
  set_json(response, 200, message_json("done", message));
}

class HttpAnswer::Dialect final : public httplib::Server {
 public:
  explicit Dialect(Handler handler) {
    set_pre_routing_handler(
        [handler = std::move(handler)](const httplib::Request& request, httplib::Response& out) {
          handler(request, out);
          return HandlerResponse::Handled;
        });
    set_exception_handler([](const httplib::Request&, httplib::Response& out,
                             const std::exception_ptr&) { set_error(out, 500, describe(500)); });
    set_error_handler([](const httplib::Request&, httplib::Response& out) {
      if (out.body.empty()) set_error(out, out.status, describe(out.status));
    });
  }

  std::string answer(const std::string& request) {
    MemoryStream stream(request);
    bool closed = false;
    process_request(stream, true, closed, [](httplib::Request& head) {
      head.headers.erase("Accept-Encoding");
      head.headers.erase("Range");
      head.ranges.clear();
    });
    return stream.take();
  }
};

HttpAnswer::HttpAnswer(Handler handler) : dialect_(std::make_shared<Dialect>(std::move(handler))) {}

std::string HttpAnswer::answer(const std::string& request) {
  return dialect_->answer(request);
}

}  // namespace carpool::admin
