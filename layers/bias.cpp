// Bias: y = x + b, b repeated over the axes it does not have; b is learnt or the second bottom.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/cast.hpp"
#include "net/gradient_term.hpp"

namespace crema {
namespace {

template <class T, class S, class B>
struct BiasForward {
  const S* x;
  const B* b;
  int64_t inner, length;
  S* y;
  CREMA_HD void operator()(int64_t i) const { (*this)(i, i / inner % length); }
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    Store(static_cast<T>(x[i]) + static_cast<T>(b[c]), y + i);
  }
};

struct Bias final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 2, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return ByChannel() ? Layouts::kSame : Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const BiasParameter& options = spec().bias_param();
    const Blob& x = *bottom[0];
    const int64_t axis = x.axes() > 0 ? x.Axis(options.axis()) : 0;
    Shape shape;
    if (bottom.size() == 2) {
      shape = bottom[1]->shape();
    } else {
      Check(options.num_axes() >= -1, "num_axes is ", options.num_axes(), "; expected -1 or more");
      const int64_t end = options.num_axes() == -1 ? x.axes() : axis + options.num_axes();
      Check(end <= x.axes(), "axis ", axis, " and the ", options.num_axes(),
            " axes from it on do not fit in ", ToString(x.shape()));
      shape.assign(x.shape().begin() + axis, x.shape().begin() + end);
      AddParam(0, RealOf(x.dtype()), shape, options.filler());
    }
    const int64_t end = axis + static_cast<int64_t>(shape.size());
    Check(end <= x.axes() && Shape(x.shape().begin() + axis, x.shape().begin() + end) == shape,
          "a bias of shape ", ToString(shape), " does not fit ", ToString(x.shape()), " from axis ", axis,
          " on");
    outer_ = x.count(0, axis), length_ = CountOf(shape), inner_ = x.count(end);
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      if (bottom.size() == 2) {
        Add<T>(ctx, x, bottom[1]->data<S>(), y.data<S>());
      } else {
        Add<T>(ctx, x, param(0).data<T>(), y.data<S>());
      }
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    if (x.needs_grad()) x.grad().CopyFrom(y.grad());
    const bool from_bottom = bottom.size() == 2;
    if (from_bottom ? !bottom[1]->needs_grad() : !param(0).needs_grad()) return;
    Tensor sums;  // of a bottom's gradient, which is written and may be of 16 bits
    if (from_bottom) sums = Tensor(*ctx.device, RealOf(x.dtype()), {length_}), sums.Zero();
    // Elsewhere than by channel, [outer, length, inner] is an image of `length` channels in Caffe's order.
    const Channel order = ByChannel() ? x.channel() : Channel{outer_, length_, inner_, 1};
    ForBlob(x.dtype(), [&]<class T, class S>() {
      const T factor = static_cast<T>(from_bottom ? 1 : ParamGradFactor(ctx, y));
      T* db = (from_bottom ? sums : param(0).grad).template data<T>();
      ColumnReduce(ctx, order, GradientTerm<T, S>{y.grad<S>(), factor}, db);
    });
    if (from_bottom) Cast(ctx, sums, 1, &bottom[1]->grad());
  }

 private:
  // A bias for each channel of an image or vector: the usual case, in any layout.
  bool ByChannel() const {
    const BiasParameter& options = spec().bias_param();
    return spec().bottom_size() == 1 && options.axis() == 1 && options.num_axes() == 1;
  }

  template <class T, class S, class B>
  void Add(const Context& ctx, Blob& x, const B* b, S* y) const {
    const BiasForward<T, S, B> forward{x.data<S>(), b, inner_, length_, y};
    if (ByChannel()) {
      ForEach(ctx, x.channel(), forward);
    } else {
      ForEach(ctx, x.count(), forward);
    }
  }

  int64_t outer_ = 0, length_ = 0, inner_ = 0;
};

CREMA_REGISTER_LAYER(Bias, "bias_param");

}  // namespace
}  // namespace crema
