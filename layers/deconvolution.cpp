// Deconvolution: a convolution turned round, as its gradient by the bottom is: each number of the bottom adds
// the kernel, scaled by it, to the top (Zeiler et al., "Deconvolutional Networks", CVPR 2010).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/convolution_window.hpp"

namespace crema {
namespace {

template <class T>
struct DeconvolutionBias {
  T* y;
  const T* bias;
  CREMA_HD void operator()(int64_t i, int64_t c) const { y[i] += bias[c]; }
};

template <class T>
struct DeconvolutionBiasTerm {
  const T* dy;
  CREMA_HD T operator()(int64_t i, int64_t) const { return dy[i]; }
};

struct Deconvolution final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kDevice; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  int64_t MultiplyAdds(const Blobs& bottom, const Blobs&) const override {
    return bottom[0]->count() * plan_.channels / plan_.groups * plan_.kernel_h * plan_.kernel_w;
  }

  // plan_ is the convolution from the top to the bottom.
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const ConvolutionParameter& options = spec().convolution_param();
    const Blob& x = *bottom[0];
    ConvolutionSpec plan = ConvolutionWindow(*this, x);
    Check(options.num_output() > 0, "num_output is missing or 0");
    Check(options.group() > 0, "group is 0; expected at least 1");
    plan.dtype = x.dtype(), plan.groups = options.group();
    plan.batch = x.num(), plan.outputs = x.channels(), plan.channels = options.num_output();
    plan.height =
        plan.stride_h * (x.height() - 1) + plan.dilation_h * (plan.kernel_h - 1) + 1 - 2 * plan.pad_h;
    plan.width = plan.stride_w * (x.width() - 1) + plan.dilation_w * (plan.kernel_w - 1) + 1 - 2 * plan.pad_w;
    plan.y_block = x.block(), plan.x_block = ctx.device->ChannelBlock(x.dtype(), plan.channels);
    Check(plan.channels % plan.groups == 0 && plan.outputs % plan.groups == 0, plan.groups,
          " groups do not divide ", plan.outputs, " channels and ", plan.channels, " outputs");
    Check(x.height() > 0 && x.width() > 0 && plan.height > 0 && plan.width > 0, "a padding of ", plan.pad_h,
          " x ", plan.pad_w, " leaves nothing of what a kernel of ", plan.kernel_h, " x ", plan.kernel_w,
          " makes of ", ToString(x.shape()));
    AddParam(0, x.dtype(), {plan.outputs, plan.channels / plan.groups, plan.kernel_h, plan.kernel_w},
             options.weight_filler());
    if (options.bias_term()) AddParam(1, x.dtype(), {plan.channels}, options.bias_filler());
    top[0]->Reshape(x.dtype(), {plan.batch, plan.channels, plan.height, plan.width}, plan.x_block);
    plan_ = plan;
    operation_.reset();
  }

  Workspace WorkspaceFor(const Context& ctx, const Blobs&, const Blobs& top) const override {
    return {.scratch = ctx.device->NewConvolution(plan_)->WorkspaceBytes(
                true, top[0]->needs_grad() && params()[0]->needs_grad())};
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    if (!operation_) operation_ = ctx.device->NewConvolution(plan_);
    Blob& y = *top[0];
    operation_->BackwardData(*ctx.scratch, bottom[0]->data(), param(0).value, &y.data());
    if (params().size() == 1) return;
    ForReal(y.dtype(), [&]<class T>() {
      ForEach(ctx, y.channel(), DeconvolutionBias<T>{y.data<T>(), param(1).data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    if (!operation_) operation_ = ctx.device->NewConvolution(plan_);
    Blob &x = *bottom[0], &y = *top[0];
    if (param(0).needs_grad()) {
      operation_->BackwardWeights(*ctx.scratch, y.grad(), x.data(), &param(0).grad, nullptr);
    }
    if (params().size() > 1 && param(1).needs_grad()) {
      ForReal(y.dtype(), [&]<class T>() {
        ColumnReduce(ctx, y.channel(), DeconvolutionBiasTerm<T>{y.grad<T>()}, param(1).grad.data<T>());
      });
    }
    if (x.needs_grad()) operation_->Forward(*ctx.scratch, y.grad(), param(0).value, nullptr, &x.grad());
  }

 private:
  ConvolutionSpec plan_;
  std::unique_ptr<crema::Convolution> operation_;
};

CREMA_REGISTER_LAYER(Deconvolution, "convolution_param");

}  // namespace
}  // namespace crema
