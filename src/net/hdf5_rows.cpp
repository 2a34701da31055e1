#include "net/hdf5_rows.hpp"

#include <algorithm>
#include <sstream>

#include "base/byte_order_mark.hpp"
#include "base/hdf5_file.hpp"
#include "crema/io.hpp"
#include "crema/permutation.hpp"
#include "crema/philox.hpp"

namespace crema {

Hdf5Rows::Hdf5Rows(const std::string& list, std::vector<std::string> names) : names_(std::move(names)) {
  first_row_.push_back(0);
  const std::string text = ReadFile(list);
  std::istringstream lines(text.substr(BeginOfText(text)));
  for (std::string path; std::getline(lines, path);) {
    while (!path.empty() && (path.back() == '\r' || path.back() == ' ')) path.pop_back();
    if (!path.empty()) AddFile(path);
  }
  Require(size() > 0, "the list '", list, "' names no HDF5 file with rows");
}

void Hdf5Rows::AddFile(const std::string& path) {
  const Hdf5File file(path, Hdf5File::Mode::kRead);
  int64_t rows = -1;
  for (size_t k = 0; k < names_.size(); ++k) {
    Require(file.Has(names_[k]), "'", path, "' has no dataset '", names_[k], "', which is the name of a top");
    Shape shape = file.Shape(names_[k]);
    Require(!shape.empty() && (rows < 0 || shape[0] == rows), "dataset '", names_[k], "' of '", path,
            "' has shape ", ToString(shape), " where ", rows < 0 ? "some" : std::to_string(rows),
            " rows were expected");
    rows = shape[0];
    shape.erase(shape.begin());
    if (shapes_.size() <= k) shapes_.push_back(shape);
    Require(shape == shapes_[k], "dataset '", names_[k], "' of '", path, "' has rows of shape ",
            ToString(shape), " where ", ToString(shapes_[k]), ", as in '", files_.empty() ? path : files_[0],
            "', was expected");
  }
  files_.push_back(path);
  first_row_.push_back(first_row_.back() + rows);
}

void Hdf5Rows::Load(size_t file) {
  if (loaded_ == file) return;
  const Hdf5File in(files_[file], Hdf5File::Mode::kRead);
  values_.clear();
  for (size_t k = 0; k < names_.size(); ++k) {
    values_.push_back(in.Floats(names_[k]));
    const int64_t wanted = (first_row_[file + 1] - first_row_[file]) * CountOf(shapes_[k]);
    Require(static_cast<int64_t>(values_[k].size()) == wanted, "dataset '", names_[k], "' of '", files_[file],
            "' has changed since the run began");
  }
  loaded_ = file;
}

void Hdf5Rows::Append(int64_t position, bool shuffle, uint64_t seed, std::vector<std::vector<float>>* out) {
  const uint64_t epoch = static_cast<uint64_t>(position / size());
  const int64_t files = static_cast<int64_t>(files_.size());
  const Permutation order(MixBits(seed, epoch), files);
  int64_t row = position % size(), rows = 0;
  size_t file = 0;
  for (int64_t k = 0; k < files; ++k, row -= rows) {
    file = static_cast<size_t>(shuffle ? order(k) : k);
    rows = first_row_[file + 1] - first_row_[file];
    if (row < rows) break;
  }
  if (shuffle) row = Permutation(MixBits(MixBits(seed, epoch), file + 1), rows)(row);
  Load(file);
  for (size_t k = 0; k < names_.size(); ++k) {
    const int64_t length = CountOf(shapes_[k]);
    const auto begin = values_[k].begin() + row * length;
    (*out)[k].insert((*out)[k].end(), begin, begin + length);
  }
}

void AppendHdf5Rows(const std::string& path, bool create, const std::string& dataset, const Shape& shape,
                    const std::vector<float>& values) {
  Hdf5File file(path, create ? Hdf5File::Mode::kCreate : Hdf5File::Mode::kChange);
  file.Append(dataset, shape, values.data());
  file.Flush();
}

}  // namespace crema
