// Convolution through oneDNN, float32 or, with sums and gradients of weights in float32, bfloat16.
// Activations keep the layout they have; weights are packed from Caffe's order for each call, which costs a
// fraction of a percent.
#include <algorithm>
#include <cstring>

#include <dnnl.hpp>

#include "cpu/products.hpp"
#include "crema/device.hpp"
#include "crema/float16.hpp"

namespace crema {

namespace {

using dnnl::memory;

memory::format_tag TagOf(int64_t channels, int64_t block) {
  if (block == 1) return memory::format_tag::nchw;
  if (block == channels) return memory::format_tag::nhwc;
  if (block == 8) return memory::format_tag::nChw8c;
  Require(block == 16, "oneDNN's convolution found channels in blocks of ", block,
          "; expected 1, 8, 16 or all");
  return memory::format_tag::nChw16c;
}

// Pieces of one scratch buffer.
class Pieces {
 public:
  size_t Add(size_t bytes) {
    const size_t offset = total_;
    total_ += (bytes + 255) / 256 * 256;
    return offset;
  }
  int64_t total() const { return static_cast<int64_t>(std::max<size_t>(total_, 256)); }

 private:
  size_t total_ = 0;
};

void* Raw(const Tensor& tensor) {
  return const_cast<void*>(tensor.raw());
}  // oneDNN's handles are not const

class OneDnnConvolution final : public Convolution {
 public:
  explicit OneDnnConvolution(const ConvolutionSpec& spec)
      : s_(spec), type_(spec.dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32) {
    x_ = {{s_.batch, s_.channels, s_.height, s_.width}, type_, TagOf(s_.channels, s_.x_block)};
    y_ = {{s_.batch, s_.outputs, s_.out_height(), s_.out_width()}, type_, TagOf(s_.outputs, s_.y_block)};
    if (s_.groups == 1) {
      const memory::dims dims = {s_.outputs, s_.channels, s_.kernel_h, s_.kernel_w};
      w_ = {dims, type_, memory::format_tag::oihw};
      w_grad_ = {dims, memory::data_type::f32, memory::format_tag::oihw};
      any_w_ = {dims, type_, memory::format_tag::any};
      any_w_grad_ = {dims, memory::data_type::f32, memory::format_tag::any};
    } else {
      const memory::dims dims = {s_.groups, s_.outputs / s_.groups, s_.channels / s_.groups, s_.kernel_h,
                                 s_.kernel_w};
      w_ = {dims, type_, memory::format_tag::goihw};
      w_grad_ = {dims, memory::data_type::f32, memory::format_tag::goihw};
      any_w_ = {dims, type_, memory::format_tag::any};
      any_w_grad_ = {dims, memory::data_type::f32, memory::format_tag::any};
    }
    bias_ = {{s_.outputs}, memory::data_type::f32, memory::format_tag::x};
    attr_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    global_depthwise_ = s_.groups == s_.channels && s_.outputs == s_.channels && s_.out_height() == 1 &&
                        s_.out_width() == 1 && s_.pad_h == 0 && s_.pad_w == 0 && s_.kernel_h == s_.height &&
                        s_.kernel_w == s_.width;
    forward_pd_ = ForwardDescription();
    forward_ = dnnl::convolution_forward(forward_pd_);
  }

  void Forward(Scratch& scratch, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor* y) override {
    if (IsSlow(forward_pd_)) {
      Tensor y_planes = NewPlanes(*y);
      Planes().Forward(scratch, InPlanes(x, x_), w, bias, &y_planes);
      return Reorder(y_planes, PlanesOf(y_), y, y_);
    }
    const auto [packed_at, pad_at, total] = PackedPieces(forward_pd_);
    char* base = static_cast<char*>(scratch.Get(total));
    std::unordered_map<int, memory> args = {
        {DNNL_ARG_SRC, memory(x_, engine_, Raw(x))},
        {DNNL_ARG_WEIGHTS, Packed(w, forward_pd_.weights_desc(), base + packed_at)},
        {DNNL_ARG_DST, memory(y_, engine_, y->raw())},
        {DNNL_ARG_SCRATCHPAD, memory(forward_pd_.scratchpad_desc(), engine_, base + pad_at)}};
    if (bias != nullptr) args.insert({DNNL_ARG_BIAS, memory(bias_, engine_, Raw(*bias))});
    forward_.execute(stream_, args);
    stream_.wait();
  }

  void BackwardData(Scratch& scratch, const Tensor& dy, const Tensor& w, Tensor* dx) override {
    if (!data_) MakeBackwardData();
    if (IsSlow(data_pd_)) {
      Tensor dx_planes = NewPlanes(*dx);
      Planes().BackwardData(scratch, InPlanes(dy, y_), w, &dx_planes);
      return Reorder(dx_planes, PlanesOf(x_), dx, x_);
    }
    const auto [packed_at, pad_at, total] = PackedPieces(data_pd_);
    char* base = static_cast<char*>(scratch.Get(total));
    data_.execute(stream_,
                  {{DNNL_ARG_DIFF_DST, memory(y_, engine_, Raw(dy))},
                   {DNNL_ARG_WEIGHTS, Packed(w, data_pd_.weights_desc(), base + packed_at)},
                   {DNNL_ARG_DIFF_SRC, memory(x_, engine_, dx->raw())},
                   {DNNL_ARG_SCRATCHPAD, memory(data_pd_.scratchpad_desc(), engine_, base + pad_at)}});
    stream_.wait();
  }

  void BackwardWeights(Scratch& scratch, const Tensor& x, const Tensor& dy, Tensor* dw,
                       Tensor* dbias) override {
    if (global_depthwise_ && dbias == nullptr) {
      return ForBlob(s_.dtype, [&]<class, class S>() {
        GlobalDepthwiseWeights(x.data<S>(), dy.data<S>(), dw->data<float>());
      });
    }
    if (!weights_) MakeBackwardWeights();
    if (IsSlow(weights_pd_))
      return Planes().BackwardWeights(scratch, InPlanes(x, x_), InPlanes(dy, y_), dw, dbias);
    const auto made = weights_pd_.diff_weights_desc();
    const auto [made_at, plain_at, bias_at, pad_at, total] = GradientPieces();
    char* base = static_cast<char*>(scratch.Get(total));
    memory diff(made, engine_, base + made_at), plain(w_grad_, engine_, base + plain_at);
    std::unordered_map<int, memory> args = {
        {DNNL_ARG_SRC, memory(x_, engine_, Raw(x))},
        {DNNL_ARG_DIFF_DST, memory(y_, engine_, Raw(dy))},
        {DNNL_ARG_DIFF_WEIGHTS, diff},
        {DNNL_ARG_SCRATCHPAD, memory(weights_pd_.scratchpad_desc(), engine_, base + pad_at)}};
    if (s_.bias) args.insert({DNNL_ARG_DIFF_BIAS, memory(bias_, engine_, base + bias_at)});
    weights_.execute(stream_, args);
    if (made != w_grad_) {
      dnnl::reorder(diff, plain).execute(stream_, diff, plain);
      stream_.wait();
      Add(reinterpret_cast<const float*>(base + plain_at), dw);
    } else {
      stream_.wait();
      Add(reinterpret_cast<const float*>(base + made_at), dw);
    }
    if (dbias != nullptr) Add(reinterpret_cast<const float*>(base + bias_at), dbias);
  }

  int64_t WorkspaceBytes(bool data, bool weights) override {
    const auto planes = [this](bool of_data, bool of_weights) {
      return static_cast<int64_t>(x_.get_size() + y_.get_size()) +
             Planes().WorkspaceBytes(of_data, of_weights);
    };
    int64_t most = IsSlow(forward_pd_) ? planes(false, false) : PackedPieces(forward_pd_).total;
    if (data) {
      if (!data_) MakeBackwardData();
      most = std::max(most, IsSlow(data_pd_) ? planes(true, false) : PackedPieces(data_pd_).total);
    }
    if (weights && !global_depthwise_) {
      if (!weights_) MakeBackwardWeights();
      most = std::max(most, IsSlow(weights_pd_) ? planes(false, true) : GradientPieces().total);
    }
    return most;
  }

 private:
  // Where things lie in the scratch memory of a call: the weights in the library's order, its scratchpad.
  struct PackedPlaces {
    size_t packed, pad;
    int64_t total;
  };
  template <class Description>
  static PackedPlaces PackedPieces(const Description& description) {
    Pieces pieces;
    const size_t packed = pieces.Add(description.weights_desc().get_size());
    const size_t pad = pieces.Add(description.scratchpad_desc().get_size());
    return {packed, pad, pieces.total()};
  }
  // The same for BackwardWeights: the gradient in the library's order and in Caffe's, the bias's, scratchpad.
  struct GradientPlaces {
    size_t made, plain, bias, pad;
    int64_t total;
  };
  GradientPlaces GradientPieces() const {
    Pieces pieces;
    const size_t made = pieces.Add(weights_pd_.diff_weights_desc().get_size());
    const size_t plain = pieces.Add(w_grad_.get_size()), bias = pieces.Add(bias_.get_size());
    const size_t pad = pieces.Add(weights_pd_.scratchpad_desc().get_size());
    return {made, plain, bias, pad, pieces.total()};
  }

  // Whether the library has nothing but plain loops for it in these layouts, hundreds of times slower than
  // its matrix product over planes.
  template <class Description>
  bool IsSlow(const Description& description) const {
    const bool planes = s_.x_block == 1 && s_.y_block == 1;
    return !planes && std::strncmp(description.impl_info_str(), "ref", 3) == 0;
  }
  OneDnnConvolution& Planes() {
    if (planes_ == nullptr) {
      ConvolutionSpec spec = s_;
      spec.x_block = spec.y_block = 1;
      planes_ = std::make_unique<OneDnnConvolution>(spec);
    }
    return *planes_;
  }
  static memory::desc PlanesOf(const memory::desc& desc) {
    return {desc.dims(), desc.data_type(), memory::format_tag::nchw};
  }
  static Tensor NewPlanes(const Tensor& like) { return {like.device(), like.dtype(), like.shape()}; }
  Tensor InPlanes(const Tensor& x, const memory::desc& order) {
    Tensor planes = NewPlanes(x);
    Reorder(x, order, &planes, PlanesOf(order));
    return planes;
  }
  void Reorder(const Tensor& from, const memory::desc& from_order, Tensor* to, const memory::desc& to_order) {
    memory source(from_order, engine_, Raw(from)), target(to_order, engine_, to->raw());
    dnnl::reorder(source, target).execute(stream_, source, target);
    stream_.wait();
  }

  memory::dims Strides() const { return {s_.stride_h, s_.stride_w}; }
  memory::dims Dilations() const { return {s_.dilation_h - 1, s_.dilation_w - 1}; }
  memory::dims PadBefore() const { return {s_.pad_h, s_.pad_w}; }
  // oneDNN wants the padding that is really used on the far side.
  memory::dims PadAfter() const {
    return {
        (s_.out_height() - 1) * s_.stride_h + s_.dilation_h * (s_.kernel_h - 1) + 1 - s_.height - s_.pad_h,
        (s_.out_width() - 1) * s_.stride_w + s_.dilation_w * (s_.kernel_w - 1) + 1 - s_.width - s_.pad_w};
  }

  dnnl::convolution_forward::primitive_desc ForwardDescription() const {
    const auto kind = dnnl::prop_kind::forward_training;
    const auto algorithm = dnnl::algorithm::convolution_direct;
    if (s_.bias) {
      return {dnnl::convolution_forward::desc(kind, algorithm, x_, any_w_, bias_, y_, Strides(), Dilations(),
                                              PadBefore(), PadAfter()),
              attr_, engine_};
    }
    return {dnnl::convolution_forward::desc(kind, algorithm, x_, any_w_, y_, Strides(), Dilations(),
                                            PadBefore(), PadAfter()),
            attr_, engine_};
  }

  void MakeBackwardData() {
    data_pd_ = {dnnl::convolution_backward_data::desc(dnnl::algorithm::convolution_direct, x_, any_w_, y_,
                                                      Strides(), Dilations(), PadBefore(), PadAfter()),
                attr_, engine_, forward_pd_};
    data_ = dnnl::convolution_backward_data(data_pd_);
  }

  void MakeBackwardWeights() {
    const auto algorithm = dnnl::algorithm::convolution_direct;
    const auto desc =
        s_.bias ? dnnl::convolution_backward_weights::desc(algorithm, x_, any_w_grad_, bias_, y_, Strides(),
                                                           Dilations(), PadBefore(), PadAfter())
                : dnnl::convolution_backward_weights::desc(algorithm, x_, any_w_grad_, y_, Strides(),
                                                           Dilations(), PadBefore(), PadAfter());
    weights_pd_ = {desc, attr_, engine_, forward_pd_};
    weights_ = dnnl::convolution_backward_weights(weights_pd_);
  }

  // The weights in the library's order; in Caffe's where that is the same.
  memory Packed(const Tensor& w, const memory::desc& order, void* to) {
    memory plain(w_, engine_, Raw(w));
    if (order == w_) return plain;
    memory packed(order, engine_, to);
    dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    return packed;
  }

  static void Add(const float* from, Tensor* to) {
    float* sum = to->data<float>();
    const int64_t count = to->count();
#pragma omp parallel for simd schedule(static) if (count > 1 << 14)
    for (int64_t i = 0; i < count; ++i) sum[i] += from[i];
  }

  // dw[c, s] += sum over samples of x[n, c, s] dy[n, c]; the library's way takes ten times as long.
  template <class S>
  void GlobalDepthwiseWeights(const S* x, const S* dy, float* dw) const {
    const int64_t inner = s_.height * s_.width;
    const Channel x_order{s_.batch, s_.channels / s_.x_block, inner, s_.x_block};
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < s_.channels; ++c) {
      for (int64_t n = 0; n < s_.batch; ++n) {
        const float g = static_cast<float>(dy[n * s_.channels + c]);  // 1 x 1 outputs: every layout is N, C
        for (int64_t s = 0; s < inner; ++s)
          dw[c * inner + s] += g * static_cast<float>(x[x_order.at(n, c, s)]);
      }
    }
  }

  ConvolutionSpec s_;
  memory::data_type type_;                     // of all but the gradients of weights, which are f32
  std::unique_ptr<OneDnnConvolution> planes_;  // the same over planes, for what is slow in these layouts
  bool global_depthwise_ = false;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::primitive_attr attr_;
  memory::desc x_, y_, w_, any_w_, w_grad_, any_w_grad_, bias_;
  dnnl::convolution_forward::primitive_desc forward_pd_;
  dnnl::convolution_backward_data::primitive_desc data_pd_;
  dnnl::convolution_backward_weights::primitive_desc weights_pd_;
  dnnl::convolution_forward forward_;
  dnnl::convolution_backward_data data_;
  dnnl::convolution_backward_weights weights_;
};

}  // namespace

// The channel block of the library's fast kernels: the floats in a vector register.
int64_t OneDnnBlock() {
  return OneDnnHas(dnnl::cpu_isa::avx512_core) ? 16 : 8;
}

std::unique_ptr<Convolution> NewOneDnnConvolution(const ConvolutionSpec& spec) {
  try {
    return std::make_unique<OneDnnConvolution>(spec);
  } catch (const dnnl::error& error) {
    Fail("oneDNN cannot make this convolution: ", error.what());
  }
}

}  // namespace crema
