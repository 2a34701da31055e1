// Pooling: maximum, average, or a number drawn in proportion to its size, over windows of an image
// (STOCHASTIC: Zeiler and Fergus, arXiv 1301.3557; in TEST the mean weighted by size). A second top of MAX
// holds where in its channel each maximum lies, row * width + column: Caffe's mask.
#include <type_traits>

#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Where the windows lie along one axis.
struct PoolAxis {
  int64_t size = 0, kernel = 1, stride = 1, pad = 0, out = 0;

  CREMA_HD int64_t start(int64_t o) const { return o * stride - pad; }
  CREMA_HD int64_t first(int64_t o) const { return start(o) < 0 ? 0 : start(o); }
  CREMA_HD int64_t last(int64_t o) const { return start(o) + kernel > size ? size : start(o) + kernel; }
  // Length that the average divides by: of the window clipped to the padded image.
  CREMA_HD int64_t length(int64_t o) const {
    return (start(o) + kernel > size + pad ? size + pad : start(o) + kernel) - start(o);
  }
  // Windows over position i: [first_over, last_over).
  CREMA_HD int64_t first_over(int64_t i) const {
    return i + pad < kernel ? 0 : (i + pad - kernel) / stride + 1;
  }
  CREMA_HD int64_t last_over(int64_t i) const {
    const int64_t end = (i + pad) / stride + 1;
    return end > out ? out : end;
  }
};

// The windows of a plane: one sample's channel group, `block` channels beside each other.
struct PoolWindows {
  PoolAxis h, w;
  int64_t block = 1;
  CREMA_HD int64_t x_plane() const { return h.size * w.size * block; }
  CREMA_HD int64_t y_plane() const { return h.out * w.out * block; }
};

template <class T, class S>
struct MaxPoolForward {
  const S* x;
  S* y;
  PoolWindows windows;
  template <class Lanes>
  CREMA_HD void operator()(int64_t position, const Lanes& lanes) const {  // plane and place in the output
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, oh = position / w.out % h.out, ow = position % w.out;
    const S* plane = x + position / (h.out * w.out) * windows.x_plane();
    S* out = y + position * block;
    for (int64_t j = lanes.first(); j < block; j += lanes.step())
      out[j] = plane[(h.first(oh) * w.size + w.first(ow)) * block + j];
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        const S* in = plane + (ih * w.size + iw) * block;
        for (int64_t j = lanes.first(); j < block; j += lanes.step())
          out[j] = static_cast<T>(in[j]) > static_cast<T>(out[j]) ? in[j] : out[j];
      }
    }
  }
};

// The first of the largest values of a window.
template <class T, class S>
struct LargestOfWindow {
  const S* x;
  PoolWindows windows;
  // Where in its channel it lies, row * width + column; a lane is one sample's channel.
  CREMA_HD int64_t At(int64_t lane, int64_t oh, int64_t ow) const {
    const PoolAxis &h = windows.h, &w = windows.w;
    const S* in = x + lane / windows.block * windows.x_plane() + lane % windows.block;
    int64_t best = h.first(oh) * w.size + w.first(ow);
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        const int64_t at = ih * w.size + iw;
        if (static_cast<T>(in[at * windows.block]) > static_cast<T>(in[best * windows.block])) best = at;
      }
    }
    return best;
  }
};

template <class T>
struct MaxPoolMask {
  LargestOfWindow<T, T> largest;
  T* mask;
  CREMA_HD void operator()(int64_t lane) const {
    const PoolWindows& windows = largest.windows;
    T* out = mask + lane / windows.block * windows.y_plane() + lane % windows.block;
    for (int64_t oh = 0; oh < windows.h.out; ++oh) {
      for (int64_t ow = 0; ow < windows.w.out; ++ow) {
        out[(oh * windows.w.out + ow) * windows.block] = static_cast<T>(largest.At(lane, oh, ow));
      }
    }
  }
};

// Each window's gradient goes to the element that was picked of it: the first of its largest, or the one
// drawn.
template <class T, class S, class Pick>
struct PickedPoolBottomGrad {
  Pick pick;
  const S* dy;
  S* dx;
  CREMA_HD void operator()(int64_t lane) const {
    const PoolWindows& windows = pick.windows;
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, plane = lane / block, j = lane % block;
    const S* out_grad = dy + plane * windows.y_plane() + j;
    S* in_grad = dx + plane * windows.x_plane() + j;
    for (int64_t i = 0; i < h.size * w.size; ++i) in_grad[i * block] = S(T(0));
    for (int64_t o = 0; o < h.out * w.out; ++o) {
      S* picked = in_grad + pick.At(lane, o / w.out, o % w.out) * block;
      Store(static_cast<T>(*picked) + static_cast<T>(out_grad[o * block]), picked);
    }
  }
};

template <class T, class S>
struct AveragePoolForward {
  const S* x;
  S* y;
  PoolWindows windows;
  template <class Lanes>
  CREMA_HD void operator()(int64_t position, const Lanes& lanes) const {
    constexpr int64_t kRun = Lanes::kRun;
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, oh = position / w.out % h.out, ow = position % w.out;
    const S* plane = x + position / (h.out * w.out) * windows.x_plane();
    const T divisor = static_cast<T>(h.length(oh) * w.length(ow));
    for (int64_t j = lanes.first() * kRun; j < block; j += lanes.step() * kRun) {
      const int64_t n = block - j < kRun ? block - j : kRun;
      T sum[kRun] = {};
      for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
        for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
          const S* in = plane + (ih * w.size + iw) * block + j;
          for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<T>(in[i]);
        }
      }
      for (int64_t i = 0; i < n; ++i) Store(sum[i] / divisor, y + position * block + j + i);
    }
  }
};

template <class T, class S>
struct AveragePoolBottomGrad {
  const S* dy;
  S* dx;
  PoolWindows windows;
  template <class Lanes>
  CREMA_HD void operator()(int64_t position, const Lanes& lanes) const {  // plane and place in the input
    constexpr int64_t kRun = Lanes::kRun;
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, ih = position / w.size % h.size, iw = position % w.size;
    const S* plane = dy + position / (h.size * w.size) * windows.y_plane();
    for (int64_t j = lanes.first() * kRun; j < block; j += lanes.step() * kRun) {
      const int64_t n = block - j < kRun ? block - j : kRun;
      T sum[kRun] = {};
      for (int64_t oh = h.first_over(ih); oh < h.last_over(ih); ++oh) {
        for (int64_t ow = w.first_over(iw); ow < w.last_over(iw); ++ow) {
          const S* out_grad = plane + (oh * w.out + ow) * block + j;
          const T divisor = static_cast<T>(h.length(oh) * w.length(ow));
          for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<T>(out_grad[i]) / divisor;
        }
      }
      for (int64_t i = 0; i < n; ++i) Store(sum[i], dx + position * block + j + i);
    }
  }
};

// One element of each window, drawn in proportion to its value. Draws are numbered by the window's place in
// the global batch in Caffe's order, so that they depend on neither ranks nor layout and can be made again in
// Backward.
template <class T>
struct StochasticDraw {
  const T* x;
  PoolWindows windows;
  Philox random;
  int64_t first;  // number of this rank's first window
  // Where in its channel, row * width + column, the element lies that window (oh, ow) of a lane, one sample's
  // channel, takes.
  CREMA_HD int64_t At(int64_t lane, int64_t oh, int64_t ow) const {
    const PoolAxis &h = windows.h, &w = windows.w;
    const T* in = x + lane / windows.block * windows.x_plane() + lane % windows.block;
    T sum = 0;
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih)
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) sum += in[(ih * w.size + iw) * windows.block];
    const int64_t number = first + (lane * h.out + oh) * w.out + ow;
    const T enough = static_cast<T>(random.Uniform(static_cast<uint64_t>(number))) * sum;
    int64_t at = 0;
    sum = 0;
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        at = ih * w.size + iw;
        sum += in[at * windows.block];
        if (sum >= enough) return at;
      }
    }
    return at;
  }
};

template <class T>
struct StochasticPoolForward {
  StochasticDraw<T> draw;
  T* y;
  CREMA_HD void operator()(int64_t lane) const {
    const PoolWindows& windows = draw.windows;
    const int64_t plane = lane / windows.block, j = lane % windows.block;
    const T* in = draw.x + plane * windows.x_plane() + j;
    T* out = y + plane * windows.y_plane() + j;
    for (int64_t o = 0; o < windows.h.out * windows.w.out; ++o)
      out[o * windows.block] = in[draw.At(lane, o / windows.w.out, o % windows.w.out) * windows.block];
  }
};

// The mean of each window's values weighted by themselves: what is drawn, on average.
template <class T>
struct WeightedPool {
  const T* x;
  PoolWindows windows;
  // Sum of values, a little above 0, and of their squares.
  CREMA_HD Pair<T> Sums(const T* in, int64_t oh, int64_t ow) const {
    const PoolAxis &h = windows.h, &w = windows.w;
    Pair<T> sums{T(1.17549435e-38), 0};
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        const T value = in[(ih * w.size + iw) * windows.block];
        sums.first += value, sums.second += value * value;
      }
    }
    return sums;
  }
};

template <class T>
struct WeightedPoolForward {
  WeightedPool<T> pool;
  T* y;
  CREMA_HD void operator()(int64_t lane) const {
    const PoolWindows& windows = pool.windows;
    const int64_t plane = lane / windows.block, j = lane % windows.block;
    T* out = y + plane * windows.y_plane() + j;
    for (int64_t o = 0; o < windows.h.out * windows.w.out; ++o) {
      const T* in = pool.x + plane * windows.x_plane() + j;
      const Pair<T> sums = pool.Sums(in, o / windows.w.out, o % windows.w.out);
      out[o * windows.block] = sums.second / sums.first;
    }
  }
};

template <class T>
struct WeightedPoolBottomGrad {
  WeightedPool<T> pool;
  const T* dy;
  T* dx;
  CREMA_HD void operator()(int64_t lane) const {
    const PoolWindows& windows = pool.windows;
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, plane = lane / block, j = lane % block;
    const T* in = pool.x + plane * windows.x_plane() + j;
    T* in_grad = dx + plane * windows.x_plane() + j;
    for (int64_t i = 0; i < h.size * w.size; ++i) in_grad[i * block] = 0;
    for (int64_t o = 0; o < h.out * w.out; ++o) {
      const int64_t oh = o / w.out, ow = o % w.out;
      const Pair<T> sums = pool.Sums(in, oh, ow);
      const T grad = dy[plane * windows.y_plane() + o * block + j] / sums.first,
              mean = sums.second / sums.first;
      for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
        for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
          const int64_t at = (ih * w.size + iw) * block;
          in_grad[at] += grad * (2 * in[at] - mean);
        }
      }
    }
  }
};

struct Pooling final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 1, 1, method() == PoolingParameter::MAX ? 2 : 1}; }
  // A mask's places would not fit into 16 bits.
  Bits16 bits16() const override {
    const bool plain =
        method() == PoolingParameter::AVE || (method() == PoolingParameter::MAX && spec().top_size() < 2);
    return plain ? Bits16::kFollows : Bits16::kNo;
  }
  Reads BackwardReads() const override {
    return method() == PoolingParameter::AVE ? Reads::kNothing : Reads::kBottom;
  }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const PoolingParameter& options = spec().pooling_param();
    Check(x.axes() == 4, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where an image N x C x H x W was expected");
    windows_ = options.global_pooling() ? WholeImage(x) : Windows(x);
    Check(method() != PoolingParameter::STOCHASTIC || (windows_.h.pad == 0 && windows_.w.pad == 0),
          "pool: STOCHASTIC takes no padding");
    windows_.block = x.block();
    for (PoolAxis* axis : {&windows_.h, &windows_.w}) SetOutput(axis);
    for (Blob* y : top)
      y->Reshape(x.dtype(), {x.num(), x.channels(), windows_.h.out, windows_.w.out}, x.block());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    if (bits16() == Bits16::kNo) return ForwardInReal(ctx, x, top);
    const int64_t positions = y.count() / windows_.block;
    ForBlob(x.dtype(), [&]<class T, class S>() {
      if (method() == PoolingParameter::MAX) {
        ForEachRow(ctx, positions, MaxPoolForward<T, S>{x.data<S>(), y.data<S>(), windows_});
      } else {
        ForEachRow(ctx, positions, AveragePoolForward<T, S>{x.data<S>(), y.data<S>(), windows_});
      }
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    const int64_t lanes = x.num() * x.channels();
    ForBlob(x.dtype(), [&]<class T, class S>() {
      const S *in = x.data<S>(), *dy = y.grad<S>();
      S* dx = x.grad<S>();
      if (method() == PoolingParameter::MAX) {
        ForEachRow(ctx, lanes, PickedPoolBottomGrad<T, S, LargestOfWindow<T, S>>{{in, windows_}, dy, dx});
      } else if (method() == PoolingParameter::AVE) {
        ForEachRow(ctx, x.count() / windows_.block, AveragePoolBottomGrad<T, S>{dy, dx, windows_});
      } else if constexpr (std::is_same_v<T, S>) {
        if (draws()) {
          ForEachRow(ctx, lanes,
                     PickedPoolBottomGrad<T, T, StochasticDraw<T>>{{in, windows_, random_, first_}, dy, dx});
        } else {
          ForEachRow(ctx, lanes, WeightedPoolBottomGrad<T>{{in, windows_}, dy, dx});
        }
      }
    });
  }

 private:
  PoolingParameter::PoolMethod method() const { return spec().pooling_param().pool(); }

  // What is not done in 16 bits.
  void ForwardInReal(const Context& ctx, Blob& x, const Blobs& top) {
    Blob& y = *top[0];
    if (draws()) StartDraws(ctx, x.num(), y.count(1));
    ForReal(x.dtype(), [&]<class T>() {
      const T* in = x.data<T>();
      const int64_t lanes = x.num() * x.channels();
      if (method() == PoolingParameter::MAX) {
        ForEachRow(ctx, y.count() / windows_.block, MaxPoolForward<T, T>{in, y.data<T>(), windows_});
        ForEachRow(ctx, lanes, MaxPoolMask<T>{{in, windows_}, top[1]->data<T>()});
      } else if (draws()) {
        ForEachRow(ctx, lanes, StochasticPoolForward<T>{{in, windows_, random_, first_}, y.data<T>()});
      } else {
        ForEachRow(ctx, lanes, WeightedPoolForward<T>{{in, windows_}, y.data<T>()});
      }
    });
  }
  bool draws() const { return method() == PoolingParameter::STOCHASTIC && phase() == TRAIN; }

  void StartDraws(const Context& ctx, int64_t samples, int64_t windows) {
    const std::vector<int64_t> all = ctx.comm->AllGatherNumber(samples);
    first_ = 0;
    for (int rank = 0; rank < ctx.comm->rank(); ++rank) first_ += all[static_cast<size_t>(rank)] * windows;
    random_ = ctx.Random("pooling/" + name());
  }

  bool RoundsUp() const {
    const PoolingParameter& options = spec().pooling_param();
    const bool up = options.round_mode() == PoolingParameter::CEIL;
    Check(!options.has_ceil_mode() || !options.has_round_mode() || options.ceil_mode() == up,
          "ceil_mode: ", options.ceil_mode() ? "true" : "false", " and round_mode: ", up ? "CEIL" : "FLOOR",
          " contradict each other; expected one of them");
    return options.has_ceil_mode() ? options.ceil_mode() : up;
  }

  PoolWindows WholeImage(const Blob& x) const {
    const PoolingParameter& options = spec().pooling_param();
    Check(!options.has_kernel_size() && !options.has_kernel_h() && !options.has_kernel_w(),
          "global_pooling and a kernel size are both given; expected one of them");
    Check(options.pad() == 0 && options.pad_h() == 0 && options.pad_w() == 0 && options.stride() == 1 &&
              options.stride_h() <= 1 && options.stride_w() <= 1,
          "global_pooling takes neither pad nor stride");
    return {{x.height(), x.height()}, {x.width(), x.width()}};
  }

  PoolWindows Windows(const Blob& x) const {
    const PoolingParameter& o = spec().pooling_param();
    Check(
        o.has_kernel_size() != (o.has_kernel_h() && o.has_kernel_w()) && o.has_kernel_h() == o.has_kernel_w(),
        "its window is not given clearly; expected kernel_size, or kernel_h and kernel_w");
    Check(o.has_stride_h() == o.has_stride_w() && !(o.has_stride() && o.has_stride_h()),
          "its stride is not given clearly; expected stride, or stride_h and stride_w");
    Check(o.has_pad_h() == o.has_pad_w() && !(o.has_pad() && o.has_pad_h()),
          "its padding is not given clearly; expected pad, or pad_h and pad_w");
    const auto pick = [](bool pair, uint32_t of_pair, uint32_t both) {
      return int64_t{pair ? of_pair : both};
    };
    const PoolAxis h{x.height(), pick(o.has_kernel_h(), o.kernel_h(), o.kernel_size()),
                     pick(o.has_stride_h(), o.stride_h(), o.stride()),
                     pick(o.has_pad_h(), o.pad_h(), o.pad())};
    const PoolAxis w{x.width(), pick(o.has_kernel_w(), o.kernel_w(), o.kernel_size()),
                     pick(o.has_stride_w(), o.stride_w(), o.stride()),
                     pick(o.has_pad_w(), o.pad_w(), o.pad())};
    return {h, w};
  }

  void SetOutput(PoolAxis* axis) const {
    Check(axis->kernel > 0 && axis->stride > 0 && axis->pad < axis->kernel, "kernel ", axis->kernel,
          ", stride ", axis->stride, ", pad ", axis->pad,
          "; expected positive kernel and stride and a pad below the kernel");
    const int64_t room = axis->size + 2 * axis->pad - axis->kernel;
    Check(axis->size > 0 && room >= 0, "a window of ", axis->kernel, " does not fit in ", axis->size,
          " pixels padded by ", axis->pad);
    axis->out = (room + (RoundsUp() ? axis->stride - 1 : 0)) / axis->stride + 1;
    // The last window starts inside the image or the padding before it.
    if ((axis->out - 1) * axis->stride >= axis->size + axis->pad) --axis->out;
  }

  PoolWindows windows_;
  Philox random_;      // of the last Forward
  int64_t first_ = 0;  // number of this rank's first window in the global batch
};

CREMA_REGISTER_LAYER(Pooling, "pooling_param");

}  // namespace
}  // namespace crema
