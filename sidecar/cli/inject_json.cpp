// JSON by nlohmann::json's parser, event by event: a number stays the text that it was.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

using nlohmann::json;

class JsonReader : public nlohmann::json_sax<json> {
 public:
  Value root;
  std::string unsure;

  bool null() override { return put(Value()); }
  bool boolean(bool value) override { return plain(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) override { return plain(std::to_string(value)); }
  bool number_unsigned(std::uint64_t value) override { return plain(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { return plain(text); }
  bool string(std::string& text) override { return put(Value::text(std::move(text))); }
  bool binary(json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Value(Map())); }
  bool start_array(std::size_t) override { return open(Value(List())); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& text) override {
    if (open_.back().value.at({text}) != nullptr && unsure.empty()) {
      unsure = "the key " + text + " stands twice in one object";
    }
    open_.back().key = std::move(text);
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception&) override {
    return false;
  }

 private:
  struct Open {
    Value value;
    std::string key;  // of the entry that comes next
  };

  bool plain(std::string text) { return put(Value(Scalar{std::move(text), false, {}})); }

  bool open(Value value) {
    open_.push_back({std::move(value), {}});
    return open_.size() <= static_cast<std::size_t>(kDepth_max) && ++nodes_ <= kNodes_max;
  }

  bool close() {
    Value value = std::move(open_.back().value);
    open_.pop_back();
    return put(std::move(value));
  }

  bool put(Value value) {
    if (++nodes_ > kNodes_max) return false;
    if (!open_.empty() && open_.back().value.map() != nullptr &&
        open_.back().value.map()->size() >= static_cast<std::size_t>(kKeys_max)) {
      return false;
    }
    if (open_.empty()) {
      root = std::move(value);
      return true;
    }
    Open& into = open_.back();
    if (List* list = into.value.list()) {
      list->push_back(std::move(value));
    } else if (Value* twice = into.value.at({into.key})) {
      *twice = std::move(value);
    } else {
      into.value.map()->push_back({Scalar{into.key}, std::move(value)});
    }
    return true;
  }

  std::vector<Open> open_;
  int nodes_ = 0;
};

void write_one(const Value& value, const char* feed, std::size_t indent, std::string& out) {
  const auto text = [](const std::string& raw) {
    return json(raw).dump(-1, ' ', false, json::error_handler_t::replace);
  };
  const auto line = [&](std::size_t columns) {
    out += feed;
    if (*feed != '\0') out.append(columns, ' ');
  };
  const char* colon = *feed == '\0' ? ":" : ": ";
  if (const Map* map = value.map()) {
    out += '{';
    for (std::size_t i = 0; i < map->size(); i++) {
      if (i > 0) out += ',';
      line(indent + 2);
      out += text((*map)[i].key.text) + colon;
      write_one((*map)[i].value, feed, indent + 2, out);
    }
    if (!map->empty()) line(indent);
    out += '}';
  } else if (const List* list = value.list()) {
    out += '[';
    for (std::size_t i = 0; i < list->size(); i++) {
      if (i > 0) out += ',';
      line(indent + 2);
      write_one((*list)[i], feed, indent + 2, out);
    }
    if (!list->empty()) line(indent);
    out += ']';
  } else if (const Scalar* scalar = value.scalar()) {
    out += scalar->is_string ? text(scalar->text) : scalar->text;
  } else {
    out += "null";
  }
}

}  // namespace

bool read_json(Object& object) {
  JsonReader reader;
  if (!json::sax_parse(object.text, &reader)) return false;
  object.value = std::move(reader.root);
  object.unsure = std::move(reader.unsure);
  return true;
}

std::string write_json(const Value& value, bool one_line) {
  std::string out;
  write_one(value, one_line ? "" : "\n", 0, out);
  return out;
}

}  // namespace carpool::cli
