// A test tool. What both halves of cuDNN's stand-in (cudnn.cpp: descriptors and tensors; and
// cudnn_convolution.cpp) know of its objects, its refusals and its numbers.
//
// Where the real library would answer with a status, so does this one, with a text for
// cudnnGetLastErrorString (Reject); where it would do as it is told and be wrong, this one stops (Fault).
#pragma once

#include <cudnn.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "objects.hpp"

namespace rehearsal::cudnn {

// A tensor or filter: sizes and strides (in elements) of images, channels, rows and columns.
struct Shape {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::array<int64_t, 4> size{}, stride{};

  int64_t elements() const { return size[0] * size[1] * size[2] * size[3]; }
  int64_t bytes() const;
  std::string Text() const;  // such as 8x64x14x14
};

// A shape without gaps. Rejects unknown formats, types and sizes.
Shape Packed(const char* call, cudnnTensorFormat_t format, cudnnDataType_t type, std::array<int, 4> size);

struct Descriptor : Object {
  bool set = false;
};

}  // namespace rehearsal::cudnn

// cudnn.h names these and leaves the rest to the library.
struct cudnnContext : rehearsal::LibraryHandle {};
struct cudnnTensorStruct : rehearsal::cudnn::Descriptor {
  rehearsal::cudnn::Shape shape;
};
struct cudnnFilterStruct : rehearsal::cudnn::Descriptor {
  rehearsal::cudnn::Shape shape;
};
struct cudnnConvolutionStruct : rehearsal::cudnn::Descriptor {
  int pad[2] = {}, stride[2] = {}, dilation[2] = {};  // of rows, of columns
  int groups = 1;
  cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace rehearsal::cudnn {

// ------------------------------------------------------------------------------------------- refusals

struct Rejection {
  cudnnStatus_t status;
};

// Ends a call of the library with a status and a sentence for cudnnGetLastErrorString.
[[noreturn]] void Reject(cudnnStatus_t status, const char* call, const std::string& what);

inline void Need(bool condition, cudnnStatus_t status, const char* call, const std::string& what) {
  if (!condition) Reject(status, call, what);
}

// The status of a call whose checks may reject.
template <class Work>
cudnnStatus_t Answer(Work&& work) {
  try {
    work();
    return CUDNN_STATUS_SUCCESS;
  } catch (const Rejection& rejection) {
    return rejection.status;
  }
}

// -------------------------------------------------------------------------------------------- objects

// A descriptor, a Fault unless it lives and was set.
template <class T>
const T& Ready(T* object, const char* call, const char* argument) {
  const T& ready = Live(object, call, argument);
  if (!ready.set) Fault(std::string(call) + ": " + argument + " was made and never set");
  return ready;
}

// The calls that make an object and destroy one.
template <class T>
cudnnStatus_t Create(const char* call, const char* argument, T** made) {
  CheckOnHost(call, argument, made);
  *made = Make<T>();
  return CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t Discard(const char* call, const char* argument, T* object) {
  Destroy(object, call, argument);
  return CUDNN_STATUS_SUCCESS;
}

// ------------------------------------------------------------------------------------------- operands

struct Operand {
  const char* name;
  const void* data;
  int64_t bytes;
};

// A Fault unless an operand is whole in the memory of the stream's GPU, at a multiple of so many bytes.
void CheckOperand(cudaStream_t stream, const char* call, const Operand& operand, int64_t alignment);
// A Fault where what is written shares a byte with what is read.
void CheckApart(const char* call, const Operand& written, const Operand& read);
// A factor, read on the host at the time of the call: double for doubles, else float.
double Factor(const char* call, const char* argument, const void* factor, cudnnDataType_t type);

// ------------------------------------------------------------------------------------------- elements

// The upper half of a float.
struct BFloat16 {
  BFloat16() = default;
  explicit BFloat16(float value) {
    uint32_t whole = std::bit_cast<uint32_t>(value);
    if (value == value) whole += 0x7FFF + (whole >> 16 & 1);  // to nearest, ties to even
    bits = static_cast<uint16_t>(whole >> 16 | (value == value ? 0 : 0x40));
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }

  uint16_t bits;
};

// What an element is reckoned in.
template <class T>
using Sum = std::conditional_t<sizeof(T) == 2, float, T>;

// Calls work with an element of a descriptor's type. Half a float is the compiler's, which rounds to even.
template <class Work>
void WithElement(cudnnDataType_t type, Work&& work) {
  switch (type) {
    case CUDNN_DATA_FLOAT:
      return work(float{});
    case CUDNN_DATA_DOUBLE:
      return work(double{});
    case CUDNN_DATA_HALF:
      return work(_Float16{});
    case CUDNN_DATA_BFLOAT16:
      return work(BFloat16{});
    default:
      Fault("cuDNN's stand-in met an element of type " + std::to_string(type));
  }
}

// *to = alpha * value + beta * *to, where a beta of zero does not read.
template <class T>
void Blend(T* to, Sum<T> value, Sum<T> alpha, Sum<T> beta) {
  Sum<T> result = alpha * value;
  if (beta != 0) result += beta * static_cast<Sum<T>>(*to);
  *to = static_cast<T>(result);
}

}  // namespace rehearsal::cudnn
