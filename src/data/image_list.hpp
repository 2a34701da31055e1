// Floor 3, the data wing. Lists of images: "path label" lines. Called by this wing and by tools.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crema/error.hpp"

namespace crema {

class ImageList {
 public:
  // Lines without anything but blanks are passed over. Throws Error naming the line where one has no label.
  explicit ImageList(const std::string& file);
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  const std::string& file() const { return file_; }
  std::string path(int64_t index) const { return text_.substr(at(index).begin, at(index).length); }
  int64_t label(int64_t index) const { return at(index).label; }
  int64_t line(int64_t index) const { return at(index).line; }  // from 1

 private:
  struct Entry {
    size_t begin, length;
    int64_t label, line;
  };
  const Entry& at(int64_t index) const { return entries_[static_cast<size_t>(index)]; }
  void Add(size_t begin, size_t end, int64_t line);

  std::string file_, text_;
  std::vector<Entry> entries_;
};

}  // namespace crema
