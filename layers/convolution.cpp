// Convolution: y = w * x + b, two-dimensional cross-correlation, in groups, with stride, padding and
// dilation.
#include "crema/layer.hpp"
#include "net/convolution_window.hpp"

namespace crema {
namespace {

struct Convolution final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kDevice; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  int64_t MultiplyAdds(const Blobs&, const Blobs& top) const override {
    return top[0]->count() * plan_.channels / plan_.groups * plan_.kernel_h * plan_.kernel_w;
  }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const ConvolutionParameter& options = spec().convolution_param();
    const Blob& x = *bottom[0];
    ConvolutionSpec plan = ConvolutionWindow(*this, x);
    Check(options.num_output() > 0, "num_output is missing or 0");
    Check(options.group() > 0, "group is 0; expected at least 1");
    plan.outputs = options.num_output(), plan.groups = options.group(), plan.bias = options.bias_term();
    plan.dtype = x.dtype();
    plan.batch = x.num(), plan.channels = x.channels(), plan.height = x.height(), plan.width = x.width();
    plan.x_block = x.block();
    plan.y_block = ctx.device->ChannelBlock(plan.outputs);
    Check(plan.channels % plan.groups == 0 && plan.outputs % plan.groups == 0, plan.groups,
          " groups do not divide ", plan.channels, " channels and ", plan.outputs, " outputs");
    Check(plan.out_height() > 0 && plan.out_width() > 0, "a kernel of ", plan.kernel_h, " x ", plan.kernel_w,
          " with padding ", plan.pad_h, " x ", plan.pad_w, " does not fit in ", ToString(x.shape()));
    AddParam(0, x.dtype(), {plan.outputs, plan.channels / plan.groups, plan.kernel_h, plan.kernel_w},
             options.weight_filler());
    if (plan.bias) AddParam(1, x.dtype(), {plan.outputs}, options.bias_filler());
    top[0]->Reshape(x.dtype(), {plan.batch, plan.outputs, plan.out_height(), plan.out_width()}, plan.y_block);
    plan_ = plan;
    operation_.reset();
  }

  Workspace WorkspaceFor(const Context& ctx, const Blobs& bottom, const Blobs& top) const override {
    const bool backward = top[0]->needs_grad(), data = backward && bottom[0]->needs_grad();
    bool weights = false;
    for (const auto& learnt : params()) weights |= learnt->needs_grad();
    return {.scratch = ctx.device->NewConvolution(plan_)->WorkspaceBytes(data, backward && weights)};
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    if (!operation_) operation_ = ctx.device->NewConvolution(plan_);
    const Tensor* bias = plan_.bias ? &param(1).value : nullptr;
    operation_->Forward(*ctx.scratch, bottom[0]->data(), param(0).value, bias, &top[0]->data());
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    if (!operation_) operation_ = ctx.device->NewConvolution(plan_);
    const bool bias = plan_.bias && param(1).needs_grad();
    if (param(0).needs_grad() || bias) WeightGrads(ctx, *top[0], *bottom[0], bias);
    if (bottom[0]->needs_grad()) {
      operation_->BackwardData(*ctx.scratch, top[0]->grad(), param(0).value, &bottom[0]->grad());
    }
  }

 private:
  void WeightGrads(const Context& ctx, const Blob& y, const Blob& x, bool bias) {
    Tensor unwanted;  // the library makes both at once
    Tensor* weight_grad = &param(0).grad;
    if (!param(0).needs_grad()) {
      unwanted = Tensor(*ctx.device, plan_.dtype, param(0).shape);
      unwanted.Zero();
      weight_grad = &unwanted;
    }
    operation_->BackwardWeights(*ctx.scratch, x.data(), y.grad(), weight_grad,
                                bias ? &param(1).grad : nullptr);
  }

  ConvolutionSpec plan_;
  std::unique_ptr<crema::Convolution> operation_;
};

CREMA_REGISTER_LAYER(Convolution, "convolution_param");

}  // namespace
}  // namespace crema
