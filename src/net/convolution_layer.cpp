#include "net/convolution_layer.hpp"

#include "crema/parallel.hpp"
#include "net/cast.hpp"
#include "net/convolution_window.hpp"
#include "net/gradient_term.hpp"

namespace crema {

namespace {

template <class T, class S>
struct AddConvolutionBias {
  S* y;
  const T* bias;
  CREMA_HD void operator()(int64_t i, int64_t c) const { Store(static_cast<T>(y[i]) + bias[c], y + i); }
};

}  // namespace

int64_t ConvolutionLayer::MultiplyAdds(const Blobs&, const Blobs& top) const {
  return top[0]->count() * plan_.channels / plan_.groups * plan_.kernel_h * plan_.kernel_w;
}

void ConvolutionLayer::Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  const ConvolutionParameter& options = spec().convolution_param();
  const Blob& x = *bottom[0];
  ConvolutionSpec plan = ConvolutionWindow(*this, x);
  Check(options.num_output() > 0, "num_output is missing or 0");
  plan.outputs = options.num_output(), plan.groups = Groups(x.channels()), plan.dtype = x.dtype();
  plan.bias = options.bias_term() && !Has16Bits(x.dtype());
  plan.batch = x.num(), plan.channels = x.channels(), plan.height = x.height(), plan.width = x.width();
  plan.x_block = x.block();
  plan.y_block = ctx.device->ChannelBlock(x.dtype(), plan.outputs);
  Check(plan.channels % plan.groups == 0 && plan.outputs % plan.groups == 0, plan.groups,
        " groups do not divide ", plan.channels, " channels and ", plan.outputs, " outputs");
  Check(plan.out_height() > 0 && plan.out_width() > 0, "a kernel of ", plan.kernel_h, " x ", plan.kernel_w,
        " with padding ", plan.pad_h, " x ", plan.pad_w, " does not fit in ", ToString(x.shape()));
  AddParam(0, RealOf(x.dtype()), {plan.outputs, plan.channels / plan.groups, plan.kernel_h, plan.kernel_w},
           options.weight_filler());
  if (options.bias_term()) AddParam(1, RealOf(x.dtype()), {plan.outputs}, options.bias_filler());
  top[0]->Reshape(x.dtype(), {plan.batch, plan.outputs, plan.out_height(), plan.out_width()}, plan.y_block);
  SetPlan(plan);
}

void ConvolutionLayer::SetPlan(const ConvolutionSpec& plan) {
  plan_ = plan;
  operation_.reset();
}

Workspace ConvolutionLayer::WorkspaceFor(const Context& ctx, const Blobs& bottom, const Blobs& top) const {
  return WorkspaceOf(ctx, top[0]->needs_grad() && bottom[0]->needs_grad(), top[0]->needs_grad());
}

Workspace ConvolutionLayer::WorkspaceOf(const Context& ctx, bool data, bool backward) const {
  bool weights = false;
  for (const auto& learnt : params()) weights |= learnt->needs_grad();
  const auto operation = ctx.device->NewConvolution(plan_);
  Workspace space{.scratch = operation->WorkspaceBytes(data, backward && weights)};
  if (in_16_bits()) {
    const int64_t count = CountOf(params()[0]->shape);
    space.kept.push_back({"weights in 16 bits", count * SizeOf(plan_.dtype)});
    if (backward && weights) space.scratch += count * SizeOf(operation->WeightGradType());
  }
  return space;
}

void ConvolutionLayer::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  Convolution& operation = Operation(ctx);
  TakeWeights(ctx);
  const Tensor* bias = plan_.bias ? &param(1).value : nullptr;
  operation.Forward(*ctx.scratch, bottom[0]->data(), Weights(), bias, &top[0]->data());
  AddBias(ctx, top[0]);
}

void ConvolutionLayer::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  Blob &x = *bottom[0], &y = *top[0];
  Convolution& operation = Operation(ctx);
  WeightGrads(ctx, x.data(), y.grad());
  BiasGrad(ctx, y);
  if (x.needs_grad()) operation.BackwardData(*ctx.scratch, y.grad(), Weights(), &x.grad());
}

Convolution& ConvolutionLayer::Operation(const Context& ctx) {
  if (!operation_) operation_ = ctx.device->NewConvolution(plan_);
  return *operation_;
}

void ConvolutionLayer::TakeWeights(const Context& ctx) {
  if (!in_16_bits()) return;
  if (weights_in_16_bits_.empty()) {
    weights_in_16_bits_ = Tensor(*ctx.device, plan_.dtype, param(0).shape, operation_->WeightBlock());
  }
  Cast(ctx, param(0).value, 1, &weights_in_16_bits_);
}

void ConvolutionLayer::AddBias(const Context& ctx, Blob* y) {
  if (plan_.bias || params().size() == 1) return;
  ForBlob(plan_.dtype, [&]<class T, class S>() {
    ForEach(ctx, y->channel(), AddConvolutionBias<T, S>{y->data<S>(), param(1).data<T>()});
  });
}

void ConvolutionLayer::BiasGrad(const Context& ctx, Blob& y) {
  if (plan_.bias || params().size() == 1 || !param(1).needs_grad()) return;
  ForBlob(plan_.dtype, [&]<class T, class S>() {
    const T factor = static_cast<T>(ParamGradFactor(ctx, y));
    ColumnReduce(ctx, y.channel(), GradientTerm<T, S>{y.grad<S>(), factor}, param(1).grad.template data<T>());
  });
}

void ConvolutionLayer::WeightGrads(const Context& ctx, const Tensor& x, const Tensor& dy) {
  if (in_16_bits()) return WeightGradsIn16Bits(ctx, x, dy);
  const bool bias = plan_.bias && param(1).needs_grad();
  if (!param(0).needs_grad() && !bias) return;
  Tensor unwanted;  // the library makes both at once
  Tensor* weight_grad = &param(0).grad;
  if (!param(0).needs_grad()) {
    unwanted = Tensor(*ctx.device, plan_.dtype, param(0).shape);
    unwanted.Zero();
    weight_grad = &unwanted;
  }
  operation_->BackwardWeights(*ctx.scratch, x, dy, weight_grad, bias ? &param(1).grad : nullptr);
}

void ConvolutionLayer::WeightGradsIn16Bits(const Context& ctx, const Tensor& x, const Tensor& dy) {
  if (!param(0).needs_grad()) return;
  const double factor = 1 / ctx.grad_scale;
  // Where the operation adds to what the gradient is, as on a CPU without loss scaling, nothing lies between.
  const bool straight =
      factor == 1 && operation_->WeightGradType() == param(0).dtype && operation_->WeightBlock() == 1;
  if (straight) return operation_->BackwardWeights(*ctx.scratch, x, dy, &param(0).grad, nullptr);
  Tensor made(*ctx.device, operation_->WeightGradType(), param(0).shape, operation_->WeightBlock());
  made.Zero();
  operation_->BackwardWeights(*ctx.scratch, x, dy, &made, nullptr);
  AddCast(ctx, made, factor, &param(0).grad);
}

int64_t ConvolutionLayer::Groups(int64_t) const {
  const int64_t groups = spec().convolution_param().group();
  Check(groups > 0, "group is 0; expected at least 1");
  return groups;
}

int64_t DepthwiseLayer::Groups(int64_t channels) const {
  const ConvolutionParameter& options = spec().convolution_param();
  Check(!options.has_group() || options.group() == channels, "group is ", options.group(), " for ", channels,
        " channels; a depthwise convolution has a group for each channel");
  return channels;
}

}  // namespace crema
