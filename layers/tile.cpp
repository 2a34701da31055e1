// Tile: the bottom `tiles` times along an axis.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Runs of `length` elements, each `tiles` times.
template <class S>
struct TileForward {
  const S* x;
  S* y;
  int64_t length, tiles;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i / (length * tiles) * length + i % length]; }
};

template <class T, class S>
struct TileBottomGrad {
  const S* dy;
  S* dx;
  int64_t length, tiles;
  CREMA_HD void operator()(int64_t i) const {
    const S* first = dy + i / length * length * tiles + i % length;
    T sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += static_cast<T>(first[tile * length]);
    Store(sum, dx + i);
  }
};

struct Tile final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const int64_t axis = x.Axis(spec().tile_param().axis());
    Check(tiles() > 0, "tiles is ", tiles(), "; expected at least 1");
    Shape shape = x.shape();
    shape[static_cast<size_t>(axis)] *= tiles();
    length_ = x.count(axis);
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, y.count(), TileForward<S>{x.data<S>(), y.data<S>(), length_, tiles()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.count(), TileBottomGrad<T, S>{y.grad<S>(), x.grad<S>(), length_, tiles()});
    });
  }

 private:
  int64_t tiles() const { return spec().tile_param().tiles(); }

  int64_t length_ = 0;
};

CREMA_REGISTER_LAYER(Tile, "tile_param");

}  // namespace
}  // namespace crema
