// Floor 1. Tensor: a typed, shaped piece of memory on one device. Copies of a Tensor share the memory.
#pragma once

#include <memory>

#include "crema/types.hpp"

namespace crema {

class Device;

class Tensor {
 public:
  Tensor() = default;
  // Allocates; the contents are undefined. `block`: channel block of the layout (see Channel), 1 where the
  // shape has fewer than three axes.
  Tensor(Device& device, DType dtype, Shape shape, int64_t block = 1);
  // A tensor in memory that someone else planned; `memory` keeps it alive.
  Tensor(Device& device, DType dtype, Shape shape, int64_t block, std::shared_ptr<void> memory,
         int64_t byte_offset);

  bool empty() const { return device_ == nullptr; }  // default-constructed: no memory at all
  Device& device() const { return *device_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t axes() const { return static_cast<int64_t>(shape_.size()); }
  int64_t dim(int64_t axis) const;  // negative axes count from the end
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * SizeOf(dtype_); }
  int64_t block() const { return block_; }

  // Memory on the tensor's device; T must be the tensor's type.
  template <class T>
  T* data() {
    CheckType(DTypeOf<T>());
    return static_cast<T*>(raw());
  }
  template <class T>
  const T* data() const {
    CheckType(DTypeOf<T>());
    return static_cast<const T*>(raw());
  }
  void* raw() { return bytes_; }
  const void* raw() const { return bytes_; }
  // The allocation it lies in, the same for tensors cut from one piece of memory.
  const std::shared_ptr<void>& memory() const { return memory_; }

  // The same memory: rows [begin, end) of the first axis (block 1 or axis 0 = N), or another shape.
  Tensor Rows(int64_t begin, int64_t end) const;
  Tensor Reshaped(Shape shape) const;
  // The front of the same memory, as a smaller (or again a larger) shape that fits in what was allocated.
  Tensor Resized(Shape shape) const;

  void CopyFrom(const Tensor& other);  // same type, shape and layout; same device
  void Zero();
  // Host copies, in the tensor's physical order.
  template <class T>
  std::vector<T> ToHost() const {
    CheckType(DTypeOf<T>());
    std::vector<T> out(static_cast<size_t>(count_));
    CopyToHost(out.data());
    return out;
  }
  template <class T>
  void FromHost(const std::vector<T>& in) {
    CheckType(DTypeOf<T>());
    CopyFromHost(in.data(), static_cast<int64_t>(in.size()));
  }
  void CopyToHost(void* out) const;                     // count() elements
  void CopyFromHost(const void* in, int64_t elements);  // elements must be count()

 private:
  void CheckType(DType wanted) const;

  Device* device_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t count_ = 0;
  int64_t capacity_ = 0;  // elements
  int64_t block_ = 1;
  std::shared_ptr<void> memory_;
  char* bytes_ = nullptr;
};

}  // namespace crema
