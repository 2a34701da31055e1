// A test tool. The convolutions of cuDNN's stand-in: what is checked and promised. Of the algorithms it
// names, some are there to be passed over: the fastest differs from run to run, one does not exist, one wants
// more memory than there should be; and no workspace is of an even size.
#include <algorithm>
#include <span>

#include "cudnn_convolver.hpp"

namespace rehearsal::cudnn {

namespace {

// ---------------------------------------------------------------------------------------- descriptors

// Whether a tensor lies in memory without gaps in a format. Strides of a single channel, row or column do
// not matter.
bool Lies(const Shape& shape, bool last) {
  const auto [n, c, h, w] = shape.size;
  const std::array<int64_t, 4> planes{c * h * w, h * w, w, 1}, mixed{c * h * w, 1, w * c, c};
  for (size_t k = 0; k < 4; ++k) {
    if (shape.size[k] != 1 && shape.stride[k] != (last ? mixed : planes)[k]) return false;
  }
  return true;
}

int64_t OutputSize(int64_t size, int64_t kernel, int64_t pad, int64_t stride, int64_t dilation) {
  const int64_t room = size + 2 * pad - (dilation * (kernel - 1) + 1);
  return room < 0 ? 0 : room / stride + 1;
}

void CheckTypes(const char* call, const Shape& x, const Shape& w, const Shape& y, cudnnDataType_t compute) {
  Need(x.type == w.type && x.type == y.type, CUDNN_STATUS_BAD_PARAM, call,
       "data types " + std::to_string(x.type) + " of the input, " + std::to_string(w.type) +
           " of the filters and " + std::to_string(y.type) + " of the output were found; one was expected");
  const cudnnDataType_t sums = x.type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
  Need(compute == sums, CUDNN_STATUS_NOT_SUPPORTED, call,
       "data type " + std::to_string(x.type) + " with computing type " + std::to_string(compute) +
           " was found; computing type " + std::to_string(sums) + " was expected");
}

void CheckSizes(const char* call, const Problem& d, const Shape& w, const Shape& y) {
  const auto need = [&](bool condition, const std::string& what) {
    Need(condition, CUDNN_STATUS_BAD_PARAM, call, what);
  };
  need(d.c == d.groups * w.size[1], std::to_string(d.c) + " channels of the input were found; " +
                                        std::to_string(d.groups) + " groups of filters of " +
                                        std::to_string(w.size[1]) + " were expected");
  need(d.k % d.groups == 0, std::to_string(d.k) + " outputs were found; a multiple of " +
                                std::to_string(d.groups) + " groups was expected");
  const std::array<int64_t, 4> expected{d.n, d.k, OutputSize(d.h, d.r, d.pad_h, d.stride_h, d.dilation_h),
                                        OutputSize(d.w, d.s, d.pad_w, d.stride_w, d.dilation_w)};
  const Shape shape{y.type, expected, {}};
  need(expected[2] > 0 && expected[3] > 0, "filters " + w.Text() + " reach beyond the input and its padding");
  need(y.size == expected, "the output is " + y.Text() + "; " + shape.Text() + " was expected");
}

// What the descriptors say, copied; a rejection where they do not fit together.
Problem Describe(const char* call, cudnnTensorDescriptor_t x_tensor, cudnnFilterDescriptor_t filter,
                 cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t y_tensor) {
  const Shape &x = Ready(x_tensor, call, "the input's descriptor").shape,
              &w = Ready(filter, call, "the filters' descriptor").shape,
              &y = Ready(y_tensor, call, "the output's descriptor").shape;
  const cudnnConvolutionStruct& how = Ready(convolution, call, "the convolution's descriptor");
  CheckTypes(call, x, w, y, how.compute);
  Problem d;
  d.type = x.type;
  d.rounded = x.type == CUDNN_DATA_FLOAT && how.math != CUDNN_FMA_MATH;
  d.n = x.size[0], d.c = x.size[1], d.h = x.size[2], d.w = x.size[3];
  d.k = w.size[0], d.r = w.size[2], d.s = w.size[3];
  d.p = y.size[2], d.q = y.size[3];
  d.pad_h = how.pad[0], d.pad_w = how.pad[1];
  d.stride_h = how.stride[0], d.stride_w = how.stride[1];
  d.dilation_h = how.dilation[0], d.dilation_w = how.dilation[1];
  d.groups = how.groups;
  CheckSizes(call, d, w, y);
  const auto all_lie = [&](bool last) { return Lies(x, last) && Lies(w, last) && Lies(y, last); };
  d.last = !all_lie(false);
  Need(!d.last || all_lie(true), CUDNN_STATUS_NOT_SUPPORTED, call,
       "input " + x.Text() + ", filters " + w.Text() + " and output " + y.Text() +
           " are of different formats; all NCHW or all NHWC was expected");
  return d;
}

// ---------------------------------------------------------------------------------------- algorithms

enum class Room { kNone, kOdd, kHuge };

struct Algorithm {
  int number;
  cudnnStatus_t status;
  cudnnDeterminism_t determinism;
  Room room;
};

// Fastest first. The first choice of a caller that does not look is the wrong one.
constexpr auto kGood = CUDNN_STATUS_SUCCESS, kNotThere = CUDNN_STATUS_NOT_SUPPORTED;
constexpr auto kSame = CUDNN_DETERMINISTIC, kDiffers = CUDNN_NON_DETERMINISTIC;
constexpr Algorithm kForwardAlgorithms[] = {
    {CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, kGood, kDiffers, Room::kOdd},
    {CUDNN_CONVOLUTION_FWD_ALGO_DIRECT, kNotThere, kSame, Room::kNone},
    {CUDNN_CONVOLUTION_FWD_ALGO_FFT, kGood, kSame, Room::kHuge},
    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, kGood, kSame, Room::kOdd},
    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, kGood, kSame, Room::kNone}};
constexpr Algorithm kDataAlgorithms[] = {
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, kGood, kDiffers, Room::kNone},
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD, kNotThere, kSame, Room::kNone},
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, kGood, kSame, Room::kHuge},
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, kGood, kSame, Room::kOdd}};
constexpr Algorithm kFilterAlgorithms[] = {
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, kGood, kDiffers, Room::kNone},
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD, kNotThere, kSame, Room::kNone},
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, kGood, kSame, Room::kHuge},
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, kGood, kSame, Room::kOdd}};

std::span<const Algorithm> AlgorithmsOf(Direction direction) {
  if (direction == Direction::kForward) return kForwardAlgorithms;
  if (direction == Direction::kData) return kDataAlgorithms;
  return kFilterAlgorithms;
}

// Bytes of workspace: other ones for each shape and direction, and odd.
size_t RoomFor(const Algorithm& algorithm, Direction direction, const Problem& d) {
  if (algorithm.room == Room::kNone) return 0;
  if (algorithm.room == Room::kHuge) return (size_t{3} << 30) + 1;
  const int64_t by_shape = (d.c * 31 + d.h * 17 + d.k * 7 + d.p * 3 + d.n) % 1000;
  return static_cast<size_t>(1003 + 2 * by_shape + 100 * static_cast<int64_t>(direction));
}

template <class Perf>
cudnnStatus_t Name(const char* call, Direction direction, cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                   cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t convolution,
                   cudnnTensorDescriptor_t y, int wanted, int* count, Perf* found) {
  return Answer([&] {
    StreamOf(handle, call);
    CheckOnHost(call, "returnedAlgoCount", count);
    CheckOnHost(call, "perfResults", found);
    Need(wanted > 0, CUDNN_STATUS_BAD_PARAM, call,
         std::to_string(wanted) + " algorithms were asked for; at least 1 was expected");
    const Problem problem = Describe(call, x, w, convolution, y);
    *count = 0;
    for (const Algorithm& algorithm : AlgorithmsOf(direction)) {
      if (*count == wanted) break;
      Perf perf{};
      perf.algo = static_cast<decltype(perf.algo)>(algorithm.number);
      perf.status = algorithm.status;
      perf.time = algorithm.status == CUDNN_STATUS_SUCCESS ? static_cast<float>(*count + 1) : -1;
      perf.memory = RoomFor(algorithm, direction, problem);
      perf.determinism = algorithm.determinism;
      perf.mathType = convolution->math;
      found[(*count)++] = perf;
    }
  });
}

struct Workspace {
  int algorithm;
  void* data;
  size_t bytes;
};

void CheckAlgorithm(const char* call, Direction direction, const Problem& problem, const Workspace& room) {
  const auto algorithms = AlgorithmsOf(direction);
  const auto known = std::find_if(algorithms.begin(), algorithms.end(),
                                  [&](const Algorithm& one) { return one.number == room.algorithm; });
  Need(known != algorithms.end() && known->status == CUDNN_STATUS_SUCCESS, CUDNN_STATUS_NOT_SUPPORTED, call,
       "algorithm " + std::to_string(room.algorithm) + " is not one that was named as possible");
  const size_t needed = RoomFor(*known, direction, problem);
  Need(room.bytes >= needed, CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, call,
       "a workspace of " + std::to_string(room.bytes) + " bytes was found; algorithm " +
           std::to_string(room.algorithm) + " needs " + std::to_string(needed));
}

void Run(const char* call, Direction direction, cudnnHandle_t handle, const void* alpha,
         const Problem& problem, const Operand& first, const Operand& second, const Workspace& room,
         const void* beta, const Operand& result, void* result_data) {
  const cudaStream_t stream = StreamOf(handle, call);
  CheckAlgorithm(call, direction, problem, room);
  int64_t element = 0;
  WithElement(problem.type, [&](auto one) { element = sizeof(one); });
  const Operand workspace{"the workspace", room.data, static_cast<int64_t>(room.bytes)};
  for (const Operand& operand : {first, second, result}) {
    CheckOperand(stream, call, operand, element);
    if (workspace.bytes > 0) CheckApart(call, workspace, operand);
  }
  if (workspace.bytes > 0) CheckOperand(stream, call, workspace, 16);
  for (const Operand& operand : {first, second}) CheckApart(call, result, operand);
  const double factor = Factor(call, "alpha", alpha, problem.type);
  const double old = Factor(call, "beta", beta, problem.type);
  Enqueue(stream, call, [=, a = first.data, b = second.data] {
    if (room.bytes > 0) std::memset(room.data, 0xFF, room.bytes);  // as if all of it had been used
    WithElement(problem.type,
                [&]<class T>(T) { Compute<T>(problem, direction, a, b, result_data, factor, old); });
  });
}

}  // namespace

}  // namespace rehearsal::cudnn

using namespace rehearsal::cudnn;

extern "C" {

// ------------------------------------------------------------------------------------------ descriptors

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* convolution) {
  return Create("cudnnCreateConvolutionDescriptor", "convDesc", convolution);
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t convolution) {
  return Discard("cudnnDestroyConvolutionDescriptor", "convDesc", convolution);
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  return Answer([&] {
    const char* call = "cudnnSetConvolution2dDescriptor";
    cudnnConvolutionStruct& found = Live(convolution, call, "convDesc");
    Need(pad_h >= 0 && pad_w >= 0, CUDNN_STATUS_BAD_PARAM, call, "padding below 0 was found");
    Need(stride_h > 0 && stride_w > 0, CUDNN_STATUS_BAD_PARAM, call, "a stride below 1 was found");
    Need(dilation_h > 0 && dilation_w > 0, CUDNN_STATUS_BAD_PARAM, call, "a dilation below 1 was found");
    Need(mode == CUDNN_CONVOLUTION || mode == CUDNN_CROSS_CORRELATION, CUDNN_STATUS_BAD_PARAM, call,
         "mode " + std::to_string(mode) + " is none");
    Need(mode == CUDNN_CROSS_CORRELATION, CUDNN_STATUS_NOT_SUPPORTED, call,
         "filters that are turned over are not rehearsed; CUDNN_CROSS_CORRELATION was expected");
    Need(compute == CUDNN_DATA_FLOAT || compute == CUDNN_DATA_DOUBLE, CUDNN_STATUS_NOT_SUPPORTED, call,
         "computing type " + std::to_string(compute) + " was found; float or double was expected");
    found.pad[0] = pad_h, found.pad[1] = pad_w;
    found.stride[0] = stride_h, found.stride[1] = stride_w;
    found.dilation[0] = dilation_h, found.dilation[1] = dilation_w;
    found.compute = compute;
    found.set = true;
  });
}
// What Set leaves of groups and mathematics that were set before it is not documented: after it, then.
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t convolution, int groups) {
  return Answer([&] {
    const char* call = "cudnnSetConvolutionGroupCount";
    Ready(convolution, call, "convDesc");
    Need(groups > 0, CUDNN_STATUS_BAD_PARAM, call,
         std::to_string(groups) + " groups were found; at least 1 was expected");
    convolution->groups = groups;
  });
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convolution, cudnnMathType_t math) {
  return Answer([&] {
    const char* call = "cudnnSetConvolutionMathType";
    Ready(convolution, call, "convDesc");
    Need(math >= CUDNN_DEFAULT_MATH && math <= CUDNN_FMA_MATH, CUDNN_STATUS_BAD_PARAM, call,
         "mathematics of type " + std::to_string(math) + " is none");
    convolution->math = math;
  });
}

// ------------------------------------------------------------------------------------------- algorithms

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
                                                     const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t convolution,
                                                     const cudnnTensorDescriptor_t y, const int wanted,
                                                     int* count, cudnnConvolutionFwdAlgoPerf_t* found) {
  return Name("cudnnGetConvolutionForwardAlgorithm_v7", Direction::kForward, handle, x, w, convolution, y,
              wanted, count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t convolution, const cudnnTensorDescriptor_t dx, const int wanted,
    int* count, cudnnConvolutionBwdDataAlgoPerf_t* found) {
  return Name("cudnnGetConvolutionBackwardDataAlgorithm_v7", Direction::kData, handle, dx, w, convolution, dy,
              wanted, count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t convolution, const cudnnFilterDescriptor_t dw, const int wanted,
    int* count, cudnnConvolutionBwdFilterAlgoPerf_t* found) {
  return Name("cudnnGetConvolutionBackwardFilterAlgorithm_v7", Direction::kFilter, handle, x, dw, convolution,
              dy, wanted, count, found);
}

// ----------------------------------------------------------------------------------------- convolutions

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                      const cudnnTensorDescriptor_t x_tensor, const void* x,
                                      const cudnnFilterDescriptor_t filter, const void* w,
                                      const cudnnConvolutionDescriptor_t convolution,
                                      cudnnConvolutionFwdAlgo_t algorithm, void* workspace, size_t bytes,
                                      const void* beta, const cudnnTensorDescriptor_t y_tensor, void* y) {
  return Answer([&] {
    const char* call = "cudnnConvolutionForward";
    const Problem problem = Describe(call, x_tensor, filter, convolution, y_tensor);
    Run(call, Direction::kForward, handle, alpha, problem, {"x", x, x_tensor->shape.bytes()},
        {"w", w, filter->shape.bytes()}, {algorithm, workspace, bytes}, beta,
        {"y", y, y_tensor->shape.bytes()}, y);
  });
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           const cudnnFilterDescriptor_t filter, const void* w,
                                           const cudnnTensorDescriptor_t y_tensor, const void* dy,
                                           const cudnnConvolutionDescriptor_t convolution,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace,
                                           size_t bytes, const void* beta,
                                           const cudnnTensorDescriptor_t x_tensor, void* dx) {
  return Answer([&] {
    const char* call = "cudnnConvolutionBackwardData";
    const Problem problem = Describe(call, x_tensor, filter, convolution, y_tensor);
    Run(call, Direction::kData, handle, alpha, problem, {"w", w, filter->shape.bytes()},
        {"dy", dy, y_tensor->shape.bytes()}, {algorithm, workspace, bytes}, beta,
        {"dx", dx, x_tensor->shape.bytes()}, dx);
  });
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                             const cudnnTensorDescriptor_t x_tensor, const void* x,
                                             const cudnnTensorDescriptor_t y_tensor, const void* dy,
                                             const cudnnConvolutionDescriptor_t convolution,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void* workspace,
                                             size_t bytes, const void* beta,
                                             const cudnnFilterDescriptor_t filter, void* dw) {
  return Answer([&] {
    const char* call = "cudnnConvolutionBackwardFilter";
    const Problem problem = Describe(call, x_tensor, filter, convolution, y_tensor);
    Run(call, Direction::kFilter, handle, alpha, problem, {"x", x, x_tensor->shape.bytes()},
        {"dy", dy, y_tensor->shape.bytes()}, {algorithm, workspace, bytes}, beta,
        {"dw", dw, filter->shape.bytes()}, dw);
  });
}

}  // extern "C"
