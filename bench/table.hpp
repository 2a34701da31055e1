// A Markdown table whose columns are aligned, so that it can be read as it is and pasted into docs/bench.md.
// Included by bench/*.cpp only.
#pragma once

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

namespace crema {

inline std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

class Table {
 public:
  // The first `words` columns are aligned left, the rest, numbers, right.
  Table(std::vector<std::string> head, size_t words) : rows_{std::move(head)}, words_(words) {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  void Print(std::ostream& out) const {
    std::vector<size_t> widths(rows_[0].size(), 3);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (size_t r = 0; r < rows_.size(); ++r) {
      for (size_t i = 0; i < rows_[r].size(); ++i) {
        const std::string gap(widths[i] - rows_[r][i].size(), ' ');
        out << "| " << (i < words_ ? rows_[r][i] + gap : gap + rows_[r][i]) << " ";
      }
      out << "|\n";
      if (r > 0) continue;
      for (size_t i = 0; i < widths.size(); ++i)
        out << "|" << std::string(widths[i] + 1, '-') << (i < words_ ? "-" : ":");
      out << "|\n";
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
  size_t words_;
};

}  // namespace crema
