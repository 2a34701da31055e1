// Normalize: y = scale * x / |x|, the norm over the channels of each position or over the whole sample (Liu
// et al., "ParseNet", arXiv 1506.04579, section 3.3).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// What is brought to unit length: rows of `terms` elements.
struct NormRows {
  Channel order;
  bool whole;  // a row is a sample; else the channels of a position
  CREMA_HD int64_t rows() const { return whole ? order.outer : order.outer * order.inner; }
  CREMA_HD int64_t terms() const { return order.channels() * (whole ? order.inner : 1); }
  CREMA_HD int64_t at(int64_t row, int64_t k) const {
    return whole ? row * terms() + k : order.at(row / order.inner, k, row % order.inner);
  }
  CREMA_HD int64_t row(int64_t i) const {
    const int64_t n = i / (order.channels() * order.inner);
    return whole ? n : n * order.inner + i / order.block % order.inner;
  }
};

template <class T>
struct NormSquare {
  const T* x;
  NormRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const T value = x[of.at(row, k)];
    return value * value;
  }
};

template <class T>
struct NormInverse {
  T *inverse, eps;
  CREMA_HD void operator()(int64_t row) const { inverse[row] = 1 / sqrt(inverse[row] + eps); }
};

template <class T>
struct NormalizeForward {
  const T *x, *inverse, *scale;
  int64_t step;  // 1, or 0 where all channels share scale[0]
  NormRows of;
  T* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const { y[i] = scale[c * step] * x[i] * inverse[of.row(i)]; }
};

template <class T>
struct NormalizeProduct {  // of the gradient before scaling and the unit vector
  const T *x, *inverse, *scale, *dy;
  int64_t step;
  NormRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const int64_t i = of.at(row, k);
    return scale[of.order(i) * step] * dy[i] * x[i] * inverse[row];
  }
};

template <class T>
struct NormalizeBottomGrad {  // dx = (scale dy - unit vector * product) / norm
  const T *x, *inverse, *scale, *dy, *product;
  int64_t step;
  NormRows of;
  T* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t row = of.row(i);
    dx[i] = inverse[row] * (scale[c * step] * dy[i] - x[i] * inverse[row] * product[row]);
  }
};

template <class T>
struct NormalizeScaleTerm {
  const T *x, *inverse, *dy;
  NormRows of;
  CREMA_HD T operator()(int64_t i, int64_t) const { return dy[i] * x[i] * inverse[of.row(i)]; }
};

template <class T>
struct NormalizeAddSum {
  const T* terms;
  int64_t count;
  T* sum;
  CREMA_HD void operator()(int64_t) const {
    for (int64_t k = 0; k < count; ++k) sum[0] += terms[k];
  }
};

struct Normalize final : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const NormalizeParameter& options = spec().norm_param();
    const Blob& x = *bottom[0];
    Check(x.axes() >= 2, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " found where N x C x ... was expected");
    Check(options.eps() >= 0, "eps is ", options.eps(), "; expected 0 or more");
    const Shape shape = options.channel_shared() ? Shape{} : Shape{x.channels()};
    AddParam(0, x.dtype(), shape, options.has_scale_filler() ? options.scale_filler() : ConstantFiller(1));
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    const NormRows of = Rows(x);
    ForReal(x.dtype(), [&]<class T>() {
      inverse_ = Tensor(*ctx.device, DTypeOf<T>(), {of.rows()});
      T* inverse = inverse_.data<T>();
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), NormSquare<T>{x.data<T>(), of}, inverse);
      ForEach(ctx, of.rows(), NormInverse<T>{inverse, static_cast<T>(spec().norm_param().eps())});
      const T* scale = param(0).data<T>();
      ForEach(ctx, x.channel(), NormalizeForward<T>{x.data<T>(), inverse, scale, step(), of, y.data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    const NormRows of = Rows(x);
    ForReal(x.dtype(), [&]<class T>() {
      const T *inverse = inverse_.data<T>(), *scale = param(0).data<T>();
      if (param(0).needs_grad()) ScaleGrad<T>(ctx, x, y);
      if (!x.needs_grad()) return;
      Tensor products(*ctx.device, DTypeOf<T>(), {of.rows()});
      T* product = products.data<T>();
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(),
                              NormalizeProduct<T>{x.data<T>(), inverse, scale, y.grad<T>(), step(), of},
                              product);
      ForEach(
          ctx, x.channel(),
          NormalizeBottomGrad<T>{x.data<T>(), inverse, scale, y.grad<T>(), product, step(), of, x.grad<T>()});
    });
  }

 private:
  int64_t step() const { return spec().norm_param().channel_shared() ? 0 : 1; }
  NormRows Rows(const Blob& x) const { return {x.channel(), spec().norm_param().across_spatial()}; }

  template <class T>
  void ScaleGrad(const Context& ctx, Blob& x, Blob& y) {
    const NormalizeScaleTerm<T> term{x.data<T>(), inverse_.data<T>(), y.grad<T>(), Rows(x)};
    T* grad = param(0).grad.template data<T>();
    if (step() == 1) {
      ColumnReduce(ctx, x.channel(), term, grad);
      return;
    }
    Tensor sums(*ctx.device, DTypeOf<T>(), {x.channels()});
    sums.Zero();
    ColumnReduce(ctx, x.channel(), term, sums.data<T>());
    ForEach(ctx, 1, NormalizeAddSum<T>{sums.data<T>(), x.channels(), grad});
  }

  Tensor inverse_;  // 1 / norm of each row, of the last Forward
};

CREMA_REGISTER_LAYER(Normalize, "norm_param");

}  // namespace
}  // namespace crema
