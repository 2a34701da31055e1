// Floor 0. HDF5 files as Caffe uses them: numbers under names such as "data/conv1/0". Called by the layers
// HDF5Data and HDF5Output and by what reads and writes weights and snapshots.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crema/error.hpp"

namespace crema {

// HDF5's library is called under one lock, since ranks may be threads. All functions throw Error, naming the
// file.
class Hdf5File {
 public:
  enum class Mode { kRead, kCreate, kChange };
  Hdf5File(std::string path, Mode mode);
  ~Hdf5File();
  Hdf5File(const Hdf5File&) = delete;

  const std::string& path() const { return path_; }
  bool Has(const std::string& name) const;
  bool IsGroup(const std::string& name) const;
  // What a group holds, in the order of names; "/" is the file's own.
  std::vector<std::string> Names(const std::string& group) const;
  std::vector<int64_t> Shape(const std::string& name) const;
  // All numbers of a dataset, or those of rows [first, first + count) of its first axis, converted.
  std::vector<float> Floats(const std::string& name) const;
  std::vector<float> Floats(const std::string& name, int64_t first, int64_t count) const;
  std::vector<double> Doubles(const std::string& name) const;
  // Whether it holds numbers of 64 bits.
  bool IsDouble(const std::string& name) const;
  std::string Text(const std::string& name) const;

  // Groups on the way to a name are made.
  void Write(const std::string& name, const std::vector<int64_t>& shape, const float* values);
  void Write(const std::string& name, const std::vector<int64_t>& shape, const double* values);
  void MakeGroup(const std::string& name);
  void WriteInteger(const std::string& name, int32_t value);
  void WriteText(const std::string& name, const std::string& text);
  // Rows behind those of a dataset that is there already; all axes but the first must be equal.
  void Append(const std::string& name, const std::vector<int64_t>& shape, const float* values);
  void Flush();

 private:
  void WriteAs(const std::string& name, const std::vector<int64_t>& shape, int64_t type, const void* values);
  void ReadAs(const std::string& name, int64_t type, int64_t first, int64_t count, void* values) const;
  void Make(const std::string& name, const std::vector<int64_t>& shape, bool grows, int64_t type);

  std::string path_;
  int64_t file_ = -1;
};

}  // namespace crema
