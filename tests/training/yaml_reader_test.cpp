#include "training/yaml_reader.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(YamlReader, KeepsOrderTextAndLines) {
  const YamlDocument document = parse_yaml("# a comment\nsteps: 1e3\n\nlist:\n  - a\n  - {b: \"2\"}\n");
  ASSERT_TRUE(document.complete);
  EXPECT_TRUE(document.faults.empty());
  const auto& entries = document.root.entries;
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].key, "steps");
  EXPECT_EQ(entries[0].line, 2);
  EXPECT_EQ(entries[0].value.text, "1e3");
  EXPECT_FALSE(entries[0].value.quoted);
  ASSERT_EQ(entries[1].value.items.size(), 2u);
  EXPECT_EQ(entries[1].value.items[0].line, 5);
  const YamlEntry& inner = entries[1].value.items[1].entries.at(0);
  EXPECT_EQ(inner.line, 6);
  EXPECT_EQ(inner.value.text, "2");
  EXPECT_TRUE(inner.value.quoted);
}

TEST(YamlReader, GivesAnAbsentValueTheLineOfItsKey) {
  const YamlDocument document = parse_yaml("a:\n\n\nb: 1\n");
  EXPECT_EQ(document.root.entries.at(0).value.kind, YamlNode::Kind::kNull);
  EXPECT_EQ(document.root.entries.at(0).value.line, 1);
}

TEST(YamlReader, TakesAnEmptyTextForNull) {
  const YamlDocument document = parse_yaml("# nothing\n");
  EXPECT_TRUE(document.complete);
  EXPECT_EQ(document.root.kind, YamlNode::Kind::kNull);
}

TEST(YamlReader, DescribesATreeInOneLine) {
  EXPECT_EQ(describe(parse_yaml("a: [1, x]\nb:\n  c: ~\n").root), "{a: [1, x], b: {c: null}}");
}

TEST(YamlReader, ReportsSeveralFaultsAndKeepsTheFirstOfEqualKeys) {
  const YamlDocument document = parse_yaml("a: {b: 1,\n  b: 2}\nc: &anchor 3\n");
  EXPECT_TRUE(document.complete);
  ASSERT_EQ(document.faults.size(), 2u);
  EXPECT_EQ(document.faults[0].problem, "a.b is given twice, first in line 1; keep one");
  EXPECT_EQ(document.faults[1].line, 3);
  EXPECT_EQ(describe(document.root), "{a: {b: 1}, c: 3}");
}

TEST(YamlReader, AcceptsTheDeepestAllowedTreeOnly) {
  const auto nested = [](int64_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_yaml(nested(kMaxYamlDepth)).complete);
  EXPECT_FALSE(parse_yaml(nested(kMaxYamlDepth + 1)).complete);
}

TEST(YamlReader, AcceptsTheLargestAllowedTextOnly) {
  const auto sized = [](int64_t bytes) { return "a: 1\n#" + std::string(bytes - 6, 'x'); };
  EXPECT_TRUE(parse_yaml(sized(kMaxYamlBytes)).complete);
  EXPECT_FALSE(parse_yaml(sized(kMaxYamlBytes + 1)).complete);
}

struct BadText {
  std::string name;
  std::string text;
  int64_t line;
  std::string words;
};

void PrintTo(const BadText& bad, std::ostream* out) {
  *out << bad.name;
}

class YamlFaults : public testing::TestWithParam<BadText> {};

TEST_P(YamlFaults, SayTheLineAndTheRule) {
  const YamlDocument document = parse_yaml(GetParam().text);
  ASSERT_FALSE(document.faults.empty());
  EXPECT_EQ(document.faults[0].line, GetParam().line) << document.faults[0].problem;
  EXPECT_NE(document.faults[0].problem.find(GetParam().words), std::string::npos) << document.faults[0].problem;
}

std::string many_values() {
  std::string text = "a:\n";
  for (int64_t i = 0; i < kMaxYamlNodes; ++i) text += "- 1\n";
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    All, YamlFaults,
    testing::Values(BadText{"DuplicateKey", "a: 1\nb: 2\na: 3\n", 3, "a is given twice, first in line 1"},
                    BadText{"DuplicateKeyInQuotes", "a: 1\n\"a\": 3\n", 2, "given twice"},
                    BadText{"Anchor", "a: 1\nb: &x 2\n", 2, "anchors"}, BadText{"Alias", "a: &x 1\n\nb: *x\n", 1, "anchors"},
                    BadText{"UnknownAlias", "b: *x\n", 1, "anchor"}, BadText{"MergeKey", "a: &x {c: 1}\nb:\n  <<: *x\n", 1, "anchors"},
                    BadText{"Tag", "a: 1\nb: !!int 3\n", 2, "tags"}, BadText{"TagOfMap", "a: !thing {b: 1}\n", 1, "tags (!thing)"},
                    BadText{"SecondDocument", "a: 1\n---\nb: 2\n", 2, "second document"},
                    BadText{"ComplexKey", "a: 1\n? [1, 2]\n: 3\n", 2, "a key must be a plain word"},
                    BadText{"ListNotClosed", "a: [1,\nb: 2\n", 3, "not valid YAML"}, BadText{"Tab", "a:\n\tb: 1\n", 2, "not valid YAML"},
                    BadText{"EndlessLoopOfOldParsers", "[:", 1, "not valid YAML"},
                    BadText{"ByteOrderMark",
                            "\xEF\xBB\xBF"
                            "a: 1\n",
                            1, "byte order mark"},
                    BadText{"Nul", std::string("a: 1\nb: \0\n", 10), 2, "control character (byte 0)"},
                    BadText{"EndOfTransmission", "a: 1\n\x04\nb: 2\n", 2, "control character (byte 4)"},
                    BadText{"Depth", "a: 1\nb: " + std::string(100'000, '['), 2, "more than 32 deep"},
                    BadText{"Values", many_values(), kMaxYamlNodes - 1, "more than 100000 values"},
                    BadText{"Size", std::string(kMaxYamlBytes + 1, '\n'), 0, "1 MiB"}),
    [](const auto& info) { return info.param.name; });

TEST(YamlFile, ThatCannotBeReadIsAFault) {
  EXPECT_EQ(parse_yaml_file("/nonexistent/a.yaml").faults.at(0).problem, "cannot be read: No such file or directory");
  EXPECT_EQ(parse_yaml_file("/").faults.at(0).problem, "is a folder, not a file");
}

TEST(YamlFile, IsReadAsItsTextIs) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / ("yaml_reader_test." + std::to_string(getpid()) + ".yaml");
  std::ofstream(path) << "a: [1, 2]\n";
  EXPECT_EQ(describe(parse_yaml_file(path).root), "{a: [1, 2]}");
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace switchyard
