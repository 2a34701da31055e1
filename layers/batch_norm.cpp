// BatchNorm: y = (x - mean) / sqrt(variance + eps) per channel, of the batch in TRAIN and running in TEST
// (Ioffe and Szegedy, arXiv 1502.03167).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/batch_moments.hpp"

namespace crema {
namespace {

template <class T, class S>
struct BatchNormForward {
  const S* x;
  const T *mean, *inverse_std;
  S* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    y[i] = static_cast<S>((static_cast<T>(x[i]) - mean[c]) * inverse_std[c]);
  }
};

template <class T, class S>
struct BatchNormGradTerms {  // sums of dy and of dy * y
  const S *x, *dy;
  const T *mean, *inverse_std;
  CREMA_HD Pair<T> operator()(int64_t i, int64_t c) const {
    const T grad = static_cast<T>(dy[i]);
    return {grad, grad * (static_cast<T>(x[i]) - mean[c]) * inverse_std[c]};
  }
};

template <class T, class S>
struct BatchNormBottomGrad {
  const S *x, *dy;
  const T *mean, *inverse_std;
  const Pair<T>* sums;
  S* dx;
  T count;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T y = (static_cast<T>(x[i]) - mean[c]) * inverse_std[c];
    dx[i] = static_cast<S>(inverse_std[c] *
                           (static_cast<T>(dy[i]) - (sums[c].first + y * sums[c].second) / count));
  }
};

template <class T, class S>
struct BatchNormGlobalGrad {
  const S* dy;
  const T* inverse_std;
  S* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    dx[i] = static_cast<S>(static_cast<T>(dy[i]) * inverse_std[c]);
  }
};

struct BatchNorm final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const BatchNormParameter& options = spec().batch_norm_param();
    Check(options.eps() > 0, "eps is ", options.eps(), "; expected a positive value");
    for (const ParamSpec& param : spec().param()) {
      Check(!param.has_lr_mult() || param.lr_mult() == 0,
            "its weights are statistics, which are not learnt: lr_mult is ", param.lr_mult(), "; expected 0");
    }
    AddParam(0, RealOf(x.dtype()), {x.channels()}, ConstantFiller(0), Param::Kind::kStatistic);
    AddParam(1, RealOf(x.dtype()), {x.channels()}, ConstantFiller(0), Param::Kind::kStatistic);
    AddParam(2, RealOf(x.dtype()), {1}, ConstantFiller(0), Param::Kind::kStatistic);
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const BatchNormParameter& options = spec().batch_norm_param();
    Blob& x = *bottom[0];
    if (uses_running()) {
      moments_.OfRunning(ctx, params(), options.eps());
    } else {
      moments_.OfBatch(ctx, x, params(), options.moving_average_fraction(), options.eps());
    }
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.channel(),
              BatchNormForward<T, S>{x.data<S>(), moments_.mean.data<T>(), moments_.inverse_std.data<T>(),
                                     top[0]->data<S>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    if (!bottom[0]->needs_grad()) return;
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      const T *mean = moments_.mean.data<T>(), *inverse_std = moments_.inverse_std.data<T>();
      const Channel order = x.channel();
      if (uses_running()) {
        ForEach(ctx, order, BatchNormGlobalGrad<T, S>{y.grad<S>(), inverse_std, x.grad<S>()});
        return;
      }
      Tensor sums(*ctx.device, DTypeOf<T>(), {order.channels(), 2});
      sums.Zero();
      Pair<T>* pairs = reinterpret_cast<Pair<T>*>(sums.data<T>());
      ColumnReduce(ctx, order, BatchNormGradTerms<T, S>{x.data<S>(), y.grad<S>(), mean, inverse_std}, pairs);
      const T count = static_cast<T>(order.count() / order.channels());
      ForEach(
          ctx, order,
          BatchNormBottomGrad<T, S>{x.data<S>(), y.grad<S>(), mean, inverse_std, pairs, x.grad<S>(), count});
    });
  }

 private:
  bool uses_running() const {
    const BatchNormParameter& options = spec().batch_norm_param();
    return options.has_use_global_stats() ? options.use_global_stats() : phase() == TEST;
  }

  BatchMoments moments_;
};

CREMA_REGISTER_LAYER(BatchNorm, "batch_norm_param");

}  // namespace
}  // namespace crema
