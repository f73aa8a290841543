// The same change made to the text of a document, so that its comments, order and quoting stay.
//
// It edits whole lines of block-style YAML by the places that yaml-cpp reports, and gives up (an
// empty optional) where the lines are not of that kind: flow style, JSON, keys on a shared line. It
// never has to be right by itself: the caller parses the result and compares it with the values of
// inject_tree.h.
#pragma once

#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>

#include "cli/inject_tree.h"

namespace carpool::cli {

// `document` is `text` parsed, and unchanged since.
std::optional<std::string> add_sidecar_text(const std::string& text, const YAML::Node& document,
                                            const Sidecar& sidecar);
std::optional<std::string> remove_sidecar_text(const std::string& text, const YAML::Node& document);

}  // namespace carpool::cli
