// Concat: bottoms put one after another along an axis.
#include "crema/layer.hpp"
#include "net/axis_part.hpp"

namespace crema {
namespace {

struct Concat final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, -1, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return axis() == 0 ? Layouts::kSame : Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    Check(!options().has_axis() || !options().has_concat_dim(),
          "axis and concat_dim, its older spelling, are both given");
    const Blob& first = *bottom[0];
    const int64_t along = first.Axis(axis());
    Shape shape = first.shape();
    int64_t& size = shape[static_cast<size_t>(along)];
    parts_.clear();
    for (const Blob* x : bottom) {
      Shape like = x->shape();
      if (like.size() == shape.size()) like[static_cast<size_t>(along)] = first.dim(along);
      Check(like == first.shape() && x->dtype() == first.dtype(), "bottom '", x->name(), "' (",
            ToString(x->shape()), " ", NameOf(x->dtype()), ") and '", first.name(), "' (",
            ToString(first.shape()), " ", NameOf(first.dtype()), ") differ elsewhere than in axis ", along);
      const int64_t begin = parts_.empty() ? 0 : parts_.back().first + parts_.back().part;
      parts_.push_back({first.count(0, along), 0, begin, x->dim(along), first.count(along + 1)});
      size = begin + x->dim(along);
    }
    for (AxisPart& part : parts_) part.whole = size;
    top[0]->Reshape(first.dtype(), shape, first.block());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    for (size_t k = 0; k < bottom.size(); ++k) CopyPartIn(ctx, parts_[k], bottom[k]->data(), &top[0]->data());
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    for (size_t k = 0; k < bottom.size(); ++k) {
      if (bottom[k]->needs_grad()) CopyPartOut(ctx, parts_[k], top[0]->grad(), &bottom[k]->grad());
    }
  }

 private:
  const ConcatParameter& options() const { return spec().concat_param(); }
  int64_t axis() const {
    return options().has_concat_dim() ? int64_t{options().concat_dim()} : options().axis();
  }

  std::vector<AxisPart> parts_;
};

CREMA_REGISTER_LAYER(Concat, "concat_param");

}  // namespace
}  // namespace crema
