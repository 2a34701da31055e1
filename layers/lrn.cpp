// LRN: y = x * (k + alpha / m * sum of squares)^-beta, the sum over the m channels around an element's own,
// or over the m positions around it, with k = 1 (Krizhevsky et al., "ImageNet Classification with Deep CNNs",
// NIPS 2012).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// What is summed around an element of an image.
struct LRNWindow {
  Channel order;
  int64_t height = 0, width = 0, half = 0;
  bool within = false;  // its channel; else at its position
  // The sum of f(j) over the elements j around element i of channel c.
  template <class T, class F>
  CREMA_HD T Sum(int64_t i, int64_t c, const F& f) const {
    const int64_t n = i / (order.channels() * order.inner), s = i / order.block % order.inner;
    T sum = 0;
    if (!within) {
      const int64_t end = c + half < order.channels() ? c + half + 1 : order.channels();
      for (int64_t k = c > half ? c - half : 0; k < end; ++k) sum += f(order.at(n, k, s));
      return sum;
    }
    const int64_t h = s / width, w = s % width, first = order.at(n, c, 0);
    const int64_t h_end = h + half < height ? h + half + 1 : height,
                  w_end = w + half < width ? w + half + 1 : width;
    for (int64_t y = h > half ? h - half : 0; y < h_end; ++y) {
      for (int64_t x = w > half ? w - half : 0; x < w_end; ++x)
        sum += f(first + (y * width + x) * order.block);
    }
    return sum;
  }
};

template <class T, class S>
struct LRNSquare {
  const S* x;
  CREMA_HD T operator()(int64_t i) const { return static_cast<T>(x[i]) * static_cast<T>(x[i]); }
};

template <class T>
struct LRNElement {
  const T* x;
  CREMA_HD T operator()(int64_t i) const { return x[i]; }
};

template <class T, class S>
struct LRNScale {  // k + alpha / m * sum of squares
  const S* x;
  LRNWindow window;
  T k, weight, beta;  // weight: alpha / m
  CREMA_HD T operator()(int64_t i, int64_t c) const {
    return k + weight * window.template Sum<T>(i, c, LRNSquare<T, S>{x});
  }
};

template <class T, class S>
struct LRNForward {
  LRNScale<T, S> scale;
  S* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    Store(static_cast<T>(scale.x[i]) * pow(scale(i, c), -scale.beta), y + i);
  }
};

template <class T, class S>
struct LRNRatio {  // dy * y / scale
  LRNScale<T, S> scale;
  const S* dy;
  T* ratio;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    ratio[i] = static_cast<T>(dy[i]) * static_cast<T>(scale.x[i]) * pow(scale(i, c), -scale.beta - 1);
  }
};

template <class T, class S>
struct LRNBottomGrad {
  LRNScale<T, S> scale;
  const S* dy;
  const T* ratio;
  S* dx;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T around = scale.window.template Sum<T>(i, c, LRNElement<T>{ratio});
    const T x = static_cast<T>(scale.x[i]), straight = static_cast<T>(dy[i]) * pow(scale(i, c), -scale.beta);
    Store(straight - 2 * scale.weight * scale.beta * x * around, dx + i);
  }
};

struct LRN final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  Workspace WorkspaceFor(const Context&, const Blobs& bottom, const Blobs& top) const override {
    return {.scratch = top[0]->needs_grad() ? bottom[0]->count() * SizeOf(RealOf(bottom[0]->dtype())) : 0};
  }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() == 4, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where an image N x C x H x W was expected");
    Check(options().local_size() % 2 == 1, "local_size is ", options().local_size(),
          "; expected an odd number");
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.channel(), LRNForward<T, S>{Scale<T, S>(x), y.data<S>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      const LRNScale<T, S> scale = Scale<T, S>(x);
      T* ratio = ctx.scratch->Get<T>(x.count());
      ForEach(ctx, x.channel(), LRNRatio<T, S>{scale, y.grad<S>(), ratio});
      ForEach(ctx, x.channel(), LRNBottomGrad<T, S>{scale, y.grad<S>(), ratio, x.grad<S>()});
    });
  }

 private:
  const LRNParameter& options() const { return spec().lrn_param(); }

  template <class T, class S>
  LRNScale<T, S> Scale(Blob& x) const {
    const int64_t size = options().local_size();
    const bool within = options().norm_region() == LRNParameter::WITHIN_CHANNEL;
    const LRNWindow window{x.channel(), x.height(), x.width(), size / 2, within};
    // Within a channel Caffe's own k is always 1.
    return {x.data<S>(), window, within ? T(1) : static_cast<T>(options().k()),
            static_cast<T>(static_cast<double>(options().alpha()) /
                           static_cast<double>(within ? size * size : size)),
            static_cast<T>(options().beta())};
  }
};

CREMA_REGISTER_LAYER(LRN, "lrn_param");

}  // namespace
}  // namespace crema
