// Pooling: maximum or average over windows of an image.
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

template <class T>
struct MaxPoolForward {
  const T* x;
  T* y;
  PoolWindows windows;
  CREMA_HD void operator()(int64_t position) const {  // plane and place in the output
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, oh = position / w.out % h.out, ow = position % w.out;
    const T* plane = x + position / (h.out * w.out) * windows.x_plane();
    T* out = y + position * block;
    for (int64_t j = 0; j < block; ++j) out[j] = plane[(h.first(oh) * w.size + w.first(ow)) * block + j];
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        const T* in = plane + (ih * w.size + iw) * block;
        for (int64_t j = 0; j < block; ++j) out[j] = in[j] > out[j] ? in[j] : out[j];
      }
    }
  }
};

// Each window's gradient goes to the first of its largest values.
template <class T>
struct MaxPoolBottomGrad {
  const T *x, *dy;
  T* dx;
  PoolWindows windows;
  CREMA_HD void operator()(int64_t lane) const {  // one sample's channel
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, plane = lane / block, j = lane % block;
    const T* in = x + plane * windows.x_plane() + j;
    const T* out_grad = dy + plane * windows.y_plane() + j;
    T* in_grad = dx + plane * windows.x_plane() + j;
    for (int64_t i = 0; i < h.size * w.size; ++i) in_grad[i * block] = 0;
    for (int64_t oh = 0; oh < h.out; ++oh) {
      for (int64_t ow = 0; ow < w.out; ++ow) {
        in_grad[Largest(in, oh, ow)] += out_grad[(oh * w.out + ow) * block];
      }
    }
  }
  CREMA_HD int64_t Largest(const T* in, int64_t oh, int64_t ow) const {
    const PoolAxis &h = windows.h, &w = windows.w;
    int64_t best = (h.first(oh) * w.size + w.first(ow)) * windows.block;
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        const int64_t at = (ih * w.size + iw) * windows.block;
        if (in[at] > in[best]) best = at;
      }
    }
    return best;
  }
};

template <class T>
struct AveragePoolForward {
  const T* x;
  T* y;
  PoolWindows windows;
  CREMA_HD void operator()(int64_t position) const {
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, oh = position / w.out % h.out, ow = position % w.out;
    const T* plane = x + position / (h.out * w.out) * windows.x_plane();
    T* out = y + position * block;
    for (int64_t j = 0; j < block; ++j) out[j] = 0;
    for (int64_t ih = h.first(oh); ih < h.last(oh); ++ih) {
      for (int64_t iw = w.first(ow); iw < w.last(ow); ++iw) {
        const T* in = plane + (ih * w.size + iw) * block;
        for (int64_t j = 0; j < block; ++j) out[j] += in[j];
      }
    }
    for (int64_t j = 0; j < block; ++j) out[j] /= static_cast<T>(h.length(oh) * w.length(ow));
  }
};

template <class T>
struct AveragePoolBottomGrad {
  const T* dy;
  T* dx;
  PoolWindows windows;
  CREMA_HD void operator()(int64_t position) const {  // plane and place in the input
    const PoolAxis &h = windows.h, &w = windows.w;
    const int64_t block = windows.block, ih = position / w.size % h.size, iw = position % w.size;
    const T* plane = dy + position / (h.size * w.size) * windows.y_plane();
    T* in_grad = dx + position * block;
    for (int64_t j = 0; j < block; ++j) in_grad[j] = 0;
    for (int64_t oh = h.first_over(ih); oh < h.last_over(ih); ++oh) {
      for (int64_t ow = w.first_over(iw); ow < w.last_over(iw); ++ow) {
        const T* out_grad = plane + (oh * w.out + ow) * block;
        const T divisor = static_cast<T>(h.length(oh) * w.length(ow));
        for (int64_t j = 0; j < block; ++j) in_grad[j] += out_grad[j] / divisor;
      }
    }
  }
};

struct Pooling final : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return is_max() ? Reads::kBottom : Reads::kNothing; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const PoolingParameter& options = spec().pooling_param();
    Check(options.pool() != PoolingParameter::STOCHASTIC,
          "pool: STOCHASTIC is not supported; MAX and AVE are");
    Check(x.axes() == 4, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where an image N x C x H x W was expected");
    windows_ = options.global_pooling() ? WholeImage(x) : Windows(x);
    windows_.block = x.block();
    for (PoolAxis* axis : {&windows_.h, &windows_.w}) SetOutput(axis);
    top[0]->Reshape(x.dtype(), {x.num(), x.channels(), windows_.h.out, windows_.w.out}, x.block());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      const int64_t positions = y.count() / windows_.block;
      if (is_max()) {
        ForEachRow(ctx, positions, MaxPoolForward<T>{x.data<T>(), y.data<T>(), windows_});
      } else {
        ForEachRow(ctx, positions, AveragePoolForward<T>{x.data<T>(), y.data<T>(), windows_});
      }
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      if (is_max()) {
        ForEachRow(ctx, x.num() * x.channels(),
                   MaxPoolBottomGrad<T>{x.data<T>(), y.grad<T>(), x.grad<T>(), windows_});
      } else {
        ForEachRow(ctx, x.count() / windows_.block,
                   AveragePoolBottomGrad<T>{y.grad<T>(), x.grad<T>(), windows_});
      }
    });
  }

 private:
  bool is_max() const { return spec().pooling_param().pool() == PoolingParameter::MAX; }

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
};

CREMA_REGISTER_LAYER(Pooling, "pooling_param");

}  // namespace
}  // namespace crema
