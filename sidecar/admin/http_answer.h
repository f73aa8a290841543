// A request head's bytes to a response's bytes: cpp-httplib parses and formats, in memory. It
// owns no socket, and no exception leaves it: a handler that throws is a 500.
//
// A response is never compressed (brotli alone would cost more memory than the whole sidecar) and
// never keeps the connection alive.
#pragma once

#include <httplib.h>

#include <functional>
#include <memory>
#include <string>

namespace carpool::admin {

class HttpAnswer {
 public:
  // Sees every well-formed request; whatever it leaves unset is a 404. Called on several threads.
  using Handler = std::function<void(const httplib::Request&, httplib::Response&)>;

  explicit HttpAnswer(Handler handler);

  // What `handler` captures must be alive.
  std::string answer(const std::string& request);

 private:
  class Dialect;
  std::shared_ptr<Dialect> dialect_;
};

// {"error": message}: the answer of every error.
void set_error(httplib::Response& response, int status, const std::string& message);
// {"done": message}, status 200.
void set_done(httplib::Response& response, const std::string& message);
void set_json(httplib::Response& response, int status, std::string json);

}  // namespace carpool::admin
