// Silence: takes blobs that nothing else reads, so that they do not show up as outputs of the net.
#include "crema/layer.hpp"

namespace crema {
namespace {

struct Silence final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, -1, 0, 0}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  bool TakesClassPlacement() const override { return true; }

  void Reshape(const Context&, const Blobs&, const Blobs&) override {}
  void Forward(const Context&, const Blobs&, const Blobs&) override {}
  void Backward(const Context&, const Blobs&, const Blobs& bottom) override {
    for (Blob* x : bottom) {
      if (x->needs_grad()) x->grad().Zero();
    }
  }
};

CREMA_REGISTER_LAYER(Silence);

}  // namespace
}  // namespace crema
