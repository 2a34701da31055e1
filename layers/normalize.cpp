// Normalize: with norm_param, y = scale * x / |x|, the norm over the channels of each position or over the
// whole sample (Liu et al., "ParseNet", arXiv 1506.04579, section 3.3); otherwise y = x / |x|, the L2 or L1
// norm over the channels of each position, a second top holding the norms (happynear/caffe-windows, which
// adds 1e-6 to the sum).
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

template <class T, class S>
struct NormSquare {
  const S* x;
  NormRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const T value = static_cast<T>(x[of.at(row, k)]);
    return value * value;
  }
};

template <class T>
struct NormInverse {
  T *inverse, eps;
  CREMA_HD void operator()(int64_t row) const { inverse[row] = 1 / sqrt(inverse[row] + eps); }
};

template <class T, class S>
struct NormalizeForward {
  const S* x;
  const T *inverse, *scale;
  int64_t step;  // 1, or 0 where all channels share scale[0]
  NormRows of;
  S* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    Store(scale[c * step] * static_cast<T>(x[i]) * inverse[of.row(i)], y + i);
  }
};

template <class T, class S>
struct NormalizeProduct {  // of the gradient before scaling and the unit vector
  const S *x, *dy;
  const T *inverse, *scale;
  int64_t step;
  NormRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const int64_t i = of.at(row, k);
    return scale[of.order(i) * step] * static_cast<T>(dy[i]) * static_cast<T>(x[i]) * inverse[row];
  }
};

template <class T, class S>
struct NormalizeBottomGrad {  // dx = (scale dy - unit vector * product) / norm
  const S *x, *dy;
  const T *inverse, *scale, *product;
  int64_t step;
  NormRows of;
  S* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t row = of.row(i);
    const T unit = static_cast<T>(x[i]) * inverse[row];
    Store(inverse[row] * (scale[c * step] * static_cast<T>(dy[i]) - unit * product[row]), dx + i);
  }
};

template <class T, class S>
struct NormalizeScaleTerm {
  const S *x, *dy;
  const T* inverse;
  NormRows of;
  T factor;
  CREMA_HD T operator()(int64_t i, int64_t) const {
    return factor * static_cast<T>(dy[i]) * static_cast<T>(x[i]) * inverse[of.row(i)];
  }
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

// Of the forks' form.
template <class T>
struct NormMagnitude {
  const T* x;
  NormRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const T value = x[of.at(row, k)];
    return value < 0 ? -value : value;
  }
};

template <class T>
struct ForkNorm {
  T* norm;  // a sum on the way in
  bool is_l2;
  CREMA_HD void operator()(int64_t row) const {
    const T sum = norm[row] + T(1e-6);
    norm[row] = is_l2 ? sqrt(sum) : sum;
  }
};

template <class T>
struct DivideByNorm {
  const T *x, *norm;
  NormRows of;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i] / norm[of.row(i)]; }
};

template <class T>
struct ForkProduct {  // of the top and its gradient
  const T *x, *norm, *dy;
  NormRows of;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const int64_t i = of.at(row, k);
    return x[i] / norm[row] * dy[i];
  }
};

template <class T>
struct ForkBottomGrad {
  const T *x, *norm, *dy, *product, *d_norm;  // d_norm: null where it is dropped
  bool is_l2, divides;
  NormRows of;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t row = of.row(i);
    const T sign = x[i] > 0 ? T(1) : x[i] < 0 ? T(-1) : T(0);
    const T slope = is_l2 ? x[i] / norm[row] : sign;  // of the norm
    dx[i] =
        (dy[i] - slope * product[row]) / (divides ? norm[row] : T(1)) + (d_norm ? slope * d_norm[row] : T(0));
  }
};

struct Normalize final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 1, 1, is_ssd() ? 1 : 2}; }
  // The forks' form makes embeddings, which stay f32.
  Bits16 bits16() const override { return is_ssd() ? Bits16::kFollows : Bits16::kNo; }
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const NormalizeParameter& options = spec().norm_param();
    const Blob& x = *bottom[0];
    Check(x.axes() >= 2, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " found where N x C x ... was expected");
    Check(!spec().has_norm_param() || !spec().has_normalize_param(),
          "norm_param and normalize_param are both given; they are two different layers of this name");
    if (!is_ssd()) {
      ReshapeFork(x, top);
      return;
    }
    Check(options.eps() >= 0, "eps is ", options.eps(), "; expected 0 or more");
    const Shape shape = options.channel_shared() ? Shape{} : Shape{x.channels()};
    AddParam(0, RealOf(x.dtype()), shape,
             options.has_scale_filler() ? options.scale_filler() : ConstantFiller(1));
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    const NormRows of = Rows(x);
    if (!is_ssd()) {
      ForReal(x.dtype(), [&]<class T>() { ForwardFork<T>(ctx, x, top); });
      return;
    }
    ForBlob(x.dtype(), [&]<class T, class S>() {
      inverse_ = Tensor(*ctx.device, DTypeOf<T>(), {of.rows()});
      T* inverse = inverse_.data<T>();
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), NormSquare<T, S>{x.data<S>(), of}, inverse);
      ForEach(ctx, of.rows(), NormInverse<T>{inverse, static_cast<T>(spec().norm_param().eps())});
      const T* scale = param(0).data<T>();
      ForEach(ctx, x.channel(), NormalizeForward<T, S>{x.data<S>(), inverse, scale, step(), of, y.data<S>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    const NormRows of = Rows(x);
    if (!is_ssd()) {
      ForReal(x.dtype(), [&]<class T>() { BackwardFork<T>(ctx, top, x); });
      return;
    }
    ForBlob(x.dtype(), [&]<class T, class S>() {
      const T *inverse = inverse_.data<T>(), *scale = param(0).data<T>();
      if (param(0).needs_grad()) ScaleGrad<T, S>(ctx, x, y);
      if (!x.needs_grad()) return;
      Tensor products(*ctx.device, DTypeOf<T>(), {of.rows()});
      T* product = products.data<T>();
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(),
                              NormalizeProduct<T, S>{x.data<S>(), y.grad<S>(), inverse, scale, step(), of},
                              product);
      ForEach(ctx, x.channel(),
              NormalizeBottomGrad<T, S>{x.data<S>(), y.grad<S>(), inverse, scale, product, step(), of,
                                        x.grad<S>()});
    });
  }

 private:
  bool is_ssd() const { return spec().has_norm_param(); }
  const ForkNormalizeParameter& fork() const { return spec().normalize_param(); }
  bool is_l2() const { return fork().normalize_type() == "L2"; }

  void ReshapeFork(const Blob& x, const Blobs& top) const {
    Check(is_l2() || fork().normalize_type() == "L1", "normalize_type is '", fork().normalize_type(),
          "'; expected L2 or L1");
    top[0]->ReshapeLike(x);
    if (top.size() == 1) return;
    Shape shape = x.shape();
    shape[1] = 1;
    top[1]->Reshape(x.dtype(), shape);
  }

  template <class T>
  void ForwardFork(const Context& ctx, Blob& x, const Blobs& top) {
    const NormRows of = Rows(x);
    norm_ = Tensor(*ctx.device, DTypeOf<T>(), {of.rows()});
    T* norm = norm_.data<T>();
    if (is_l2()) {
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), NormSquare<T, T>{x.data<T>(), of}, norm);
    } else {
      RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), NormMagnitude<T>{x.data<T>(), of}, norm);
    }
    ForEach(ctx, of.rows(), ForkNorm<T>{norm, is_l2()});
    ForEach(ctx, x.count(), DivideByNorm<T>{x.data<T>(), norm, of, top[0]->data<T>()});
    if (top.size() > 1) ctx.device->Copy(top[1]->data().raw(), norm_.raw(), norm_.bytes());
  }

  template <class T>
  void BackwardFork(const Context& ctx, const Blobs& top, Blob& x) {
    if (!x.needs_grad()) return;
    const NormRows of = Rows(x);
    const T *norm = norm_.data<T>(), *dy = top[0]->grad<T>();
    Tensor products(*ctx.device, DTypeOf<T>(), {of.rows()});
    RowReduce<Reduce::kSum>(ctx, of.rows(), of.terms(), ForkProduct<T>{x.data<T>(), norm, dy, of},
                            products.data<T>());
    const T* d_norm = top.size() > 1 && fork().bp_norm() ? top[1]->grad<T>() : nullptr;
    ForEach(ctx, x.count(),
            ForkBottomGrad<T>{x.data<T>(), norm, dy, products.data<T>(), d_norm, is_l2(),
                              !fork().fix_gradient(), of, x.grad<T>()});
  }

  int64_t step() const { return spec().norm_param().channel_shared() ? 0 : 1; }
  NormRows Rows(const Blob& x) const {
    return {x.channel(), is_ssd() && spec().norm_param().across_spatial()};
  }

  template <class T, class S>
  void ScaleGrad(const Context& ctx, Blob& x, Blob& y) {
    const NormalizeScaleTerm<T, S> term{x.data<S>(), y.grad<S>(), inverse_.data<T>(), Rows(x),
                                        static_cast<T>(ParamGradFactor(ctx, y))};
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

  // Of each row, of the last Forward: 1 / norm, or the forks' norm.
  Tensor inverse_, norm_;
};

CREMA_REGISTER_LAYER(Normalize, "norm_param", "normalize_param");

}  // namespace
}  // namespace crema
