// Squeeze: the same elements without axes of size 1: those named, or all.
#include "crema/layer.hpp"

#include <set>

namespace crema {
namespace {

struct Squeeze final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    std::set<int64_t> named;
    for (int64_t axis : spec().squeeze_param().axis()) {
      named.insert(x.Axis(axis));
      Check(x.dim(axis) == 1, "axis ", axis, " of '", x.name(), "' (", ToString(x.shape()), ") has size ",
            x.dim(axis), "; only axes of size 1 can be removed");
    }
    Shape shape;
    for (int64_t axis = 0; axis < x.axes(); ++axis) {
      if (named.empty() ? x.dim(axis) != 1 : named.count(axis) == 0) shape.push_back(x.dim(axis));
    }
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ctx.device->Copy(top[0]->data().raw(), bottom[0]->data().raw(), bottom[0]->bytes());
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ctx.device->Copy(bottom[0]->grad().raw(), top[0]->grad().raw(), bottom[0]->bytes());
  }
};

CREMA_REGISTER_LAYER(Squeeze, "squeeze_param");

}  // namespace
}  // namespace crema
