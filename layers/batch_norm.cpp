// BatchNorm: y = (x - mean) / sqrt(variance + eps) per channel, of the batch in TRAIN and running in TEST
// (Ioffe and Szegedy, arXiv 1502.03167).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/batch_moments.hpp"

namespace crema {
namespace {

template <class T>
struct BatchNormForward {
  const T *x, *mean, *inverse_std;
  T* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const { y[i] = (x[i] - mean[c]) * inverse_std[c]; }
};

template <class T>
struct BatchNormGradTerms {  // sums of dy and of dy * y
  const T *x, *dy, *mean, *inverse_std;
  CREMA_HD Pair<T> operator()(int64_t i, int64_t c) const {
    return {dy[i], dy[i] * (x[i] - mean[c]) * inverse_std[c]};
  }
};

template <class T>
struct BatchNormBottomGrad {
  const T *x, *dy, *mean, *inverse_std;
  const Pair<T>* sums;
  T* dx;
  T count;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T y = (x[i] - mean[c]) * inverse_std[c];
    dx[i] = inverse_std[c] * (dy[i] - (sums[c].first + y * sums[c].second) / count);
  }
};

template <class T>
struct BatchNormGlobalGrad {
  const T *dy, *inverse_std;
  T* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const { dx[i] = dy[i] * inverse_std[c]; }
};

struct BatchNorm final : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const BatchNormParameter& options = spec().batch_norm_param();
    Check(options.eps() > 0, "eps is ", options.eps(), "; expected a positive value");
    for (const ParamSpec& param : spec().param()) {
      Check(!param.has_lr_mult() || param.lr_mult() == 0,
            "its weights are statistics, which are not learnt: lr_mult is ", param.lr_mult(), "; expected 0");
    }
    AddParam(0, x.dtype(), {x.channels()}, ConstantFiller(0), Param::Kind::kStatistic);
    AddParam(1, x.dtype(), {x.channels()}, ConstantFiller(0), Param::Kind::kStatistic);
    AddParam(2, x.dtype(), {1}, ConstantFiller(0), Param::Kind::kStatistic);
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
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.channel(),
              BatchNormForward<T>{x.data<T>(), moments_.mean.data<T>(), moments_.inverse_std.data<T>(),
                                  top[0]->data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    if (!bottom[0]->needs_grad()) return;
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      const T *mean = moments_.mean.data<T>(), *inverse_std = moments_.inverse_std.data<T>();
      const Channel order = x.channel();
      if (uses_running()) {
        ForEach(ctx, order, BatchNormGlobalGrad<T>{y.grad<T>(), inverse_std, x.grad<T>()});
        return;
      }
      Tensor sums(*ctx.device, x.dtype(), {order.channels(), 2});
      sums.Zero();
      Pair<T>* pairs = reinterpret_cast<Pair<T>*>(sums.data<T>());
      ColumnReduce(ctx, order, BatchNormGradTerms<T>{x.data<T>(), y.grad<T>(), mean, inverse_std}, pairs);
      const T count = static_cast<T>(order.count() / order.channels());
      ForEach(ctx, order,
              BatchNormBottomGrad<T>{x.data<T>(), y.grad<T>(), mean, inverse_std, pairs, x.grad<T>(), count});
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
