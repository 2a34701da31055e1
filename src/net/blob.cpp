#include "crema/blob.hpp"

#include <glog/logging.h>

#include "crema/device.hpp"
#include "crema/permutation.hpp"

namespace crema {

void Blob::Reshape(DType dtype, Shape shape, int64_t block) {
  CHECK(block == 1 || (shape.size() == 4 && shape[1] % block == 0))
      << name_ << " " << ToString(shape) << " in blocks of " << block;
  for (int64_t size : shape)
    Require(size >= 0, "blob '", name_, "' has a negative size in ", ToString(shape));
  dtype_ = dtype;
  shape_ = std::move(shape);
  block_ = block;
}

void Blob::BindShape() {
  if (!data_.empty()) data_ = data_.Resized(shape_);
  if (!grad_.empty()) grad_ = grad_.Resized(shape_);
}

Channel Blob::channel() const {
  if (axes() < 2) return {num(), 1, 1, 1};
  if (axes() == 2)
    return {num(), 1, 1, channels()};  // channels are adjacent, as in a channels-last 1 x 1 image
  return {num(), channels() / block_, count(2), block_};
}

int64_t Blob::Axis(int64_t axis) const {
  Require(axis >= -axes() && axis < axes(), "axis ", axis, " found where blob '", name_, "' has ", axes(),
          " axes (", ToString(shape_), ")");
  return axis < 0 ? axis + axes() : axis;
}

int64_t Param::ClassOfRow(int64_t row) const {
  return assignment ? Permutation(*assignment, total_rows).Inverse(row) : row;
}

Tensor Param::NewTensor(Device& device) const {
  const int64_t size = CountOf(shape) * SizeOf(dtype);
  if (memory != nullptr) return Tensor(device, dtype, shape, 1, memory->Map(size), 0);
  if (on_host) return Tensor(device, dtype, shape, 1, device.AllocateOnHost(size), 0);
  return Tensor(device, dtype, shape);
}

void Param::UsedRows(int64_t begin, int64_t end) const {
  if (memory != nullptr) memory->Used(nullptr, begin, end - begin, row_length() * SizeOf(dtype));
}

}  // namespace crema
