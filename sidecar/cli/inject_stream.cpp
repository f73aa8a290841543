#include "cli/inject_stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace carpool::cli {
namespace {

constexpr std::string_view kBom = "\xef\xbb\xbf";
constexpr std::string_view kBlank = " \t\r\n";

int lines_in(std::string_view text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

bool blank_from(std::string_view text, std::size_t at) {
  return text.find_first_not_of(kBlank, at) == std::string_view::npos;
}

// A piece of the stream between the marks of documents. What stands before it is kept as it is.
struct Document {
  std::string before;
  std::string text;
  int line = 1;  // where `text` begins
};

// A document begins at a line that begins with `---` and ends at one that begins with `...`: no
// line inside of one can begin so (YAML 1.2, section 9.1.2).
std::vector<Document> split(std::string_view input) {
  std::vector<Document> documents(1);
  int line = 0;
  for (std::size_t at = 0; at < input.size();) {
    const std::size_t end = std::min(input.find('\n', at), input.size() - 1) + 1;
    const std::string_view text = input.substr(at, end - at);
    line++;
    at = end;
    const bool marks = (text.starts_with("---") || text.starts_with("...")) &&
                       (text.size() == 3 || kBlank.find(text[3]) != std::string_view::npos);
    const std::size_t content = text.find_first_not_of(kBlank, 3);
    const bool bare = content == std::string_view::npos || text[content] == '#';
    if (marks && (bare || text[0] == '.')) {
      documents.push_back({std::string(text), {}, line + 1});
    } else if (marks) {  // the document begins on the line of its mark
      documents.push_back({"---\n", std::string(text.substr(3)), line});
    } else if (documents.back().text.empty() &&
               (blank_from(text, 0) || text[text.find_first_not_of(kBlank)] == '#' ||
                text[0] == '%')) {  // a comment, a directive
      documents.back().before += text;
      documents.back().line = line + 1;
    } else {
      documents.back().text += text;
    }
  }
  if (documents.front().text.starts_with(kBom)) {
    documents.front().text.erase(0, kBom.size());
    documents.front().before.insert(0, kBom);
  }
  return documents;
}

// The end of the JSON value at `at`: behind the bracket that closes it. npos: there is none.
std::size_t end_of_json(std::string_view text, std::size_t at) {
  int depth = 0;
  bool quoted = false;
  for (; at < text.size(); at++) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') at++;
      quoted = c != '"';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      depth++;
    } else if ((c == '}' || c == ']') && --depth <= 0) {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

// One JSON object after the other, and nothing else. False: it is something else.
bool take_json(const Document& document, std::vector<Object>& objects) {
  const std::string_view text = document.text;
  std::vector<Object> found;
  std::string before = document.before;
  int line = document.line;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = std::min(text.find_first_not_of(kBlank, at), text.size());
    before += text.substr(at, begin - at);
    line += lines_in(text.substr(at, begin - at));
    if (begin == text.size()) break;
    const std::size_t end = text[begin] == '{' ? end_of_json(text, begin) : std::string_view::npos;
    if (end == std::string_view::npos) return false;
    Object object;
    object.before = std::exchange(before, "");
    object.text = text.substr(begin, end - begin);
    object.line = line;
    object.syntax = Syntax::Json;
    if (!read_json(object)) return false;
    line += lines_in(object.text);
    found.push_back(std::move(object));
    at = end;
  }
  if (found.empty()) return false;
  std::move(found.begin(), found.end(), std::back_inserter(objects));
  // The line feed behind an object belongs to the next, or to nobody.
  if (!before.empty()) {
    Object rest;
    rest.before = before;
    rest.line = line;
    objects.push_back(std::move(rest));
  }
  return true;
}

}  // namespace

Result<std::vector<Object>> read_stream(std::string_view text) {
  std::vector<Object> objects;
  for (const Document& document : split(text)) {
    if (take_json(document, objects)) continue;
    Object object;
    object.before = document.before;
    object.text = document.text;
    object.line = document.line;
    if (const Status read = read_yaml(object); !read) return read.error();
    objects.push_back(std::move(object));
  }
  return objects;
}

std::string write_value(const Value& value, Syntax syntax, std::string_view like) {
  if (syntax == Syntax::Yaml) return write_yaml(value);
  return write_json(value, like.find('\n') == std::string_view::npos);
}

}  // namespace carpool::cli
