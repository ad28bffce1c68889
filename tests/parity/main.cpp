// hf_parity FOLDER...: compares every model inside the folders (scripts/make_hf_fixtures.py makes them) and prints the worst by family, as
// a table in Markdown. Exit code 1 when a limit is missed, a model cannot be read, or a family is not among them.
#include <fmt/format.h>

#include "tests/parity/comparison.h"

namespace switchyard {
namespace {

struct FamilyRow {
  int64_t num_models = 0;
  ParityResult worst;
};

std::string cell(const std::optional<double>& value) {
  return value ? fmt::format("{:.1e}", *value) : "-";
}

/// One line a model. Returns whether it is as transformers has it.
bool compare(const std::filesystem::path& folder, std::vector<FamilyRow>& rows) {
  const auto name = folder.parent_path().filename().string() + "/" + folder.filename().string();
  try {
    const auto result = compare_with_transformers(folder);
    auto& row = rows.at(static_cast<size_t>(result.family));
    ++row.num_models;
    std::string line;
    for (const auto& rule : kParityRules) {
      const auto value = result.of(rule.quantity);
      if (value) row.worst.take(rule.quantity, *value);
      line += fmt::format("  {} {}", rule.name, cell(value));
    }
    fmt::print("{:28s}{}\n", name, line);
    for (const auto& miss : result.misses()) fmt::print("{}: MISS: {}\n", name, miss);
    return result.misses().empty();
  } catch (const std::exception& error) {
    fmt::print("{}: MISS: {}\n", name, error.what());
    return false;
  }
}

void print_table(const std::vector<FamilyRow>& rows) {
  std::string head = "\n| family | models |", line = "|---|---|";
  for (const auto& rule : kParityRules) {
    head += fmt::format(" {} |", rule.name);
    line += "---|";
  }
  fmt::print("{}\n{}\n", head, line);
  for (const auto& row : rows) {
    std::string text = fmt::format("| {} | {} |", hf_class(row.worst.family).model_type, row.num_models);
    for (const auto& rule : kParityRules) text += fmt::format(" {} |", cell(row.worst.of(rule.quantity)));
    fmt::print("{}\n", text);
  }
}

int run(const std::vector<std::filesystem::path>& folders) {
  std::vector<FamilyRow> rows;
  for (const auto& hf : hf_classes()) rows.push_back({0, {hf.family}});
  bool good = true;
  for (const auto& folder : folders) {
    for (const auto& model : parity_folders(folder)) good = compare(model, rows) && good;
  }
  print_table(rows);
  for (const auto& row : rows) {
    if (row.num_models > 0) continue;
    fmt::print("MISS: no model of the family {}\n", hf_class(row.worst.family).model_type);
    good = false;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  return switchyard::run({argv + 1, argv + argc});
}
