#include "net/fused_batch_norm.hpp"

#include "crema/parallel.hpp"

namespace crema {

namespace {

LayerParameter FusedSpec(const Layer& norm, const Layer* last) {
  LayerParameter spec;
  spec.set_name(norm.name() + ".." + last->name());
  spec.set_type("FusedBatchNorm");
  spec.set_phase(norm.phase());
  return spec;
}

// What the sweeps need of each channel: a x_hat + b = factor x + offset, and the slope of the activation's
// negative side, whatever it comes from, so that they load it without a condition.
template <class T>
struct Folded {
  const T *factor, *offset, *slope;
};

template <class T>
struct Fold {
  const T *mean, *inverse_std, *a, *b;
  const T* learnt_slope;  // null: the constant
  T constant_slope;
  T *factor, *offset, *slope;
  CREMA_HD void operator()(int64_t c) const {
    factor[c] = a[c] * inverse_std[c];
    offset[c] = b[c] - mean[c] * factor[c];
    slope[c] = learnt_slope ? learnt_slope[c] : constant_slope;
  }
};

template <class T, class S>
struct FusedForward {
  const S* x;
  Folded<T> of;
  S* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T z = of.factor[c] * static_cast<T>(x[i]) + of.offset[c], below = of.slope[c] * z;
    y[i] = static_cast<S>(z > 0 ? z : below);
  }
};

template <class T>
struct Sums3 {
  T grad = 0, grad_x = 0, slope = 0;
};

// Sums over a channel of dz, dz (x - mean) and, for the slope, dy z where z < 0; z is the activation's input.
template <class T, class S>
struct FusedTerms {
  const S *x, *dy;
  const T* mean;
  Folded<T> of;
  CREMA_HD Sums3<T> operator()(int64_t i, int64_t c) const {
    const T value = static_cast<T>(x[i]), grad = static_cast<T>(dy[i]);
    const T z = of.factor[c] * value + of.offset[c], below = of.slope[c] * grad, slope_term = grad * z;
    const T dz = z > 0 ? grad : below;
    return {dz, dz * (value - mean[c]), z > 0 ? T(0) : slope_term};
  }
};

// dx = a / std (dz - mean(dz) - x_hat mean(dz x_hat)), written as k0 dz + k1 (x - mean) + k2.
template <class T>
struct FoldGrad {
  const Sums3<T>* sums;
  const T *inverse_std, *a;
  T *k0, *k1, *k2;
  T count;  // 0: running statistics, which do not depend on x
  CREMA_HD void operator()(int64_t c) const {
    k0[c] = a[c] * inverse_std[c];
    k1[c] = count > 0 ? -k0[c] * inverse_std[c] * inverse_std[c] * sums[c].grad_x / count : T(0);
    k2[c] = count > 0 ? -k0[c] * sums[c].grad / count : T(0);
  }
};

template <class T, class S>
struct FusedBottomGrad {
  const S *x, *dy;
  const T* mean;
  Folded<T> of;
  const T *k0, *k1, *k2;
  S* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T value = static_cast<T>(x[i]), grad = static_cast<T>(dy[i]);
    const T z = of.factor[c] * value + of.offset[c], below = of.slope[c] * grad;
    const T dz = z > 0 ? grad : below;
    dx[i] = static_cast<S>(k0[c] * dz + k1[c] * (value - mean[c]) + k2[c]);
  }
};

template <class T>
struct FusedParamGrads {
  const Sums3<T>* sums;
  const T* inverse_std;
  T *da, *db, *dslope;  // null where not wanted
  T factor;
  CREMA_HD void operator()(int64_t c) const {
    if (da) da[c] += factor * sums[c].grad_x * inverse_std[c];
    if (db) db[c] += factor * sums[c].grad;
    if (dslope) dslope[c] += factor * sums[c].slope;
  }
};

template <class T>
T* GradOf(Param& param) {
  return param.needs_grad() ? param.grad.data<T>() : nullptr;
}

}  // namespace

template <class T>
struct TermOf<Sums3<T>> {
  static constexpr int kNumbers = 3;
  using Real = T;
  CREMA_HD static Real Get(const Sums3<T>& term, int k) {
    return k == 0 ? term.grad : k == 1 ? term.grad_x : term.slope;
  }
  CREMA_HD static void Add(Sums3<T>* term, int k, double value) {
    (k == 0 ? term->grad : k == 1 ? term->grad_x : term->slope) += static_cast<T>(value);
  }
};

bool FusedBatchNorm::TakesScale(const Layer& layer) {
  const ScaleParameter& options = layer.spec().scale_param();
  return layer.type() == "Scale" && layer.spec().bottom_size() == 1 && options.axis() == 1 &&
         options.num_axes() == 1 && options.bias_term() && !options.has_min_value() &&
         !options.has_max_value();
}

bool FusedBatchNorm::TakesActivation(const Layer& layer) {
  return layer.type() == "ReLU" || (layer.type() == "PReLU" && !layer.spec().prelu_param().channel_shared());
}

FusedBatchNorm::FusedBatchNorm(Layer& norm, Layer& scale, Layer* activation)
    : Layer(FusedSpec(norm, activation ? activation : &scale)),
      norm_(norm),
      scale_(scale),
      activation_(activation) {
  params() = norm.params();
  params().insert(params().end(), scale.params().begin(), scale.params().end());
  if (activation) params().insert(params().end(), activation->params().begin(), activation->params().end());
  has_slope_ = activation && activation->type() == "PReLU";
}

bool FusedBatchNorm::uses_running() const {
  const BatchNormParameter& options = norm_.spec().batch_norm_param();
  return options.has_use_global_stats() ? options.use_global_stats() : phase() == TEST;
}

void FusedBatchNorm::Reshape(const Context&, const Blobs& bottom, const Blobs& top) {
  Check(bottom[0]->channels() == params()[0]->shape[0], "bottom '", bottom[0]->name(), "' has ",
        bottom[0]->channels(), " channels; expected ", params()[0]->shape[0]);
  top[0]->ReshapeLike(*bottom[0]);
}

namespace {

template <class T>
Folded<T> FoldedIn(const Tensor& folded) {
  const int64_t channels = folded.dim(1);
  const T* values = folded.data<T>();
  return {values, values + channels, values + 2 * channels};
}

}  // namespace

void FusedBatchNorm::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  const BatchNormParameter& options = norm_.spec().batch_norm_param();
  Blob &x = *bottom[0], &y = *top[0];
  const double fraction = options.moving_average_fraction();
  if (folded_.empty()) folded_ = Tensor(*ctx.device, RealOf(x.dtype()), {3, x.channels()});
  if (uses_running()) {
    moments_.OfRunning(ctx, params(), options.eps());
  } else {
    moments_.StartBatch(ctx, x, params(), fraction);
  }
  const Channel order = x.channel();
  for (const Groups& part : CacheParts(ctx, order, SizeOf(x.dtype()))) {
    if (!uses_running()) moments_.OfPart(ctx, x, part, params(), fraction, options.eps());
    ForBlob(x.dtype(), [&]<class T, class S>() {
      FoldPart<T>(ctx, order, part);
      ForEach(ctx, order, part, FusedForward<T, S>{x.data<S>(), FoldedIn<T>(folded_), y.data<S>()});
    });
  }
}

template <class T>
void FusedBatchNorm::FoldPart(const Context& ctx, const Channel& order, const Groups& part) {
  const int64_t channels = order.channels();
  T* folded = folded_.data<T>();
  const T* learnt = has_slope_ ? activation_->param(0).data<T>() : nullptr;
  const float constant = activation_ && !has_slope_ ? activation_->spec().relu_param().negative_slope() : 1;
  ForEachChannel(ctx, order, part,
                 Fold<T>{moments_.mean.data<T>(), moments_.inverse_std.data<T>(), scale_.param(0).data<T>(),
                         scale_.param(1).data<T>(), learnt, static_cast<T>(constant), folded,
                         folded + channels, folded + 2 * channels});
}

void FusedBatchNorm::Recompute(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  Blob& x = *bottom[0];
  ForBlob(x.dtype(), [&]<class T, class S>() {
    ForEach(ctx, x.channel(), FusedForward<T, S>{x.data<S>(), FoldedIn<T>(folded_), top[0]->data<S>()});
  });
}

void FusedBatchNorm::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  Blob& x = *bottom[0];
  const Channel order = x.channel();
  const DType real = RealOf(x.dtype());
  Tensor sums(*ctx.device, real, {order.channels(), 3}), k(*ctx.device, real, {3, order.channels()});
  sums.Zero();
  for (const Groups& part : CacheParts(ctx, order, 2 * SizeOf(x.dtype()))) {  // bottom and gradient
    ForBlob(x.dtype(), [&]<class T, class S>() { BackwardPart<T, S>(ctx, x, *top[0], part, &sums, &k); });
  }
}

template <class T, class S>
void FusedBatchNorm::BackwardPart(const Context& ctx, Blob& x, Blob& y, const Groups& part,
                                  Tensor* sums_tensor, Tensor* k) {
  const Channel order = x.channel();
  const int64_t channels = order.channels();
  const T *mean = moments_.mean.data<T>(), *inverse_std = moments_.inverse_std.data<T>();
  Sums3<T>* sums = reinterpret_cast<Sums3<T>*>(sums_tensor->data<T>());
  ColumnReduce(ctx, order, part, FusedTerms<T, S>{x.data<S>(), y.grad<S>(), mean, FoldedIn<T>(folded_)},
               sums);
  T* slope = has_slope_ ? GradOf<T>(activation_->param(0)) : nullptr;
  ForEachChannel(ctx, order, part,
                 FusedParamGrads<T>{sums, inverse_std, GradOf<T>(scale_.param(0)), GradOf<T>(scale_.param(1)),
                                    slope, static_cast<T>(ParamGradFactor(ctx, y))});
  if (!x.needs_grad()) return;
  T *k0 = k->data<T>(), *k1 = k0 + channels, *k2 = k1 + channels;
  const T count = uses_running() ? T(0) : static_cast<T>(order.outer * order.inner);
  ForEachChannel(ctx, order, part,
                 FoldGrad<T>{sums, inverse_std, scale_.param(0).data<T>(), k0, k1, k2, count});
  ForEach(
      ctx, order, part,
      FusedBottomGrad<T, S>{x.data<S>(), y.grad<S>(), mean, FoldedIn<T>(folded_), k0, k1, k2, x.grad<S>()});
}

}  // namespace crema
