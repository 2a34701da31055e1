// Convolution through cuDNN, channels last or in planes. Weights are packed for each call from Caffe's order,
// outputs x inputs x h x w, to outputs x h x w x inputs where the activations are channels last; those of 16
// bits are given so, and their gradients have 16 bits as well, from sums of f32. Algorithms
// are chosen once, among those that give the same result on every run, in true f32 unless TF32 is allowed.
#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "crema/device.hpp"
#include "crema/float16.hpp"
#include "cuda/check.hpp"
#include "cuda/handles.hpp"

namespace crema {

namespace {

constexpr size_t kMostWorkspace = size_t{512} << 20;

// A cuDNN descriptor that destroys itself.
template <class Handle, cudnnStatus_t (*Create)(Handle*), cudnnStatus_t (*Destroy)(Handle)>
class Descriptor {
 public:
  Descriptor() { CheckCudnn(Create(&handle_), "making a cuDNN descriptor"); }
  ~Descriptor() { Destroy(handle_); }
  Descriptor(const Descriptor&) = delete;
  operator Handle() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};
using TensorDescriptor =
    Descriptor<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using FilterDescriptor =
    Descriptor<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using ConvolutionDescriptor = Descriptor<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor,
                                         cudnnDestroyConvolutionDescriptor>;

cudnnTensorFormat_t FormatOf(int64_t channels, int64_t block) {
  if (block == channels) return CUDNN_TENSOR_NHWC;
  Require(block == 1, "cuDNN's convolution found ", channels, " channels in blocks of ", block,
          "; expected 1 or all.");
  return CUDNN_TENSOR_NCHW;
}

// Sizes for cuDNN, which counts to 2^31.
int Size(int64_t size) {
  Require(size <= std::numeric_limits<int>::max(), "cuDNN's convolution found a size of ", size,
          "; expected less than 2147483648.");
  return static_cast<int>(size);
}

// The fastest of the algorithms that cuDNN names for a shape, fastest first; `varies`: of all, not only of
// those that give the same result on every run.
template <class Perf>
Perf Choose(const std::vector<Perf>& found, int count, bool varies, const char* what) {
  for (int k = 0; k < count; ++k) {
    Perf perf = found[static_cast<size_t>(k)];
    if (perf.status != CUDNN_STATUS_SUCCESS || (perf.determinism != CUDNN_DETERMINISTIC && !varies) ||
        perf.memory > kMostWorkspace)
      continue;
    perf.memory = (perf.memory + 255) / 256 * 256;  // packed weights lie behind the workspace
    return perf;
  }
  Fail("cuDNN has no algorithm for ", what, varies ? " that" : " that gives the same result on every run and",
       " needs no more than ", kMostWorkspace >> 20, " MiB of workspace.");
}

class CudnnConvolution final : public Convolution {
 public:
  CudnnConvolution(std::shared_ptr<CudaHandles> handles, const ConvolutionSpec& spec)
      : handles_(std::move(handles)), s_(spec), plan_(handles_->PlanFor(spec)) {
    const cudnnTensorFormat_t x_format = FormatOf(s_.channels, s_.x_block);
    const cudnnTensorFormat_t y_format = FormatOf(s_.outputs, s_.y_block);
    // A single channel is both formats; the other side then decides.
    const cudnnTensorFormat_t w_format = s_.channels == 1 ? y_format : x_format;
    SetTensor(x_, s_.channels == 1 ? y_format : x_format, s_.batch, s_.channels, s_.height, s_.width);
    SetTensor(y_, s_.outputs == 1 ? w_format : y_format, s_.batch, s_.outputs, s_.out_height(),
              s_.out_width());
    SetTensor(bias_, y_format, 1, s_.outputs, 1, 1);
    SetWeights(w_format);
    CheckCudnn(cudnnSetConvolution2dDescriptor(
                   convolution_, Size(s_.pad_h), Size(s_.pad_w), Size(s_.stride_h), Size(s_.stride_w),
                   Size(s_.dilation_h), Size(s_.dilation_w), CUDNN_CROSS_CORRELATION,
                   s_.dtype == DType::kF64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT),
               "cudnnSetConvolution2dDescriptor");
    CheckCudnn(cudnnSetConvolutionGroupCount(convolution_, Size(s_.groups)), "cudnnSetConvolutionGroupCount");
    // cuDNN's default lets it use TF32.
    const cudnnMathType_t math = Has16Bits(s_.dtype) ? CUDNN_TENSOR_OP_MATH
                                 : handles_->tf32()  ? CUDNN_DEFAULT_MATH
                                                     : CUDNN_FMA_MATH;
    CheckCudnn(cudnnSetConvolutionMathType(convolution_, math), "cudnnSetConvolutionMathType");
    if (!plan_.forward) ChooseForward();
  }

  void Forward(Scratch& scratch, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor* y) override {
    handles_->MakeCurrent();
    char* workspace = static_cast<char*>(scratch.Get(Workspace(plan_.forward->memory)));
    CheckCudnn(cudnnConvolutionForward(
                   handles_->cudnn(), One(), x_, x.raw(), w_, Packed(w, workspace + plan_.forward->memory),
                   convolution_, plan_.forward->algo, workspace, plan_.forward->memory, Zero(), y_, y->raw()),
               "cudnnConvolutionForward");
    if (bias == nullptr) return;
    CheckCudnn(cudnnAddTensor(handles_->cudnn(), One(), bias_, bias->raw(), One(), y_, y->raw()),
               "cudnnAddTensor");
  }

  void BackwardData(Scratch& scratch, const Tensor& dy, const Tensor& w, Tensor* dx) override {
    handles_->MakeCurrent();
    if (!plan_.data) ChooseData();
    char* workspace = static_cast<char*>(scratch.Get(Workspace(plan_.data->memory)));
    CheckCudnn(cudnnConvolutionBackwardData(
                   handles_->cudnn(), One(), w_, Packed(w, workspace + plan_.data->memory), y_, dy.raw(),
                   convolution_, plan_.data->algo, workspace, plan_.data->memory, Zero(), x_, dx->raw()),
               "cudnnConvolutionBackwardData");
  }

  void BackwardWeights(Scratch& scratch, const Tensor& x, const Tensor& dy, Tensor* dw,
                       Tensor* dbias) override {
    handles_->MakeCurrent();
    if (!plan_.weights) ChooseWeights();
    char* workspace = static_cast<char*>(scratch.Get(Workspace(plan_.weights->memory)));
    char* packed = workspace + plan_.weights->memory;
    // Where the orders are the same, the library adds to the gradient; else the way back from its order does.
    CheckCudnn(
        cudnnConvolutionBackwardFilter(handles_->cudnn(), One(), x_, x.raw(), y_, dy.raw(), convolution_,
                                       plan_.weights->algo, workspace, plan_.weights->memory,
                                       packs_ ? Zero() : One(), w_, packs_ ? packed : dw->raw()),
        "cudnnConvolutionBackwardFilter");
    if (packs_)
      CheckCudnn(
          cudnnTransformTensor(handles_->cudnn(), One(), packed_w_, packed, One(), plain_w_, dw->raw()),
          "cudnnTransformTensor");
    if (dbias == nullptr) return;
    CheckCudnn(
        cudnnConvolutionBackwardBias(handles_->cudnn(), One(), y_, dy.raw(), One(), bias_, dbias->raw()),
        "cudnnConvolutionBackwardBias");
  }

  DType WeightGradType() const override { return s_.dtype; }
  int64_t WeightBlock() const override { return weights_last_ ? s_.channels / s_.groups : 1; }

  int64_t WorkspaceBytes(bool data, bool weights) override {
    handles_->MakeCurrent();
    size_t most = plan_.forward->memory;
    if (data && !plan_.data) ChooseData();
    if (weights && !plan_.weights) ChooseWeights();
    if (data) most = std::max(most, plan_.data->memory);
    if (weights) most = std::max(most, plan_.weights->memory);
    return Workspace(most);
  }

 private:
  cudnnDataType_t Type() const {
    return s_.dtype == DType::kF64    ? CUDNN_DATA_DOUBLE
           : s_.dtype == DType::kBF16 ? CUDNN_DATA_BFLOAT16
           : s_.dtype == DType::kF16  ? CUDNN_DATA_HALF
                                      : CUDNN_DATA_FLOAT;
  }
  // Factors have the type of the sums.
  const void* One() const {
    static constexpr float kOne32 = 1;
    static constexpr double kOne64 = 1;
    return s_.dtype == DType::kF64 ? static_cast<const void*>(&kOne64) : &kOne32;
  }
  const void* Zero() const {
    static constexpr double kZero = 0;  // as a float it is zero as well
    return &kZero;
  }

  void SetTensor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format, int64_t n, int64_t c, int64_t h,
                 int64_t w) const {
    CheckCudnn(cudnnSetTensor4dDescriptor(tensor, format, Type(), Size(n), Size(c), Size(h), Size(w)),
               "cudnnSetTensor4dDescriptor");
  }

  void SetWeights(cudnnTensorFormat_t format) {
    const int64_t inputs = s_.channels / s_.groups;
    CheckCudnn(cudnnSetFilter4dDescriptor(w_, Type(), format, Size(s_.outputs), Size(inputs),
                                          Size(s_.kernel_h), Size(s_.kernel_w)),
               "cudnnSetFilter4dDescriptor");
    SetTensor(plain_w_, CUDNN_TENSOR_NCHW, s_.outputs, inputs, s_.kernel_h, s_.kernel_w);
    SetTensor(packed_w_, format, s_.outputs, inputs, s_.kernel_h, s_.kernel_w);
    weights_last_ = format == CUDNN_TENSOR_NHWC;
    packs_ = weights_last_ && !Has16Bits(s_.dtype) && inputs > 1 && s_.kernel_h * s_.kernel_w > 1;
    weight_bytes_ = s_.outputs * inputs * s_.kernel_h * s_.kernel_w * SizeOf(s_.dtype);
  }

  void ChooseForward() {
    std::vector<cudnnConvolutionFwdAlgoPerf_t> found(CUDNN_CONVOLUTION_FWD_ALGO_COUNT);
    int count = 0;
    CheckCudnn(cudnnGetConvolutionForwardAlgorithm_v7(handles_->cudnn(), x_, w_, convolution_, y_,
                                                      static_cast<int>(found.size()), &count, found.data()),
               "cudnnGetConvolutionForwardAlgorithm_v7");
    plan_.forward = Choose(found, count, handles_->varies(), "a convolution");
  }
  void ChooseData() {
    std::vector<cudnnConvolutionBwdDataAlgoPerf_t> found(CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT);
    int count = 0;
    CheckCudnn(
        cudnnGetConvolutionBackwardDataAlgorithm_v7(handles_->cudnn(), w_, y_, convolution_, x_,
                                                    static_cast<int>(found.size()), &count, found.data()),
        "cudnnGetConvolutionBackwardDataAlgorithm_v7");
    plan_.data = Choose(found, count, handles_->varies(), "a convolution's gradient by its input");
  }
  void ChooseWeights() {
    std::vector<cudnnConvolutionBwdFilterAlgoPerf_t> found(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT);
    int count = 0;
    CheckCudnn(
        cudnnGetConvolutionBackwardFilterAlgorithm_v7(handles_->cudnn(), x_, y_, convolution_, w_,
                                                      static_cast<int>(found.size()), &count, found.data()),
        "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
    plan_.weights = Choose(found, count, handles_->varies(), "a convolution's gradient by its weights");
  }

  // Bytes of scratch memory for an algorithm and the packed weights.
  int64_t Workspace(size_t algorithm) const {
    return static_cast<int64_t>(algorithm) + (packs_ ? weight_bytes_ : 0);
  }

  // The weights in cuDNN's order; `room` is where to put them if that is another one.
  const void* Packed(const Tensor& w, char* room) const {
    if (!packs_) return w.raw();
    CheckCudnn(cudnnTransformTensor(handles_->cudnn(), One(), plain_w_, w.raw(), Zero(), packed_w_, room),
               "cudnnTransformTensor");
    return room;
  }

  std::shared_ptr<CudaHandles> handles_;
  ConvolutionSpec s_;
  bool weights_last_ = false;  // cuDNN takes the weights' inputs last
  bool packs_ = false;
  int64_t weight_bytes_ = 0;
  TensorDescriptor x_, y_, bias_, plain_w_, packed_w_;
  FilterDescriptor w_;
  ConvolutionDescriptor convolution_;
  ConvolutionPlan& plan_;
};

}  // namespace

std::unique_ptr<Convolution> NewCudnnConvolution(std::shared_ptr<CudaHandles> handles,
                                                 const ConvolutionSpec& spec) {
  return std::make_unique<CudnnConvolution>(std::move(handles), spec);
}

}  // namespace crema
