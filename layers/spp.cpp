// SPP: spatial pyramid pooling: level l pools the image in 2^l x 2^l bins; all levels side by side (He et
// al., arXiv 1406.4729).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/axis_part.hpp"

namespace crema {
namespace {

template <class T, class S>
struct SPPAddGrad {
  const S* level;
  S* dx;
  CREMA_HD void operator()(int64_t i) const {
    Store(static_cast<T>(dx[i]) + static_cast<T>(level[i]), dx + i);
  }
};

// A Pooling layer and where its output lies in the top.
struct SPPLevel {
  std::unique_ptr<Layer> pooling;
  std::unique_ptr<Blob> x, y;
  AxisPart part;
};

struct SPP final : Layer {
  using Layer::Layer;
  // As its Pooling layers.
  Bits16 bits16() const override {
    return options().pool() == SPPParameter::STOCHASTIC ? Bits16::kNo : Bits16::kFollows;
  }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override {
    return options().pool() == SPPParameter::AVE ? Reads::kNothing : Reads::kBottom;
  }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() == 4 && x.height() > 0 && x.width() > 0, "bottom '", x.name(), "' is ",
          ToString(x.shape()), " where an image N x C x H x W was expected");
    Check(options().pyramid_height() >= 1 && options().pyramid_height() <= 30, "pyramid_height is ",
          options().pyramid_height(), "; expected 1 to 30");
    levels_.clear();
    int64_t numbers = 0;  // of each sample
    for (uint32_t l = 0; l < options().pyramid_height(); ++l) {
      levels_.push_back(NewLevel(ctx, x, l));
      numbers += levels_.back().y->count(1);
    }
    int64_t first = 0;
    for (SPPLevel& level : levels_) {
      level.part = {x.num(), numbers, first, level.y->count(1), 1};
      first += level.part.part;
    }
    // One level alone keeps its shape in Caffe.
    top[0]->Reshape(x.dtype(), levels_.size() == 1 ? levels_[0].y->shape() : Shape{x.num(), numbers});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    for (SPPLevel& level : levels_) {
      level.x->data() = bottom[0]->data();
      level.y->data() = Tensor(*ctx.device, level.y->dtype(), level.y->shape());
      level.pooling->Forward(ctx, {level.x.get()}, {level.y.get()});
      CopyPartIn(ctx, level.part, level.y->data(), &top[0]->data());
      level.y->data() = Tensor();
    }
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    for (size_t l = 0; l < levels_.size(); ++l) {
      SPPLevel& level = levels_[l];
      level.x->data() = x.data();
      level.x->grad() = l == 0 ? x.grad() : Tensor(*ctx.device, x.dtype(), x.shape());
      level.y->grad() = Tensor(*ctx.device, level.y->dtype(), level.y->shape());
      CopyPartOut(ctx, level.part, top[0]->grad(), &level.y->grad());
      level.pooling->Backward(ctx, {level.y.get()}, {level.x.get()});
      ForBlob(x.dtype(), [&]<class T, class S>() {
        if (l > 0) ForEach(ctx, x.count(), SPPAddGrad<T, S>{level.x->grad<S>(), x.grad<S>()});
      });
      level.x->grad() = level.y->grad() = Tensor();
    }
  }

 private:
  const SPPParameter& options() const { return spec().spp_param(); }

  SPPLevel NewLevel(const Context& ctx, const Blob& x, uint32_t l) const {
    LayerParameter pooling;
    pooling.set_name(Concat(name(), "/level", l));
    pooling.set_type("Pooling");
    pooling.set_phase(phase());
    PoolingParameter& window = *pooling.mutable_pooling_param();
    window.set_pool(static_cast<PoolingParameter::PoolMethod>(options().pool()));
    // Kernels as far apart as they are wide, and padding to share what they cover too much.
    const int64_t bins = int64_t{1} << l;
    const auto kernel = [&](int64_t size) { return static_cast<uint32_t>((size + bins - 1) / bins); };
    const auto pad = [&](int64_t size) {
      return static_cast<uint32_t>((kernel(size) * bins - size + 1) / 2);
    };
    window.set_kernel_h(kernel(x.height())), window.set_kernel_w(kernel(x.width()));
    window.set_stride_h(kernel(x.height())), window.set_stride_w(kernel(x.width()));
    if (pad(x.height()) > 0 || pad(x.width()) > 0) {
      window.set_pad_h(pad(x.height())), window.set_pad_w(pad(x.width()));
    }
    SPPLevel level{NewLayer(pooling), std::make_unique<Blob>(x.name()), std::make_unique<Blob>(name()), {}};
    level.x->ReshapeLike(x);
    level.x->set_needs_grad(true);
    level.pooling->Reshape(ctx, {level.x.get()}, {level.y.get()});
    return level;
  }

  std::vector<SPPLevel> levels_;
};

CREMA_REGISTER_LAYER(SPP, "spp_param");

}  // namespace
}  // namespace crema
