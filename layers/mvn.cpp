// MVN: y = (x - mean) / (standard deviation + eps), both over the positions of each channel of a sample, or
// over the whole sample.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// What gets mean 0 and variance 1: rows of `terms` elements.
struct MVNRows {
  Channel order;
  bool whole;  // a row is a sample; else a channel of it
  CREMA_HD int64_t rows() const { return whole ? order.outer : order.outer * order.channels(); }
  CREMA_HD int64_t terms() const { return order.inner * (whole ? order.channels() : 1); }
  CREMA_HD int64_t at(int64_t row, int64_t k) const {
    return whole ? row * terms() + k : order.at(row / order.channels(), row % order.channels(), k);
  }
  CREMA_HD int64_t row(int64_t i, int64_t c) const {
    const int64_t n = i / (order.channels() * order.inner);
    return whole ? n : n * order.channels() + c;
  }
};

template <class T, class S>
struct MVNTerm {
  const S* x;
  MVNRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    return static_cast<T>(x[of.at(row, k)]) / static_cast<T>(of.terms());
  }
};

template <class T, class S>
struct MVNProductTerm {
  const S *y, *dy;
  MVNRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const int64_t i = of.at(row, k);
    return static_cast<T>(y[i]) * static_cast<T>(dy[i]) / static_cast<T>(of.terms());
  }
};

template <class T, class S>
struct MVNSquareTerm {
  const S* x;
  const T* mean;
  MVNRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const T difference = static_cast<T>(x[of.at(row, k)]) - mean[row];
    return difference * difference / static_cast<T>(of.terms());
  }
};

template <class T>
struct MVNInverse {  // of variances to 1 / (standard deviation + eps), in place
  T *inverse, eps;
  CREMA_HD void operator()(int64_t row) const { inverse[row] = 1 / (sqrt(inverse[row]) + eps); }
};

template <class T, class S>
struct MVNForward {
  const S* x;
  const T *mean, *inverse;
  MVNRows of;
  S* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t row = of.row(i, c);
    Store((static_cast<T>(x[i]) - mean[row]) * inverse[row], y + i);
  }
};

template <class T, class S>
struct MVNBottomGrad {
  const S *y, *dy;
  const T *inverse, *mean_dy, *mean_product;  // mean_product: of y * dy; null where variances stay
  MVNRows of;
  S* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t row = of.row(i, c);
    T grad = static_cast<T>(dy[i]) - mean_dy[row];
    if (mean_product != nullptr) grad = (grad - static_cast<T>(y[i]) * mean_product[row]) * inverse[row];
    Store(grad, dx + i);
  }
};

struct MVN final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override {
    return options().normalize_variance() ? Reads::kTop : Reads::kNothing;
  }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    Check(options().eps() >= 0, "eps is ", options().eps(), "; expected at least 0");
    Check(bottom[0]->axes() > 0, "bottom '", bottom[0]->name(), "' is a scalar where samples were expected");
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    const MVNRows of = Rows(x);
    ForBlob(x.dtype(), [&]<class T, class S>() {
      Tensor means(*ctx.device, DTypeOf<T>(), {of.rows()});
      inverse_ = Tensor(*ctx.device, DTypeOf<T>(), {of.rows()});
      T *mean = means.data<T>(), *inverse = inverse_.data<T>();
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), MVNTerm<T, S>{x.data<S>(), of}, mean);
      if (options().normalize_variance()) {
        RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), MVNSquareTerm<T, S>{x.data<S>(), mean, of},
                                inverse);
        ForEach(ctx, of.rows(), MVNInverse<T>{inverse, static_cast<T>(options().eps())});
      } else {
        ForEach(ctx, of.rows(), SetTo<T>{inverse, 1});
      }
      ForEach(ctx, x.channel(), MVNForward<T, S>{x.data<S>(), mean, inverse, of, y.data<S>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    const MVNRows of = Rows(x);
    ForBlob(x.dtype(), [&]<class T, class S>() {
      Tensor means(*ctx.device, DTypeOf<T>(), {2, of.rows()});
      T *mean_dy = means.data<T>(), *mean_product = nullptr;
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), MVNTerm<T, S>{y.grad<S>(), of}, mean_dy);
      if (options().normalize_variance()) {
        mean_product = mean_dy + of.rows();
        RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(),
                                MVNProductTerm<T, S>{y.data<S>(), y.grad<S>(), of}, mean_product);
      }
      ForEach(ctx, x.channel(),
              MVNBottomGrad<T, S>{y.data<S>(), y.grad<S>(), inverse_.data<T>(), mean_dy, mean_product, of,
                                  x.grad<S>()});
    });
  }

 private:
  const MVNParameter& options() const { return spec().mvn_param(); }
  MVNRows Rows(const Blob& x) const { return {x.channel(), options().across_channels()}; }

  Tensor inverse_;  // 1 / (standard deviation + eps) of each row, of the last Forward
};

CREMA_REGISTER_LAYER(MVN, "mvn_param");

}  // namespace
}  // namespace crema
