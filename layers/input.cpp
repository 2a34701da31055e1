// Input: tops that the caller fills, of the shapes given.
#include "crema/layer.hpp"

namespace crema {
namespace {

struct Input final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {0, 0, 1, -1}; }

  void Reshape(const Context& ctx, const Blobs&, const Blobs& top) override {
    const auto& shapes = spec().input_param().shape();
    Check(shapes.size() == 1 || shapes.size() == static_cast<int>(top.size()), "it has ", shapes.size(),
          " shapes for ", top.size(), " tops; expected one each or one for all");
    for (size_t i = 0; i < top.size(); ++i) {
      const BlobShape& shape = shapes[shapes.size() == 1 ? 0 : static_cast<int>(i)];
      top[i]->Reshape(ctx.real, Shape(shape.dim().begin(), shape.dim().end()));
    }
  }
  void Forward(const Context&, const Blobs&, const Blobs&) override {}
};

CREMA_REGISTER_LAYER(Input, "input_param");

}  // namespace
}  // namespace crema
