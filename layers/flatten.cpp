// Flatten: axes `axis` to `end_axis` made into one.
#include "crema/layer.hpp"

namespace crema {
namespace {

struct Flatten final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const int64_t first = x.Axis(spec().flatten_param().axis());
    const int64_t last = x.Axis(spec().flatten_param().end_axis());
    Check(first <= last, "axis ", first, " comes after end_axis ", last);
    Shape shape(x.shape().begin(), x.shape().begin() + first);
    shape.push_back(x.count(first, last + 1));
    shape.insert(shape.end(), x.shape().begin() + last + 1, x.shape().end());
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ctx.device->Copy(top[0]->data().raw(), bottom[0]->data().raw(), bottom[0]->bytes());
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ctx.device->Copy(bottom[0]->grad().raw(), top[0]->grad().raw(), bottom[0]->bytes());
  }
};

CREMA_REGISTER_LAYER(Flatten, "flatten_param");

}  // namespace
}  // namespace crema
