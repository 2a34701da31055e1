// Scale: y = a x (+ b), a and b repeated over the axes they do not have; a is learnt or the second bottom. A
// learnt a with min_value or max_value is brought within them in place in each Forward; its gradient does not
// know of it (happynear/caffe-windows).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

#include <limits>

namespace crema {
namespace {

// Which element of a goes with element i of x. Where a runs over the channels, any layout serves; elsewhere
// the elements are in Caffe's order: a is repeated `inner` times, the whole `outer` times.
struct ScaleIndex {
  Channel order;
  bool by_channel;
  int64_t inner, length;
  CREMA_HD int64_t operator()(int64_t i) const { return by_channel ? order(i) : i / inner % length; }
};

template <class T, class S>
struct ScaleForward {
  const S* x;
  const T *a, *b;
  S* y;
  ScaleIndex index;
  CREMA_HD void operator()(int64_t i) const { (*this)(i, index(i)); }
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    y[i] = static_cast<S>(a[c] * static_cast<T>(x[i]) + (b ? b[c] : T(0)));
  }
};

template <class T>
struct ScaleClamp {
  T *a, low, high;
  CREMA_HD void operator()(int64_t c) const { a[c] = a[c] < low ? low : a[c] > high ? high : a[c]; }
};

template <class T, class S>
struct ScaleBottomGrad {
  const T* a;
  const S* dy;
  S* dx;
  ScaleIndex index;
  CREMA_HD void operator()(int64_t i) const { (*this)(i, index(i)); }
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    dx[i] = static_cast<S>(a[c] * static_cast<T>(dy[i]));
  }
};

template <class T, class S>
struct ScaleGradTerms {  // of a and of b
  const S *x, *dy;
  T factor;
  CREMA_HD Pair<T> operator()(int64_t i, int64_t) const {
    const T grad = factor * static_cast<T>(dy[i]);
    return {grad * static_cast<T>(x[i]), grad};
  }
};

template <class T>
struct ScaleAddGrads {
  const Pair<T>* sums;
  T *da, *db;
  bool add;  // to a param; a bottom's gradient is written
  CREMA_HD void operator()(int64_t c) const {
    if (da) da[c] = (add ? da[c] : T(0)) + sums[c].first;
    if (db) db[c] += sums[c].second;
  }
};

struct Scale final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 2, 1, 1}; }
  Bits16 bits16() const override { return spec().bottom_size() == 1 ? Bits16::kFollows : Bits16::kNo; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  Layouts layouts() const override { return ByChannel() ? Layouts::kSame : Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const ScaleParameter& options = spec().scale_param();
    const Blob& x = *bottom[0];
    const int64_t axis = bottom.size() == 2 || x.axes() > 0 ? x.Axis(options.axis()) : 0;
    Shape shape;
    if (bottom.size() == 2) {
      shape = bottom[1]->shape();
    } else {
      Check(options.num_axes() >= -1, "num_axes is ", options.num_axes(), "; expected -1 or more");
      const int64_t end = options.num_axes() == -1 ? x.axes() : axis + options.num_axes();
      Check(end <= x.axes(), "axis ", axis, " and the ", options.num_axes(),
            " axes from it on do not fit in ", ToString(x.shape()));
      shape.assign(x.shape().begin() + axis, x.shape().begin() + end);
      AddParam(0, RealOf(x.dtype()), shape, options.has_filler() ? options.filler() : ConstantFiller(1));
    }
    CheckBounds(bottom.size() == 2);
    const int64_t end = axis + static_cast<int64_t>(shape.size());
    Check(end <= x.axes() && Shape(x.shape().begin() + axis, x.shape().begin() + end) == shape,
          "a factor of shape ", ToString(shape), " does not fit ", ToString(x.shape()), " from axis ", axis,
          " on");
    if (options.bias_term())
      AddParam(bottom.size() == 2 ? 0 : 1, RealOf(x.dtype()), shape, options.bias_filler());
    outer_ = x.count(0, axis), length_ = CountOf(shape), inner_ = x.count(end);
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      if (is_bounded()) {
        ForEach(ctx, length_,
                ScaleClamp<T>{param(0).data<T>(), static_cast<T>(lowest()), static_cast<T>(highest())});
      }
      const T* b = bias() ? bias()->data<T>() : nullptr;
      Run(ctx, x, ScaleForward<T, S>{x.data<S>(), Factor<T>(bottom), b, y.data<S>(), Index(x)});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      FactorGrads<T, S>(ctx, x, y, bottom);
      if (x.needs_grad()) {
        Run(ctx, x, ScaleBottomGrad<T, S>{Factor<T>(bottom), y.grad<S>(), x.grad<S>(), Index(x)});
      }
    });
  }

 private:
  // A factor for each channel of an image or vector: the usual case, in any layout.
  bool ByChannel() const {
    const ScaleParameter& options = spec().scale_param();
    return spec().bottom_size() == 1 && options.axis() == 1 && options.num_axes() == 1;
  }
  bool is_bounded() const {
    return spec().scale_param().has_min_value() || spec().scale_param().has_max_value();
  }
  float lowest() const {
    const ScaleParameter& options = spec().scale_param();
    return options.has_min_value() ? options.min_value() : std::numeric_limits<float>::lowest();
  }
  float highest() const {
    const ScaleParameter& options = spec().scale_param();
    return options.has_max_value() ? options.max_value() : std::numeric_limits<float>::max();
  }
  void CheckBounds(bool from_bottom) const {
    Check(!is_bounded() || !from_bottom,
          "min_value and max_value bound a learnt factor, but the factor is the second bottom");
    Check(lowest() <= highest(), "min_value ", lowest(), " is above max_value ", highest());
  }
  Param* bias() {
    if (!spec().scale_param().bias_term()) return nullptr;
    return params().back().get();
  }
  template <class T>
  const T* Factor(const Blobs& bottom) {
    return bottom.size() == 2 ? bottom[1]->data<T>() : param(0).data<T>();
  }
  ScaleIndex Index(const Blob& x) const { return {x.channel(), ByChannel(), inner_, length_}; }
  template <class F>
  void Run(const Context& ctx, const Blob& x, const F& f) const {
    if (ByChannel()) {
      ForEach(ctx, x.channel(), f);
    } else {
      ForEach(ctx, x.count(), f);
    }
  }

  template <class T, class S>
  void FactorGrads(const Context& ctx, Blob& x, Blob& y, const Blobs& bottom) {
    const bool from_bottom = bottom.size() == 2;
    const bool factor = from_bottom ? bottom[1]->needs_grad() : param(0).needs_grad();
    const bool has_bias = bias() && bias()->needs_grad();
    if (!factor && !has_bias) return;
    Tensor sums(*ctx.device, DTypeOf<T>(), {length_, 2});
    sums.Zero();
    Pair<T>* pairs = reinterpret_cast<Pair<T>*>(sums.data<T>());
    // Elsewhere than by channel, [outer, length, inner] is an image of `length` channels in Caffe's order.
    const Channel order = ByChannel() ? x.channel() : Channel{outer_, length_, inner_, 1};
    const T factor_of_grad = static_cast<T>(ParamGradFactor(ctx, y));
    ColumnReduce(ctx, order, ScaleGradTerms<T, S>{x.data<S>(), y.grad<S>(), factor_of_grad}, pairs);
    T* da = !factor ? nullptr : from_bottom ? bottom[1]->grad<T>() : param(0).grad.template data<T>();
    T* db = has_bias ? bias()->grad.template data<T>() : nullptr;
    ForEach(ctx, length_, ScaleAddGrads<T>{pairs, da, db, !from_bottom});
  }

  int64_t outer_ = 0, length_ = 0, inner_ = 0;
};

CREMA_REGISTER_LAYER(Scale, "scale_param");

}  // namespace
}  // namespace crema
