// Reshape: the same elements in another shape; 0 keeps the size of an axis, one -1 is inferred.
#include "crema/layer.hpp"

namespace crema {
namespace {

struct ReshapeLayer final : Layer {  // `Reshape` would be its constructor's name
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const ReshapeParameter& options = spec().reshape_param();
    // A negative axis counts from the end, -1 being behind the last.
    const int64_t first = options.axis() >= 0 ? options.axis() : x.axes() + options.axis() + 1;
    const int64_t end = options.num_axes() == -1 ? x.axes() : first + options.num_axes();
    Check(first >= 0 && first <= end && end <= x.axes(), "axis ", options.axis(), " and num_axes ",
          options.num_axes(), " do not name axes of '", x.name(), "' (", ToString(x.shape()), ")");
    Shape shape(x.shape().begin(), x.shape().begin() + first);
    int64_t inferred = -1;
    for (int k = 0; k < options.shape().dim_size(); ++k) {
      int64_t size = options.shape().dim(k);
      Check(size >= -1, "dim is ", size, "; expected -1 or more");
      Check(size != 0 || first + k < x.axes(), "dim ", k, " of 0 has no axis of '", x.name(), "' (",
            ToString(x.shape()), ") to keep");
      Check(size != -1 || inferred == -1, "two dims are -1; at most one can be inferred");
      if (size == -1) inferred = static_cast<int64_t>(shape.size());
      shape.push_back(size == 0 ? x.dim(first + k) : size == -1 ? 1 : size);
    }
    shape.insert(shape.end(), x.shape().begin() + end, x.shape().end());
    if (inferred >= 0) {
      const int64_t known = CountOf(shape);
      Check(known > 0 && x.count() % known == 0, "the ", x.count(), " elements of '", x.name(), "' (",
            ToString(x.shape()), ") cannot be divided into ", known);
      shape[static_cast<size_t>(inferred)] = x.count() / known;
    }
    Check(CountOf(shape) == x.count(), "'", x.name(), "' of ", ToString(x.shape()), " cannot become ",
          ToString(shape));
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ctx.device->Copy(top[0]->data().raw(), bottom[0]->data().raw(), bottom[0]->bytes());
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ctx.device->Copy(bottom[0]->grad().raw(), top[0]->grad().raw(), bottom[0]->bytes());
  }
};

const LayerRegistration registration_of_Reshape({"Reshape",
                                                 {"reshape_param"},
                                                 [](const LayerParameter& spec) -> std::unique_ptr<Layer> {
                                                   return std::make_unique<ReshapeLayer>(spec);
                                                 }});

}  // namespace
}  // namespace crema
