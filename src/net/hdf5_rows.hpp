// Floor 4. Rows of HDF5 files: those that a text file lists, read in order or shuffled, and one that grows.
// Called by the layers HDF5Data and HDF5Output.
#pragma once

#include <string>
#include <vector>

#include "crema/tensor.hpp"

namespace crema {

// The rows of the datasets of some names in all files of a list, which has a path on each line. In each file
// the datasets have equally many rows; but for their number, rows have the same shape in all files. Throws
// Error, naming list, file and dataset, for anything else.
class Hdf5Rows {
 public:
  Hdf5Rows(const std::string& list, std::vector<std::string> names);

  int64_t size() const { return first_row_.back(); }
  const Shape& row_shape(size_t dataset) const { return shapes_[dataset]; }
  // Appends the row at a position of an endless walk to out[dataset]. Each epoch visits every row once: in
  // order, or file after file in a random order of its own, and so the rows of a file. One file at a time is
  // in memory.
  void Append(int64_t position, bool shuffle, uint64_t seed, std::vector<std::vector<float>>* out);

 private:
  void AddFile(const std::string& path);
  void Load(size_t file);

  std::vector<std::string> names_, files_;
  std::vector<Shape> shapes_;       // of a row of each dataset
  std::vector<int64_t> first_row_;  // of each file, and the number of all
  size_t loaded_ = SIZE_MAX;
  std::vector<std::vector<float>> values_;  // of the file that is loaded
};

// Rows [shape[0], ...] behind those of a dataset; `create`: in a new file. Throws Error.
void AppendHdf5Rows(const std::string& path, bool create, const std::string& dataset, const Shape& shape,
                    const std::vector<float>& values);

}  // namespace crema
