// Clip: y = x held within min and max.
#include "crema/parallel.hpp"
#include "net/elementwise.hpp"

namespace crema {
namespace {

template <class T>
struct ClipCurve {
  T min, max;
  static ClipCurve Of(const LayerParameter& spec) {
    return {static_cast<T>(spec.clip_param().min()), static_cast<T>(spec.clip_param().max())};
  }
  CREMA_HD T Value(T x) const { return x < min ? min : x > max ? max : x; }
  CREMA_HD T Slope(T x) const { return x >= min && x <= max ? T(1) : T(0); }
};

struct Clip final : Elementwise<ClipCurve, Reads::kBottom> {
  using Elementwise::Elementwise;
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const ClipParameter& range = spec().clip_param();
    Check(range.has_min() && range.has_max(), "clip_param needs both min and max");
    Check(range.min() <= range.max(), "min is ", range.min(), " and max ", range.max(),
          "; expected min not above max");
    Elementwise::Reshape(ctx, bottom, top);
  }
};

CREMA_REGISTER_LAYER(Clip, "clip_param");

}  // namespace
}  // namespace crema
