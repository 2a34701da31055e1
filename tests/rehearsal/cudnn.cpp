// A test tool. cuDNN, as far as Crema calls it, over the imaginary GPUs of machine.hpp: handles, descriptors
// and what is done to single tensors. Convolutions are in cudnn_convolution.cpp.
#include "cudnn.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace rehearsal::cudnn {

namespace {

thread_local std::string last_error;

int64_t BytesOf(cudnnDataType_t type) {
  int64_t bytes = 0;
  WithElement(type, [&](auto element) { bytes = sizeof(element); });
  return bytes;
}

bool IsKnown(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF ||
         type == CUDNN_DATA_BFLOAT16;
}

}  // namespace

int64_t Shape::bytes() const {
  return elements() * BytesOf(type);
}

std::string Shape::Text() const {
  std::string text;
  for (int64_t length : size) text += (text.empty() ? "" : "x") + std::to_string(length);
  return text;
}

Shape Packed(const char* call, cudnnTensorFormat_t format, cudnnDataType_t type, std::array<int, 4> size) {
  Need(format == CUDNN_TENSOR_NCHW || format == CUDNN_TENSOR_NHWC,
       format == CUDNN_TENSOR_NCHW_VECT_C ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_BAD_PARAM, call,
       "format " + std::to_string(format) + " was found; NCHW or NHWC was expected");
  Need(type >= CUDNN_DATA_FLOAT && type <= CUDNN_DATA_FAST_FLOAT_FOR_FP8, CUDNN_STATUS_BAD_PARAM, call,
       "data type " + std::to_string(type) + " is none");
  Need(IsKnown(type), CUDNN_STATUS_NOT_SUPPORTED, call,
       "data type " + std::to_string(type) +
           " is not rehearsed; float, double, half or bfloat16 was expected");
  Shape shape{type, {}, {}};
  int64_t elements = 1;
  for (size_t k = 0; k < 4; ++k) {
    Need(size[k] > 0, CUDNN_STATUS_BAD_PARAM, call,
         "size " + std::to_string(k) + " is " + std::to_string(size[k]) + "; at least 1 was expected");
    shape.size[k] = size[k];
    elements *= size[k];
    Need(elements <= std::numeric_limits<int>::max(), CUDNN_STATUS_NOT_SUPPORTED, call,
         "2147483648 elements or more were found; cuDNN takes fewer");
  }
  const auto [images, channels, rows, columns] = shape.size;
  if (format == CUDNN_TENSOR_NCHW)
    shape.stride = {channels * rows * columns, rows * columns, columns, 1};
  else
    shape.stride = {channels * rows * columns, 1, columns * channels, channels};
  return shape;
}

void Reject(cudnnStatus_t status, const char* call, const std::string& what) {
  last_error = std::string(call) + ": " + what;
  throw Rejection{status};
}

void CheckOperand(cudaStream_t stream, const char* call, const Operand& operand, int64_t alignment) {
  CheckOnGpu(stream, call, operand.name, operand.data, operand.bytes);
  CheckAligned(call, operand.name, operand.data, alignment);
}

void CheckApart(const char* call, const Operand& written, const Operand& read) {
  if (Overlap(written.data, written.bytes, read.data, read.bytes))
    Fault(std::string(call) + ": " + written.name + ", which is written, overlaps " + read.name);
}

double Factor(const char* call, const char* argument, const void* factor, cudnnDataType_t type) {
  CheckOnHost(call, argument, factor);
  if (type == CUDNN_DATA_DOUBLE) return *static_cast<const double*>(factor);
  return *static_cast<const float*>(factor);
}

namespace {

// Calls work with where each element is in two tensors of the same sizes, or the first of which has size 1
// where its element serves for all. In the order of the second's memory: out of it, channels last would be
// read once for each channel.
template <class Work>
void ForEachPair(const Shape& from, const Shape& to, Work&& work) {
  std::array<size_t, 4> order{0, 1, 2, 3};
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return to.stride[a] > to.stride[b]; });
  std::array<int64_t, 4> size{}, a{}, b{};
  for (size_t k = 0; k < 4; ++k) {
    size[k] = to.size[order[k]];
    a[k] = from.size[order[k]] == 1 ? 0 : from.stride[order[k]];
    b[k] = to.stride[order[k]];
  }
  for (int64_t i = 0; i < size[0]; ++i)
    for (int64_t j = 0; j < size[1]; ++j)
      for (int64_t k = 0; k < size[2]; ++k) {
        const int64_t start_a = i * a[0] + j * a[1] + k * a[2], start_b = i * b[0] + j * b[1] + k * b[2];
        for (int64_t l = 0; l < size[3]; ++l) work(start_a + l * a[3], start_b + l * b[3]);
      }
}

// The calls that set a tensor's or filter's descriptor.
template <class T>
cudnnStatus_t SetShape(const char* call, const char* argument, T* descriptor, cudnnTensorFormat_t format,
                       cudnnDataType_t type, std::array<int, 4> size) {
  return Answer([&] {
    T& found = Live(descriptor, call, argument);
    found.shape = Packed(call, format, type, size);
    found.set = true;
  });
}

struct Pair {
  Shape from, to;
  cudaStream_t stream;
  double alpha, beta;
};

// What all calls with one tensor that is read and one that is written check.
Pair CheckPair(const char* call, cudnnHandle_t handle, const void* alpha, const char* from_name,
               cudnnTensorDescriptor_t from, const void* from_data, const void* beta, const char* to_name,
               cudnnTensorDescriptor_t to, const void* to_data) {
  const std::string descriptor = "Desc";
  Pair pair{Ready(from, call, (from_name + descriptor).c_str()).shape,
            Ready(to, call, (to_name + descriptor).c_str()).shape, StreamOf(handle, call), 0, 0};
  Need(pair.from.type == pair.to.type, CUDNN_STATUS_NOT_SUPPORTED, call,
       "data types " + std::to_string(pair.from.type) + " and " + std::to_string(pair.to.type) +
           " were found; one was expected");
  const Operand read{from_name, from_data, pair.from.bytes()}, written{to_name, to_data, pair.to.bytes()};
  for (const Operand& operand : {read, written})
    CheckOperand(pair.stream, call, operand, BytesOf(pair.to.type));
  CheckApart(call, written, read);
  pair.alpha = Factor(call, "alpha", alpha, pair.to.type);
  pair.beta = Factor(call, "beta", beta, pair.to.type);
  return pair;
}

// Enqueues to = alpha * from + beta * to.
void EnqueueBlend(const char* call, const Pair& pair, const void* from, void* to) {
  Enqueue(pair.stream, call, [=] {
    WithElement(pair.to.type, [&]<class T>(T) {
      const T* a = static_cast<const T*>(from);
      T* b = static_cast<T*>(to);
      const auto alpha = static_cast<Sum<T>>(pair.alpha), beta = static_cast<Sum<T>>(pair.beta);
      ForEachPair(pair.from, pair.to,
                  [&](int64_t i, int64_t j) { Blend(b + j, static_cast<Sum<T>>(a[i]), alpha, beta); });
    });
  });
}

// The sum over all but channels; in double, so that the order of the terms does not show.
template <class T>
void SumChannels(const Pair& pair, const T* from, T* to) {
  std::vector<double> sums(static_cast<size_t>(pair.to.size[1]));
  const auto [images, channels, rows, columns] = pair.from.size;
  const auto& stride = pair.from.stride;
  for (int64_t n = 0; n < images; ++n)
    for (int64_t h = 0; h < rows; ++h)
      for (int64_t w = 0; w < columns; ++w)
        for (int64_t c = 0; c < channels; ++c)
          sums[static_cast<size_t>(c)] += static_cast<double>(
              static_cast<Sum<T>>(from[n * stride[0] + c * stride[1] + h * stride[2] + w * stride[3]]));
  for (int64_t c = 0; c < channels; ++c)
    Blend(to + c, static_cast<Sum<T>>(sums[static_cast<size_t>(c)]), static_cast<Sum<T>>(pair.alpha),
          static_cast<Sum<T>>(pair.beta));
}

}  // namespace

}  // namespace rehearsal::cudnn

using namespace rehearsal::cudnn;

extern "C" {

// ---------------------------------------------------------------------------------- the library, errors

cudnnStatus_t cudnnGetProperty(libraryPropertyType type, int* value) {
  return Answer([&] {
    const char* call = "cudnnGetProperty";
    rehearsal::CheckOnHost(call, "value", value);
    Need(type >= MAJOR_VERSION && type <= PATCH_LEVEL, CUDNN_STATUS_BAD_PARAM, call, "no such property");
    *value = type == MAJOR_VERSION ? CUDNN_MAJOR : type == MINOR_VERSION ? CUDNN_MINOR : CUDNN_PATCHLEVEL;
  });
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT:
      return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH:
      return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_NOT_SUPPORTED_LAYOUT:
      return "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT";
    case CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE:
      return "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE";
    default:
      return "a status that the rehearsal does not give";
  }
}

void cudnnGetLastErrorString(char* message, size_t max_size) {
  if (message == nullptr || max_size == 0) return;
  rehearsal::CheckOnHost("cudnnGetLastErrorString", "message", message);
  const size_t length = std::min(max_size - 1, last_error.size());
  std::copy_n(last_error.data(), length, message);
  message[length] = '\0';
  last_error.clear();  // a later failure without a text is not to show this one
}

// ---------------------------------------------------------------------------------------------- handles

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return Create("cudnnCreate", "handle", handle);
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  return Discard("cudnnDestroy", "the handle", handle);
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  rehearsal::SetStream(handle, stream, "cudnnSetStream");
  return CUDNN_STATUS_SUCCESS;
}

// ------------------------------------------------------------------------------------------ descriptors

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) {
  return Create("cudnnCreateTensorDescriptor", "tensorDesc", tensor);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) {
  return Discard("cudnnDestroyTensorDescriptor", "tensorDesc", tensor);
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  return SetShape("cudnnSetTensor4dDescriptor", "tensorDesc", tensor, format, type, {n, c, h, w});
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) {
  return Create("cudnnCreateFilterDescriptor", "filterDesc", filter);
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) {
  return Discard("cudnnDestroyFilterDescriptor", "filterDesc", filter);
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  return SetShape("cudnnSetFilter4dDescriptor", "filterDesc", filter, format, type, {k, c, h, w});
}

// -------------------------------------------------------------------------------------- single tensors

cudnnStatus_t cudnnAddTensor(cudnnHandle_t handle, const void* alpha, const cudnnTensorDescriptor_t a_tensor,
                             const void* a, const void* beta, const cudnnTensorDescriptor_t c_tensor,
                             void* c) {
  return Answer([&] {
    const char* call = "cudnnAddTensor";
    const Pair pair = CheckPair(call, handle, alpha, "A", a_tensor, a, beta, "C", c_tensor, c);
    for (size_t k = 0; k < 4; ++k) {
      Need(pair.from.size[k] == 1 || pair.from.size[k] == pair.to.size[k], CUDNN_STATUS_BAD_PARAM, call,
           "A is " + pair.from.Text() + " and C " + pair.to.Text() +
               "; sizes of A of 1 or of C were expected");
    }
    EnqueueBlend(call, pair, a, c);
  });
}

cudnnStatus_t cudnnTransformTensor(cudnnHandle_t handle, const void* alpha,
                                   const cudnnTensorDescriptor_t x_tensor, const void* x, const void* beta,
                                   const cudnnTensorDescriptor_t y_tensor, void* y) {
  return Answer([&] {
    const char* call = "cudnnTransformTensor";
    const Pair pair = CheckPair(call, handle, alpha, "x", x_tensor, x, beta, "y", y_tensor, y);
    Need(pair.from.size == pair.to.size, CUDNN_STATUS_NOT_SUPPORTED, call,
         "x is " + pair.from.Text() + " and y " + pair.to.Text() + "; the same sizes were expected");
    EnqueueBlend(call, pair, x, y);
  });
}

cudnnStatus_t cudnnConvolutionBackwardBias(cudnnHandle_t handle, const void* alpha,
                                           const cudnnTensorDescriptor_t dy_tensor, const void* dy,
                                           const void* beta, const cudnnTensorDescriptor_t db_tensor,
                                           void* db) {
  return Answer([&] {
    const char* call = "cudnnConvolutionBackwardBias";
    const Pair pair = CheckPair(call, handle, alpha, "dy", dy_tensor, dy, beta, "db", db_tensor, db);
    Need(pair.to.size == std::array<int64_t, 4>{1, pair.from.size[1], 1, 1}, CUDNN_STATUS_BAD_PARAM, call,
         "db is " + pair.to.Text() + "; 1x" + std::to_string(pair.from.size[1]) + "x1x1 was expected");
    rehearsal::Enqueue(pair.stream, call, [=] {
      WithElement(pair.to.type,
                  [&]<class T>(T) { SumChannels(pair, static_cast<const T*>(dy), static_cast<T*>(db)); });
    });
  });
}

}  // extern "C"
