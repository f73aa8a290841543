// The environment of one container as its manifest gives it: `env` entries, and what `envFrom`
// takes from Secrets and ConfigMaps that are in the stream. An entry of `env` goes before one of
// envFrom.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/inject_point.h"
#include "cli/inject_value.h"

namespace carpool::cli {

class Environment {
 public:
  // `container` and `references` must outlive this object.
  Environment(Value& container, const References& references)
      : container_(container), references_(references) {}

  // The entry of that name, {name, value} or {name, valueFrom}; one that envFrom brings as the
  // reference that it is.
  std::optional<Value> find(std::string_view name) const;
  // The value, where it stands in the manifest of the container itself.
  std::optional<std::string> literal(std::string_view name) const;
  // The value behind its reference, where that is in the stream.
  std::optional<std::string> behind(std::string_view name) const;
  // A Secret or ConfigMap of envFrom that is not in the stream: "Secret x". Empty: none.
  std::string unknown_source() const;

  // Sets the value where the entry stands, else at the end.
  void set(std::string_view name, Value value);
  void put(const Value& entry);
  void erase(std::string_view name);
  // erase(), but for what other variables are made of; what envFrom brings becomes empty.
  void take(std::string_view name);

 private:
  List& entries();
  std::optional<Value> from_source(std::string_view name) const;
  bool is_used(std::string_view name) const;

  Value& container_;
  const References& references_;
};

// Whether a variable of the container says which PostgreSQL it goes to.
bool points_somewhere(const Value& container);

}  // namespace carpool::cli
