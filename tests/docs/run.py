#!/usr/bin/python3
"""The pages of docs/ say nothing that is not there: every metric, key, command, option, quoted
message and link of theirs is looked up in the code, the binary and the tree."""

import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from throwaway import CARPOOL  # noqa: E402  (found by the line above)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What the pages quote that is said to the application, to the log, or on a terminal.
QUOTING = [ROOT / "docs" / "troubleshooting.md", ROOT / "docs" / "runbook.md"]
QUOTE_BYTES_MIN = 12
NO_METRICS = {"carpool_inject"}
NO_MESSAGES = {"why am I waiting?"}


def output(*command):
    return subprocess.run([CARPOOL, *command], text=True, check=True, timeout=60,
                          stdout=subprocess.PIPE).stdout


def pages():
    return [(path, path.read_text()) for path in PAGES]


def inline_code(text):
    """(place, code) of each `code` outside of fences."""
    text = re.sub(r"^```.*?^```", lambda fence: re.sub(r"[^\n]", " ", fence[0]), text,
                  flags=re.M | re.S)
    for match in re.finditer(r"`([^`\n]+)`", text):
        yield match.start(), match[1]


def anchors(path):
    """Of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", path.read_text(), re.M):
        text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(text.replace(" ", "-"))
    return found


class Source:
    """All texts of the code, with `\\0` for what is filled in, adjacent literals joined."""

    def __init__(self):
        text = "\n".join(path.read_text() for path in sorted((ROOT / "sidecar").rglob("*.cpp")))
        text = re.sub(r'"\s*\n\s*"', "", text).replace('\\"', '"')
        self.text = re.sub(r"\{[^{}\n]*\}", "\0", text)

    def says(self, quoted):
        """What the code fills in stands in `quoted` as "…", a number, a key or capitals (N)."""
        filled_in = r"…|\b[A-Z]{1,8}\b|[\d.:]*\d|\b[a-z]+\.[a-zA-Z]+\b"
        literal = [part.strip(" `") for part in re.split(filled_in, quoted)]
        pattern = ".{0,80}?".join(re.escape(part) for part in literal if part)
        return re.search(pattern, self.text) is not None


class Docs(unittest.TestCase):
    def setUp(self):
        self.wrong = []

    def tearDown(self):
        self.assertEqual(self.wrong, [])

    def expect(self, condition, path, text, at, what):
        """Notes what is wrong on that page; `at` is where in `text`."""
        if not condition:
            line = text.count("\n", 0, at) + 1
            self.wrong.append(f"{path.relative_to(ROOT)}:{line}: {what}")

    def test_every_metric_is_one_that_is_exposed(self):
        code = (ROOT / "sidecar" / "admin" / "metrics.cpp").read_text()
        known = set(re.findall(r'"(carpool_\w+|process_\w+)"', code))
        self.assertGreater(len(known), 20)
        for path, text in pages():
            for match in re.finditer(r"\bcarpool_[a-z]\w+", text):
                base = re.sub(r"_(bucket|sum|count)$", "", match[0])
                self.expect(match[0] in known or base in known or match[0] in NO_METRICS, path,
                            text, match.start(), f"{match[0]} is no metric")

    def test_every_key_is_one_that_the_loader_knows(self):
        reference = output("config", "reference")
        known = set(re.findall(r"^\| `([\w.\[\]]+)`", reference, re.M))
        self.assertGreater(len(known), 50)
        sections = {key.split(".")[0] for key in known if "." in key}
        for path, text in pages():
            for at, code in inline_code(text):
                match = re.fullmatch(r"(\w+)\.(\w+(\.\w+)*)(: .*)?", code)
                if match and match[1] in sections:
                    key = f"{match[1]}.{match[2]}"
                    is_part = any(name.startswith(key + ".") for name in known)
                    self.expect(key in known or is_part, path, text, at, f"there is no key {key}")

    def test_every_command_and_option_is_one_of_the_binary(self):
        commands = set(re.findall(r"^  (\w+) ", output("--help").split("Subcommands:")[1], re.M))
        helps, checked = {}, 0
        for path, text in pages():
            spans = [*inline_code(text)]
            spans += [(match.start(), match[1])
                      for match in re.finditer(r"^ *(carpool [a-z].*)$", text, re.M)]
            for at, code in spans:
                words = re.split(r"[#|>;]", code)[0].split()
                if len(words) < 2 or words[0] != "carpool" or not re.match(r"[a-z]+$", words[1]):
                    continue
                checked += 1
                self.expect(words[1] in commands, path, text, at, f"no such command: {code}")
                if words[1] not in commands:
                    continue
                nested = words[1:3] if words[1] == "config" and len(words) > 2 else words[1:2]
                name = " ".join(nested)
                if name not in helps:
                    helps[name] = output(*nested, "--help")
                for option in (word for word in words if word.startswith("--")):
                    self.expect(option.split("=")[0] in helps[name], path, text, at,
                                f"no such option: {code}")
        self.assertGreater(checked, 10)

    def test_every_quoted_message_is_one_of_the_code(self):
        source = Source()
        self.assertFalse(source.says("a message that nobody writes"))
        quotes = 0
        for path in QUOTING:
            text = path.read_text()
            # What stands in code spans and in brackets of PromQL are no messages.
            plain = re.sub(r"`[^`\n]*`|^```.*?^```", lambda code: "\x01" * len(code[0]), text,
                           flags=re.M | re.S)
            for match in re.finditer(r'"([^"\n]+)"', plain):
                quoted = text[match.start() + 1:match.end() - 1]
                if len(quoted) < QUOTE_BYTES_MIN or quoted in NO_MESSAGES:
                    continue
                quotes += 1
                self.expect(source.says(quoted), path, text, match.start(),
                            f"nobody says: {quoted}")
        self.assertGreater(quotes, 10)

    def test_every_link_leads_somewhere(self):
        for path, text in pages():
            for match in re.finditer(r"\]\(([^)\s]+)\)", text):
                if re.match(r"https?://|mailto:", match[1]):
                    continue
                file, _, anchor = match[1].partition("#")
                there = (path.parent / file).resolve() if file else path
                self.expect(there.exists(), path, text, match.start(), f"no such file: {match[1]}")
                if anchor and there.suffix == ".md" and there.exists():
                    self.expect(anchor in anchors(there), path, text, match.start(),
                                f"no such heading: {match[1]}")


if __name__ == "__main__":
    unittest.main()
