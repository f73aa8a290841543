#include "cli/inject_value.h"

#include <algorithm>
#include <utility>

namespace carpool::cli {
namespace {

const Value* find(const Value& value, std::string_view key) {
  const Map* map = value.map();
  if (map == nullptr) return nullptr;
  const auto found = std::find_if(map->begin(), map->end(),
                                  [key](const Entry& entry) { return entry.key.text == key; });
  return found == map->end() ? nullptr : &found->value;
}

// Both maps have no key twice, so one direction and the sizes are enough.
template <typename Same>
bool same_maps(const Map& a, const Map& b, Same same) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); i++) {
    const Entry* other = &b[i];  // mostly at the same place
    if (other->key.text != a[i].key.text) {
      const auto found = std::find_if(
          b.begin(), b.end(), [&](const Entry& entry) { return entry.key.text == a[i].key.text; });
      if (found == b.end()) return false;
      other = &*found;
    }
    if (!same(a[i], *other)) return false;
  }
  return true;
}

}  // namespace

const Value* Value::at(std::initializer_list<std::string_view> path) const {
  const Value* here = this;
  for (const std::string_view key : path) {
    here = find(*here, key);
    if (here == nullptr) return nullptr;
  }
  return here;
}

Value* Value::at(std::initializer_list<std::string_view> path) {
  return const_cast<Value*>(std::as_const(*this).at(path));
}

std::string Value::text_at(std::initializer_list<std::string_view> path) const {
  const Value* value = at(path);
  return value != nullptr && value->scalar() != nullptr ? value->scalar()->text : std::string();
}

const List& Value::list_at(std::initializer_list<std::string_view> path) const {
  static const List kNone;
  const Value* value = at(path);
  return value != nullptr && value->list() != nullptr ? *value->list() : kNone;
}

Value& Value::set(std::string_view key, Value value, std::string_view before) {
  if (map() == nullptr) state_ = Map();
  Map& entries = *map();
  const auto place = [&entries](std::string_view name) {
    return std::find_if(entries.begin(), entries.end(),
                        [name](const Entry& entry) { return entry.key.text == name; });
  };
  if (const auto found = place(key); found != entries.end()) {
    found->value = std::move(value);
    return found->value;
  }
  const auto at = before.empty() ? entries.end() : place(before);
  return entries.insert(at, Entry{Scalar{std::string(key)}, std::move(value)})->value;
}

Value& Value::map_of(std::string_view key) {
  if (Value* there = at({key}); there != nullptr && there->map() != nullptr) return *there;
  return set(key, Value(Map()));
}

bool Value::erase(std::string_view key) {
  return map() != nullptr &&
         std::erase_if(*map(), [key](const Entry& entry) { return entry.key.text == key; }) > 0;
}

bool Value::operator==(const Value& other) const {
  if (map() != nullptr && other.map() != nullptr) {
    return same_maps(*map(), *other.map(), [](const Entry& a, const Entry& b) {
      return a.key == b.key && a.value == b.value;
    });
  }
  if (list() != nullptr && other.list() != nullptr) return *list() == *other.list();
  if (scalar() != nullptr && other.scalar() != nullptr) return *scalar() == *other.scalar();
  return is_null() && other.is_null();
}

const Value* named(const List& list, std::string_view name) {
  const auto found = std::find_if(list.begin(), list.end(), [name](const Value& item) {
    return item.at({"name"}) != nullptr && item.text_at({"name"}) == name;
  });
  return found == list.end() ? nullptr : &*found;
}

Value* named(List& list, std::string_view name) {
  return const_cast<Value*>(named(std::as_const(list), name));
}

bool alike(const Value& a, const Value& b) {
  if (a.map() != nullptr && b.map() != nullptr) {
    return same_maps(*a.map(), *b.map(),
                     [](const Entry& x, const Entry& y) { return alike(x.value, y.value); });
  }
  if (a.list() != nullptr && b.list() != nullptr) {
    return std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(),
                      alike);
  }
  if (a.scalar() != nullptr && b.scalar() != nullptr) return a.scalar()->text == b.scalar()->text;
  return a.is_null() && b.is_null();
}

}  // namespace carpool::cli
