// A convolution called straight through oneDNN with nothing around it: no reorders, no packing of weights, no
// sums into gradients. Weights have the layout that the library prefers (format `any`), and so have images
// and gradients, or another one where that is faster: the library's own preference is hundreds of times
// slower for some convolutions in groups. What the convolutions of a net are compared with. Included by
// bench/*.cpp only.
#pragma once

#include <algorithm>
#include <dnnl.hpp>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "crema/device.hpp"
#include "timing.hpp"

namespace crema {

enum class Pass { kForward, kBackwardData, kBackwardWeights };

// Memory that all convolutions share, a piece for each role (DNNL_ARG_SRC, ...). It is allocated as the
// library's tensors are, and its numbers are random: zeros and denormals take other times.
class RoleMemory {
 public:
  explicit RoleMemory(Device& device) : device_(&device) {}

  void* Get(int role, size_t bytes) {
    Piece& piece = pieces_[role];
    if (piece.bytes < bytes) {
      piece = {device_->Allocate(static_cast<int64_t>(bytes)), bytes};
      std::mt19937 random(1);
      std::uniform_real_distribution<float> uniform(-1, 1);
      float* values = static_cast<float*>(piece.memory.get());
      for (size_t i = 0; i < bytes / sizeof(float); ++i) values[i] = uniform(random);
    }
    return piece.memory.get();
  }

 private:
  struct Piece {
    std::shared_ptr<void> memory = nullptr;
    size_t bytes = 0;
  };
  Device* device_;
  std::map<int, Piece> pieces_;
};

// One pass of a convolution in one layout of images.
class LoneConvolution {
 public:
  using Tag = dnnl::memory::format_tag;

  LoneConvolution(const ConvolutionSpec& spec, Pass pass, Tag layout) : s_(spec) {
    const auto f32 = dnnl::memory::data_type::f32;
    const auto type = s_.dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : f32;
    // The few channels of an image stay planes: the library has no blocks for them.
    const Tag x_layout = s_.channels <= 3 && layout != Tag::nhwc && layout != Tag::any ? Tag::nchw : layout;
    x_ = {{s_.batch, s_.channels, s_.height, s_.width}, type, x_layout};
    y_ = {{s_.batch, s_.outputs, s_.out_height(), s_.out_width()}, type, layout};
    const dnnl::memory::dims kernel = {s_.outputs, s_.channels, s_.kernel_h, s_.kernel_w};
    const dnnl::memory::dims grouped = {s_.groups, s_.outputs / s_.groups, s_.channels / s_.groups,
                                        s_.kernel_h, s_.kernel_w};
    w_ = {s_.groups == 1 ? kernel : grouped, type, Tag::any};
    w_grad_ = {s_.groups == 1 ? kernel : grouped, f32, Tag::any};
    if (s_.bias) bias_ = {{s_.outputs}, f32, Tag::x};
    pads_[0] = {s_.pad_h, s_.pad_w};
    pads_[1] = {PadAfter(s_.out_height(), s_.stride_h, s_.dilation_h, s_.kernel_h, s_.height, s_.pad_h),
                PadAfter(s_.out_width(), s_.stride_w, s_.dilation_w, s_.kernel_w, s_.width, s_.pad_w)};
    attr_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const auto forward = ForwardDescription();
    if (pass == Pass::kForward) UseForward(forward);
    if (pass == Pass::kBackwardData) UseBackwardData(forward);
    if (pass == Pass::kBackwardWeights) UseBackwardWeights(forward);
  }

  // Milliseconds of one run.
  double Run(RoleMemory* roles) {
    std::unordered_map<int, dnnl::memory> arguments;
    for (const auto& [role, desc] : roles_)
      arguments.insert({role, dnnl::memory(desc, engine_, roles->Get(role, desc.get_size()))});
    const Stopwatch watch;
    primitive_.execute(stream_, arguments);
    stream_.wait();
    return watch.Milliseconds();
  }

  // The layouts of x and y and the kernel that it got, such as "8c-8c jit:avx2".
  const std::string& choice() const { return choice_; }
  // Whether this is the library's plain loop, there for what it has no kernel for.
  bool is_reference() const { return choice_.find(" ref") != std::string::npos; }

 private:
  // The padding that is really used on the far side.
  static int64_t PadAfter(int64_t out, int64_t stride, int64_t dilation, int64_t kernel, int64_t in,
                          int64_t before) {
    return (out - 1) * stride + dilation * (kernel - 1) + 1 - in - before;
  }

  dnnl::memory::dims Strides() const { return {s_.stride_h, s_.stride_w}; }
  dnnl::memory::dims Dilations() const { return {s_.dilation_h - 1, s_.dilation_w - 1}; }

  dnnl::convolution_forward::primitive_desc ForwardDescription() const {
    const auto kind = dnnl::prop_kind::forward_training;
    using Desc = dnnl::convolution_forward::desc;
    return {s_.bias ? Desc(kind, kDirect, x_, w_, bias_, y_, Strides(), Dilations(), pads_[0], pads_[1])
                    : Desc(kind, kDirect, x_, w_, y_, Strides(), Dilations(), pads_[0], pads_[1]),
            attr_, engine_};
  }

  void UseForward(const dnnl::convolution_forward::primitive_desc& made) {
    primitive_ = dnnl::convolution_forward(made);
    roles_ = {{DNNL_ARG_SRC, made.src_desc()},
              {DNNL_ARG_WEIGHTS, made.weights_desc()},
              {DNNL_ARG_DST, made.dst_desc()},
              {DNNL_ARG_SCRATCHPAD, made.scratchpad_desc()}};
    if (s_.bias) roles_.push_back({DNNL_ARG_BIAS, bias_});
    choice_ = LayoutOf(made.src_desc()) + "-" + LayoutOf(made.dst_desc()) + " " + made.impl_info_str();
  }

  void UseBackwardData(const dnnl::convolution_forward::primitive_desc& forward) {
    using Desc = dnnl::convolution_backward_data::desc;
    const dnnl::convolution_backward_data::primitive_desc made(
        Desc(kDirect, x_, w_, y_, Strides(), Dilations(), pads_[0], pads_[1]), attr_, engine_, forward);
    primitive_ = dnnl::convolution_backward_data(made);
    roles_ = {{DNNL_ARG_DIFF_SRC, made.diff_src_desc()},
              {DNNL_ARG_WEIGHTS, made.weights_desc()},
              {DNNL_ARG_DIFF_DST, made.diff_dst_desc()},
              {DNNL_ARG_SCRATCHPAD, made.scratchpad_desc()}};
    choice_ =
        LayoutOf(made.diff_src_desc()) + "-" + LayoutOf(made.diff_dst_desc()) + " " + made.impl_info_str();
  }

  void UseBackwardWeights(const dnnl::convolution_forward::primitive_desc& forward) {
    using Desc = dnnl::convolution_backward_weights::desc;
    const Desc desc = s_.bias
                          ? Desc(kDirect, x_, w_grad_, bias_, y_, Strides(), Dilations(), pads_[0], pads_[1])
                          : Desc(kDirect, x_, w_grad_, y_, Strides(), Dilations(), pads_[0], pads_[1]);
    const dnnl::convolution_backward_weights::primitive_desc made(desc, attr_, engine_, forward);
    primitive_ = dnnl::convolution_backward_weights(made);
    roles_ = {{DNNL_ARG_SRC, made.src_desc()},
              {DNNL_ARG_DIFF_WEIGHTS, made.diff_weights_desc()},
              {DNNL_ARG_DIFF_DST, made.diff_dst_desc()},
              {DNNL_ARG_SCRATCHPAD, made.scratchpad_desc()}};
    if (s_.bias) roles_.push_back({DNNL_ARG_DIFF_BIAS, made.diff_bias_desc()});
    choice_ = LayoutOf(made.src_desc()) + "-" + LayoutOf(made.diff_dst_desc()) + " " + made.impl_info_str();
  }

  // "8c" for channels in blocks of 8, "last" for channels-last, "planes" for N, C, H, W.
  static std::string LayoutOf(const dnnl::memory::desc& desc) {
    const dnnl_blocking_desc_t& blocking = desc.data.format_desc.blocking;
    if (blocking.inner_nblks > 0) return std::to_string(blocking.inner_blks[0]) + "c";
    return blocking.strides[1] == 1 && desc.data.dims[1] > 1 ? "last" : "planes";
  }

  static constexpr dnnl::algorithm kDirect = dnnl::algorithm::convolution_direct;

  ConvolutionSpec s_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::primitive_attr attr_;
  dnnl::memory::desc x_, y_, w_, w_grad_, bias_;
  dnnl::memory::dims pads_[2];
  dnnl::primitive primitive_;
  std::vector<std::pair<int, dnnl::memory::desc>> roles_;
  std::string choice_;
};

// The least time of a few runs. The first is slow by page faults, but not by a factor of `hopeless`.
inline double LeastTime(LoneConvolution* convolution, int runs, double hopeless, RoleMemory* roles) {
  double least = convolution->Run(roles);
  for (int run = 1; run < runs && least < hopeless; ++run) least = std::min(least, convolution->Run(roles));
  return least;
}

// The layouts of images that oneDNN has a kernel for, one for each kernel, with their times on a few images.
inline std::map<LoneConvolution::Tag, double> Candidates(ConvolutionSpec spec, Pass pass, RoleMemory* roles) {
  using Tag = LoneConvolution::Tag;
  spec.batch = std::min<int64_t>(spec.batch, 4);
  std::map<Tag, double> times;
  std::vector<std::string> tried;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [layout, block] :
       {std::pair{Tag::nChw8c, 8}, std::pair{Tag::nChw16c, 16}, std::pair{Tag::nhwc, 1},
        std::pair{Tag::nchw, 1}, std::pair{Tag::any, 1}}) {
    if (spec.outputs % block != 0 || (spec.channels > 3 && spec.channels % block != 0)) continue;
    LoneConvolution convolution(spec, pass, layout);
    const bool known = std::find(tried.begin(), tried.end(), convolution.choice()) != tried.end();
    if (convolution.is_reference() || known) continue;
    tried.push_back(convolution.choice());
    times[layout] = LeastTime(&convolution, 4, 20 * least, roles);
    least = std::min(least, times[layout]);
  }
  return times;
}

// The layout of images in which oneDNN runs this pass fastest.
inline LoneConvolution::Tag FastestLayout(const ConvolutionSpec& spec, Pass pass, RoleMemory* roles) {
  const auto candidates = Candidates(spec, pass, roles);
  double least = std::numeric_limits<double>::infinity(), best = least;
  for (const auto& [layout, time] : candidates) least = std::min(least, time);
  LoneConvolution::Tag fastest = LoneConvolution::Tag::any;
  for (const auto& [layout, time] : candidates) {
    if (time > 2 * least) continue;
    LoneConvolution convolution(spec, pass, layout);
    const double whole = LeastTime(&convolution, 3, 3 * best, roles);
    if (whole < best) fastest = layout, best = whole;
  }
  return fastest;
}

}  // namespace crema
