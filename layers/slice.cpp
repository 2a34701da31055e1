// Slice: a bottom cut along an axis, at slice_point or into equal parts.
#include "crema/layer.hpp"
#include "net/axis_part.hpp"

namespace crema {
namespace {

struct Slice final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 1, 1, -1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return axis() == 0 ? Layouts::kSame : Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    Check(!options().has_axis() || !options().has_slice_dim(),
          "axis and slice_dim, its older spelling, are both given");
    const Blob& x = *bottom[0];
    const int64_t along = x.Axis(axis()), size = x.dim(along);
    const std::vector<int64_t> cuts = Cuts(size, static_cast<int64_t>(top.size()));
    parts_.clear();
    for (size_t k = 0; k < top.size(); ++k) {
      Check(cuts[k] < cuts[k + 1], "slice_point cuts axis ", along, " of ", size, " from ", cuts[k], " to ",
            cuts[k + 1], "; expected rising numbers between 1 and ", size - 1);
      Shape shape = x.shape();
      shape[static_cast<size_t>(along)] = cuts[k + 1] - cuts[k];
      parts_.push_back({x.count(0, along), size, cuts[k], cuts[k + 1] - cuts[k], x.count(along + 1)});
      top[k]->Reshape(x.dtype(), shape, x.block());
    }
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    for (size_t k = 0; k < top.size(); ++k) CopyPartOut(ctx, parts_[k], bottom[0]->data(), &top[k]->data());
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    for (size_t k = 0; k < top.size(); ++k) CopyPartIn(ctx, parts_[k], top[k]->grad(), &bottom[0]->grad());
  }

 private:
  const SliceParameter& options() const { return spec().slice_param(); }
  int64_t axis() const {
    return options().has_slice_dim() ? int64_t{options().slice_dim()} : options().axis();
  }

  // Where the parts begin, and the end of the last.
  std::vector<int64_t> Cuts(int64_t size, int64_t parts) const {
    std::vector<int64_t> cuts = {0};
    if (options().slice_point_size() > 0) {
      Check(options().slice_point_size() == parts - 1, "it has ", options().slice_point_size(),
            " slice_points for ", parts, " tops; expected ", parts - 1);
      cuts.insert(cuts.end(), options().slice_point().begin(), options().slice_point().end());
    } else {
      Check(size % parts == 0, "an axis of ", size, " cannot be cut into ", parts, " equal parts");
      for (int64_t k = 1; k < parts; ++k) cuts.push_back(k * (size / parts));
    }
    cuts.push_back(size);
    return cuts;
  }

  std::vector<AxisPart> parts_;
};

CREMA_REGISTER_LAYER(Slice, "slice_param");

}  // namespace
}  // namespace crema
