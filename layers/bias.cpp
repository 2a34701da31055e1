// Bias: y = x + b, b repeated over the axes it does not have; b is learnt or the second bottom.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct BiasForward {
  const T *x, *b;
  int64_t inner, length;
  T* y;
  CREMA_HD void operator()(int64_t i) const { (*this)(i, i / inner % length); }
  CREMA_HD void operator()(int64_t i, int64_t c) const { y[i] = x[i] + b[c]; }
};

template <class T>
struct BiasTerm {
  const T* dy;
  CREMA_HD T operator()(int64_t i, int64_t) const { return dy[i]; }
};

struct Bias final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 2, 1, 1}; }
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
      AddParam(0, x.dtype(), shape, options.filler());
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
    ForReal(x.dtype(), [&]<class T>() {
      const T* b = bottom.size() == 2 ? bottom[1]->data<T>() : param(0).data<T>();
      const BiasForward<T> forward{x.data<T>(), b, inner_, length_, y.data<T>()};
      if (ByChannel()) {
        ForEach(ctx, x.channel(), forward);
      } else {
        ForEach(ctx, x.count(), forward);
      }
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    if (x.needs_grad()) x.grad().CopyFrom(y.grad());
    const bool from_bottom = bottom.size() == 2;
    if (from_bottom ? !bottom[1]->needs_grad() : !param(0).needs_grad()) return;
    Tensor& db = from_bottom ? bottom[1]->grad() : param(0).grad;
    if (from_bottom) db.Zero();
    // Elsewhere than by channel, [outer, length, inner] is an image of `length` channels in Caffe's order.
    const Channel order = ByChannel() ? x.channel() : Channel{outer_, length_, inner_, 1};
    ForReal(x.dtype(), [&]<class T>() { ColumnReduce(ctx, order, BiasTerm<T>{y.grad<T>()}, db.data<T>()); });
  }

 private:
  // A bias for each channel of an image or vector: the usual case, in any layout.
  bool ByChannel() const {
    const BiasParameter& options = spec().bias_param();
    return spec().bottom_size() == 1 && options.axis() == 1 && options.num_axes() == 1;
  }

  int64_t outer_ = 0, length_ = 0, inner_ = 0;
};

CREMA_REGISTER_LAYER(Bias, "bias_param");

}  // namespace
}  // namespace crema
