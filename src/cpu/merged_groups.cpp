// Convolution in groups of few channels. oneDNN has fast kernels where a group fills vector registers and
// where it is a single channel; between the two it falls back to plain loops, hundreds of times slower. So
// neighbouring groups are merged into one whose weights are zero between what were different groups.
#include <algorithm>

#include "crema/device.hpp"

namespace crema {

std::unique_ptr<Convolution> NewOneDnnConvolution(const ConvolutionSpec& spec);

namespace {

// How many groups to merge, so that both sides have whole blocks of channels; 1 where that does not help.
int64_t GroupsToMerge(const ConvolutionSpec& spec, int64_t block) {
  const int64_t in = spec.channels / spec.groups, out = spec.outputs / spec.groups;
  if (spec.groups == 1 || (in == 1 && out == 1)) return 1;
  for (int64_t merged = 1; merged <= spec.groups && merged <= block; ++merged) {
    if (spec.groups % merged == 0 && merged * in % block == 0 && merged * out % block == 0) return merged;
  }
  return 1;
}

class MergedGroupsConvolution final : public Convolution {
 public:
  MergedGroupsConvolution(const ConvolutionSpec& spec, int64_t merged)
      : merged_(merged),
        outputs_(spec.outputs),
        group_outputs_(spec.outputs / spec.groups),
        part_(spec.channels / spec.groups * spec.kernel_h * spec.kernel_w),
        shape_{spec.outputs, merged * spec.channels / spec.groups, spec.kernel_h, spec.kernel_w} {
    ConvolutionSpec wide = spec;
    wide.groups = spec.groups / merged;
    wide_ = NewOneDnnConvolution(wide);
  }

  void Forward(Scratch& scratch, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor* y) override {
    wide_->Forward(scratch, x, Widened(w), bias, y);
  }
  void BackwardData(Scratch& scratch, const Tensor& dy, const Tensor& w, Tensor* dx) override {
    wide_->BackwardData(scratch, dy, Widened(w), dx);
  }
  void BackwardWeights(Scratch& scratch, const Tensor& x, const Tensor& dy, Tensor* dw,
                       Tensor* dbias) override {
    Tensor wide_grad(dw->device(), dw->dtype(), shape_);
    wide_grad.Zero();
    wide_->BackwardWeights(scratch, x, dy, &wide_grad, dbias);
    const float* from = wide_grad.data<float>();  // sums are f32 where the weights have 16 bits too
    float* to = dw->data<float>();
    for (int64_t o = 0; o < outputs_; ++o) {
      for (int64_t k = 0; k < part_; ++k) to[o * part_ + k] += from[At(o) + k];
    }
  }

  int64_t WorkspaceBytes(bool data, bool weights) override {
    return CountOf(shape_) * SizeOf(DType::kF32) + wide_->WorkspaceBytes(data, weights);
  }

 private:
  // Where an output's own weights lie among the widened ones.
  int64_t At(int64_t output) const { return (output * merged_ + output / group_outputs_ % merged_) * part_; }
  Tensor Widened(const Tensor& w) const {
    Tensor wide(w.device(), w.dtype(), shape_);
    wide.Zero();
    const int64_t size = SizeOf(w.dtype());
    const char* from = static_cast<const char*>(w.raw());
    char* to = static_cast<char*>(wide.raw());
    for (int64_t o = 0; o < outputs_; ++o)
      std::copy_n(from + o * part_ * size, part_ * size, to + At(o) * size);
    return wide;
  }

  int64_t merged_, outputs_, group_outputs_;
  int64_t part_;  // weights of one output
  Shape shape_;   // of the widened weights
  std::unique_ptr<Convolution> wide_;
};

}  // namespace

std::unique_ptr<Convolution> NewCpuConvolution(const ConvolutionSpec& spec, int64_t block) {
  const int64_t merged = GroupsToMerge(spec, block);
  if (merged > 1) return std::make_unique<MergedGroupsConvolution>(spec, merged);
  return NewOneDnnConvolution(spec);
}

}  // namespace crema
