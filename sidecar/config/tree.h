// A parsed YAML document as plain values with places, between load.cpp, which knows yaml-cpp, and
// interpret.cpp, which knows the keys. Nodes live in one vector and refer to each other by index,
// so that an alias shares its anchor's node and neither depth nor a cycle can hurt: walking is
// bounded by the shape of the configuration file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "config/problem.h"

namespace carpool::config {

// The most nodes of a document, and how deep they may be nested.
inline constexpr std::size_t kTreeNodes_max = 50'000;
inline constexpr std::size_t kTreeDepth_max = 32;

enum class NodeKind : std::uint8_t { Null, Scalar, List, Mapping };

struct Node {
  NodeKind kind = NodeKind::Null;
  Place place;
  std::string text;                   // Scalar
  std::vector<std::size_t> children;  // List: entries; Mapping: key, value, key, value, ...
};

struct Tree {
  std::vector<Node> nodes;  // the first is the root; empty for a document without content
};

}  // namespace carpool::config
