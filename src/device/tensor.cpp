#include "crema/tensor.hpp"

#include <glog/logging.h>

#include "crema/device.hpp"

namespace crema {

Tensor::Tensor(Device& device, DType dtype, Shape shape, int64_t block)
    : device_(&device),
      dtype_(dtype),
      shape_(std::move(shape)),
      count_(CountOf(shape_)),
      capacity_(count_),
      block_(block) {
  memory_ = device.Allocate(bytes());
  bytes_ = static_cast<char*>(memory_.get());
}

Tensor::Tensor(Device& device, DType dtype, Shape shape, int64_t block, std::shared_ptr<void> memory,
               int64_t byte_offset)
    : device_(&device),
      dtype_(dtype),
      shape_(std::move(shape)),
      count_(CountOf(shape_)),
      capacity_(count_),
      block_(block),
      memory_(std::move(memory)),
      bytes_(static_cast<char*>(memory_.get()) + byte_offset) {}

int64_t Tensor::dim(int64_t axis) const {
  if (axis < 0) axis += axes();
  CHECK(axis >= 0 && axis < axes()) << "axis " << axis << " of a tensor of shape " << ToString(shape_);
  return shape_[static_cast<size_t>(axis)];
}

Tensor Tensor::Rows(int64_t begin, int64_t end) const {
  CHECK(axes() > 0 && 0 <= begin && begin <= end && end <= shape_[0])
      << "rows " << begin << " to " << end << " of " << ToString(shape_);
  Tensor part = *this;
  const int64_t row = CountOf(shape_, 1, axes());
  part.shape_[0] = end - begin;
  part.count_ = part.capacity_ = (end - begin) * row;
  part.bytes_ = bytes_ + begin * row * SizeOf(dtype_);
  return part;
}

Tensor Tensor::Reshaped(Shape shape) const {
  CHECK_EQ(CountOf(shape), count_) << ToString(shape_) << " as " << ToString(shape);
  Tensor other = *this;
  other.shape_ = std::move(shape);
  return other;
}

Tensor Tensor::Resized(Shape shape) const {
  CHECK_LE(CountOf(shape), capacity_) << ToString(shape) << " in the memory of " << ToString(shape_);
  Tensor other = *this;
  other.shape_ = std::move(shape);
  other.count_ = CountOf(other.shape_);
  return other;
}

void Tensor::CopyFrom(const Tensor& other) {
  CHECK(dtype_ == other.dtype_ && shape_ == other.shape_ && block_ == other.block_)
      << ToString(shape_) << " from " << ToString(other.shape_);
  device_->Copy(raw(), other.raw(), bytes());
}

void Tensor::Zero() {
  if (count_ > 0) device_->Zero(raw(), bytes());
}

void Tensor::CopyToHost(void* out) const {
  if (count_ > 0) device_->CopyToHost(out, raw(), bytes());
}

void Tensor::CopyFromHost(const void* in, int64_t elements) {
  CHECK_EQ(elements, count_);
  if (count_ > 0) device_->CopyFromHost(raw(), in, bytes());
}

void Tensor::CheckType(DType wanted) const {
  CHECK(dtype_ == wanted) << "a tensor of " << NameOf(dtype_) << " read as " << NameOf(wanted);
}

void* Scratch::Get(int64_t bytes) {
  if (bytes > bytes_) {
    memory_.reset();  // the old buffer goes before the new one comes
    memory_ = device_->Allocate(bytes);
    bytes_ = bytes;
  }
  return memory_.get();
}

}  // namespace crema
