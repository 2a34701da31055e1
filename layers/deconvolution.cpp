// Deconvolution: a convolution turned round, as its gradient by the bottom is: each number of the bottom adds
// the kernel, scaled by it, to the top (Zeiler et al., "Deconvolutional Networks", CVPR 2010).
#include "net/convolution_layer.hpp"
#include "net/convolution_window.hpp"

namespace crema {
namespace {

struct Deconvolution final : ConvolutionLayer {
  using ConvolutionLayer::ConvolutionLayer;
  int64_t MultiplyAdds(const Blobs& bottom, const Blobs&) const override {
    return bottom[0]->count() * plan().channels / plan().groups * plan().kernel_h * plan().kernel_w;
  }

  // The plan is the convolution from the top to the bottom.
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
    AddParam(0, RealOf(x.dtype()), {plan.outputs, plan.channels / plan.groups, plan.kernel_h, plan.kernel_w},
             options.weight_filler());
    if (options.bias_term()) AddParam(1, RealOf(x.dtype()), {plan.channels}, options.bias_filler());
    top[0]->Reshape(x.dtype(), {plan.batch, plan.channels, plan.height, plan.width}, plan.x_block);
    SetPlan(plan);
  }

  Workspace WorkspaceFor(const Context& ctx, const Blobs&, const Blobs& top) const override {
    return WorkspaceOf(ctx, true, top[0]->needs_grad());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Convolution& operation = Operation(ctx);
    TakeWeights(ctx);
    operation.BackwardData(*ctx.scratch, bottom[0]->data(), Weights(), &top[0]->data());
    AddBias(ctx, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    Convolution& operation = Operation(ctx);
    WeightGrads(ctx, y.grad(), x.data());
    BiasGrad(ctx, y);
    if (x.needs_grad()) operation.Forward(*ctx.scratch, y.grad(), Weights(), nullptr, &x.grad());
  }
};

CREMA_REGISTER_LAYER(Deconvolution, "convolution_param");

}  // namespace
}  // namespace crema
