// Floor 4. Blob: a named edge of a net, data and gradient. Param: a weight or a statistic of a layer.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "crema.pb.h"
#include "crema/file_memory.hpp"
#include "crema/tensor.hpp"

namespace crema {

// How a blob's values are spread over the ranks.
enum class Placement {
  kBatch,  // each rank has its own samples (or, for a loss, the same global value)
  kClass,  // the whole batch, each rank having its own classes (logits of a sharded classifier)
};

class Blob {
 public:
  explicit Blob(std::string name) : name_(std::move(name)) {}
  const std::string& name() const { return name_; }

  // Called by the layer that makes the blob, in its Reshape. Memory comes later, from the net's plan.
  // `block`: the layout of a four-axis blob; 1 otherwise.
  void Reshape(DType dtype, Shape shape, int64_t block = 1);
  void ReshapeLike(const Blob& other) { Reshape(other.dtype_, other.shape_, other.block_); }
  // After a Reshape during Forward, by a layer whose top's size is only known then: data and gradient take
  // the new shape within the memory planned for the first one, which must have been the largest.
  void BindShape();
  void set_placement(Placement placement) { placement_ = placement; }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t axes() const { return static_cast<int64_t>(shape_.size()); }
  int64_t dim(int64_t axis) const {
    return shape_[static_cast<size_t>(Axis(axis))];
  }  // negative: from the end
  int64_t count() const { return CountOf(shape_); }
  int64_t count(int64_t begin) const { return CountOf(shape_, begin, axes()); }  // axes [begin, end)
  int64_t count(int64_t begin, int64_t end) const { return CountOf(shape_, begin, end); }
  int64_t bytes() const { return count() * SizeOf(dtype_); }
  int64_t block() const { return block_; }
  Placement placement() const { return placement_; }
  int64_t num() const { return axes() > 0 ? shape_[0] : 1; }
  int64_t channels() const { return axes() > 1 ? shape_[1] : 1; }
  int64_t height() const { return axes() > 2 ? shape_[2] : 1; }
  int64_t width() const { return axes() > 3 ? shape_[3] : 1; }
  Channel channel() const;           // layout by channels (axis 1)
  int64_t Axis(int64_t axis) const;  // canonical axis; throws Error where there is none

  // Whether a gradient is wanted; set by the net before the first Backward.
  bool needs_grad() const { return needs_grad_; }
  void set_needs_grad(bool needs) { needs_grad_ = needs; }

  Tensor& data() { return data_; }
  const Tensor& data() const { return data_; }
  Tensor& grad() { return grad_; }
  const Tensor& grad() const { return grad_; }
  template <class T>
  T* data() {
    return data_.data<T>();
  }
  template <class T>
  T* grad() {
    return grad_.data<T>();
  }

  // The same numbers as data(), i64, where a layer has them on the host as well (labels of a data layer), so
  // that who needs them there does not wait for the device; null: it must. Set by the layer in each Forward,
  // and handed on to the layers that read the blob by the net.
  using HostNumbers = std::shared_ptr<const std::vector<int64_t>>;
  const HostNumbers& host_numbers() const { return host_numbers_; }
  void set_host_numbers(HostNumbers numbers) { host_numbers_ = std::move(numbers); }
  // Those of the coming pass, once the layer that makes the blob has them, which another thread may tell at
  // any time; null until then, or where it never does. Set and handed on in the same way.
  using ComingNumbers = std::shared_ptr<const std::atomic<HostNumbers>>;
  HostNumbers coming_numbers() const {
    return coming_numbers_ == nullptr ? nullptr : coming_numbers_->load();
  }
  void set_coming_numbers(ComingNumbers numbers) { coming_numbers_ = std::move(numbers); }
  void HandNumbersTo(Blob* other) const {
    other->host_numbers_ = host_numbers_;
    other->coming_numbers_ = coming_numbers_;
  }

 private:
  std::string name_;
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t block_ = 1;
  Placement placement_ = Placement::kBatch;
  bool needs_grad_ = false;
  Tensor data_, grad_;
  HostNumbers host_numbers_;
  ComingNumbers coming_numbers_;
};

using Blobs = std::vector<Blob*>;

class RowRule;

struct Param {
  enum class Kind {
    kWeight,     // learnt from its gradient
    kStatistic,  // kept by the layer itself (BatchNorm's); averaged over the ranks, untouched by the
                 // optimiser
  };

  std::string name;  // "conv1/0": layer and index, unique in a net
  Kind kind = Kind::kWeight;
  FillerParameter filler;
  Shape shape;  // of this rank's part
  DType dtype = DType::kF32;
  float lr_mult = 1, decay_mult = 1;

  // Sharded by rows (axis 0): this rank has rows [first_row, first_row + shape[0]) of total_rows.
  bool sharded = false;
  int64_t first_row = 0, total_rows = 0;

  // Which class a row belongs to, where classes are not in order: class c is row Permutation(key,
  // total_rows)(c).
  std::optional<uint64_t> assignment;
  int64_t ClassOfRow(int64_t row) const;  // of all ranks' rows

  // Gradients by rows: Backward gives `rows` (sorted local row numbers) and row_grad [rows, ...] instead of
  // grad, and the optimiser touches these rows only; with update_all_rows it treats the others as having
  // gradient 0.
  bool row_sparse = false, update_all_rows = false;
  std::vector<int64_t> rows;
  Tensor row_grad;
  RowRule* rule = nullptr;  // the optimiser's, while there is one; see crema/head.hpp
  // Where `rows`, of the value and of what the optimiser keeps, have been brought elsewhere for the
  // iteration: one after the other, to be updated there.
  std::vector<Tensor> staged;
  // How often rows have been written where they lie by another than the rule's Update of rows drawn: copies
  // made before are out of date.
  int64_t rewritten = 0;
  // Where work on the value goes on beside the device's: ends it, the way back of such rows too, and has the
  // device wait for it. To be called, and made empty, at the end of an iteration.
  std::function<void()> settle;

  // Where the value and what an optimiser keeps with it lie, in `dtype`: in files, or the host's memory, or
  // else the device's.
  std::shared_ptr<FileMemory> memory;
  bool on_host = false;
  // Memory for the value, or for something of its shape; zeros where it lies in a file, else undefined.
  Tensor NewTensor(Device& device) const;
  // Work on rows [begin, end) of a tensor made by NewTensor is done.
  void UsedRows(int64_t begin, int64_t end) const;
  int64_t row_length() const {
    return shape.empty() ? 1 : CountOf(shape, 1, static_cast<int64_t>(shape.size()));
  }
  int64_t bytes() const { return CountOf(shape) * SizeOf(dtype); }
  int64_t row_count() const { return shape.empty() ? 1 : shape[0]; }

  Tensor value;  // Caffe's order
  Tensor grad;   // accumulated by Backward; empty where row_sparse or for a statistic

  bool needs_grad() const { return kind == Kind::kWeight && lr_mult != 0; }
  template <class T>
  T* data() {
    return value.data<T>();
  }
};

// f(begin, end) for all rows of a value, some at a time, so that what lies in a file need not be resident at
// once.
template <class F>
void ForRowParts(const Param& param, const F& f) {
  constexpr int64_t kRows = 1 << 14;
  for (int64_t begin = 0; begin < param.row_count(); begin += kRows) {
    const int64_t end = std::min(begin + kRows, param.row_count());
    f(begin, end);
    param.UsedRows(begin, end);
  }
}

}  // namespace crema
